"""SIGNSGD with a mean or a majority vote, and its momentum form (Signum, SIGNSGD-SIM).

Bernstein et al., ICML 2018 and ICLR 2019; Sun et al., ICML 2023 (momentum and look-ahead). One stochastic gradient per
client and round; no local steps. Uplink d bits, downlink 32 d as simulated here (the model), d with a majority vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.options import Momentum, NonNegative, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class SignSGD(Algorithm):
    """m_i ← θ m_i + (1−θ) g_i, x ← x − γ · mean or sign of Σ_i Sign(m_i)."""

    title: ClassVar[str] = "SIGNSGD"
    client_state: ClassVar[tuple[str, ...]] = ("m",)

    server_lr: Positive  # γ
    aggregate: Literal["mean", "majority"]
    theta: Momentum  # θ; 0 is SIGNSGD
    alpha: NonNegative  # α of the look-ahead y_t = x_t + α (x_t − x_{t−1}); the gradient is taken at y_t
    sign_zero: SignZero

    def init(self, x: Tensor, layout: Layout) -> State:
        """x_0 and x_{−1} = x_0."""
        return {"x": x, "previous": x}

    def broadcast(self, server: State) -> Downlink:
        """y_t, which is x_t for α = 0."""
        return send(y=server["x"] + self.alpha * (server["x"] - server["previous"]))

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """One stochastic gradient, the momentum, and its sign."""
        g = local.gradient(receive(downlink["y"]))
        m = self.theta * state["m"] + (1 - self.theta) * g
        local.log("zero_fraction", (m == 0).float().mean(dim=1))
        return {"s": codecs.sign(self.sign_zero).encode(m, streams)}, {"m": m}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Step along the mean sign or the vote."""
        x = server["x"]
        s = codecs.sign(self.sign_zero).mean(uplink["s"], round.d)
        if self.aggregate == "majority":
            s = codecs.signs(s[None], self.sign_zero, round.streams)[0]
        return {"x": x - self.server_lr * s, "previous": x}

    def message(self, server: State, round: Round) -> Message:
        """Signs."""
        return {"s": codecs.sign(self.sign_zero)}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d, or 2 d where Sign(0) = 0."""
        return layout.coded * (2 if self.sign_zero == "zero" else 1)
