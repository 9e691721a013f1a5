"""SIGNSGD with a mean or a majority vote, and its momentum form (Signum, SIGNSGD-SIM).

Bernstein et al., ICML 2018 and ICLR 2019; Sun et al., ICML 2023 (momentum and look-ahead). One stochastic gradient per
client and round; no local steps. Uplink d bits, downlink 32 d as simulated here (the model), d with a majority vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, dropped, receive, send
from fedsign.options import Fraction, Momentum, NonNegative, Positive, PositiveInt, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class SignDescent(Algorithm):
    """x^{t+1} = x^t − γ s with s of momenta m^t(i) = θ m^{t−1}(i) + (1−θ) g, whose gradients are taken from y^t."""

    client_state: ClassVar[tuple[str, ...]] = ("m",)

    server_lr: Positive  # γ
    server_lr_decay: Fraction  # γ of round t is server_lr · server_lr_decay^(t−1),
    server_lr_drops: tuple[PositiveInt, ...]  # a tenth of it after each of these rounds
    theta: Momentum  # θ; 0 is no momentum
    alpha: NonNegative  # α of the look-ahead y^t = x^t + α (x^t − x^{t−1})
    sign_zero: SignZero
    entropy_coding: bool

    def init(self, x: Tensor, layout: Layout) -> State:
        """x^0 and x^{−1} = x^0."""
        return {"x": x, "previous": x}

    def broadcast(self, server: State) -> Downlink:
        """y^t, which is x^t for α = 0."""
        return send(y=server["x"] + self.alpha * (server["x"] - server["previous"]))

    def descend(self, server: State, s: Tensor, round: Round) -> State:
        """x^{t+1} = x^t − γ s."""
        gamma = dropped(self.server_lr, self.server_lr_drops, round.t) * self.server_lr_decay ** (round.t - 1)
        return {"x": server["x"] - gamma * s, "previous": server["x"]}

    def vote(self, mean: Tensor, round: Round) -> Tensor:
        """Sign[Σ_i s_i], given the mean of the s_i; ties of an even cohort are what `sign_zero` says."""
        return codecs.signs(mean[None], self.sign_zero, round.streams)[0]


@options
class SignSGD(SignDescent):
    """s = mean or sign of Σ_i Sign(m^t(i))."""

    title: ClassVar[str] = "SIGNSGD"

    aggregate: Literal["mean", "majority"]

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """One stochastic gradient, the momentum, and its sign."""
        g = local.gradient(receive(downlink["y"]))
        m = self.theta * state["m"] + (1 - self.theta) * g
        local.log("zero_fraction", (m == 0).float().mean(dim=1))
        return {"s": self._codec().encode(m, streams)}, {"m": m}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Step along the mean sign or the vote."""
        s = self._codec().mean(uplink["s"], round.d)
        return self.descend(server, self.vote(s, round) if self.aggregate == "majority" else s, round)

    def message(self, server: State, round: Round) -> Message:
        """Signs."""
        return {"s": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d, or 2 d where Sign(0) = 0."""
        return layout.coded * (2 if self.sign_zero == "zero" else 1)

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.sign(self.sign_zero), self.entropy_coding)
