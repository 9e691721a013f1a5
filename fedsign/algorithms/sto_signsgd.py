"""Stochastic signs: MV-sto-signSGD(-SIM) and its federated form, and Sto-SignSGD.

Sun et al., ICML 2023, Algorithms 2 and 3, with the operator of Jin et al., 2020; Safaryan & Richtárik, ICML 2021.
Uplink d bits; downlink 32 d as simulated here (the model), d with a majority vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive
from fedsign.algorithms.signsgd import SignDescent
from fedsign.options import Momentum, NonNegativeInt, Positive, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


def sto_sign(v: Tensor, R: float | Tensor, codec: Any, streams: Streams) -> list[Tensor]:
    """Rows of S_R(v) [n, d]: +1 with probability clip(1/2 + v/(2R), 0, 1), else −1 (equation (6)).

    Drawn as Sign(v + R U) with U uniform on [−1, 1]: the same law. It is Sign(v) for R → 0, and a fair coin where v and
    R are 0. R is a number, or one per row, [n, 1]; the codec is of signs. Raises PayloadError on a value not finite.
    """
    U = 2 * streams.uniform("sto_sign", v.shape[1]) - 1
    return codec.encode(v + R * U, streams)


@options
class MVStoSignSGD(SignDescent):
    """s = Sign[Σ_i S_R(m^t(i))]."""

    title: ClassVar[str] = "MV-sto-signSGD"

    R: Positive  # R; a coordinate above it has no noise left
    local_steps: NonNegativeInt  # K of the federated form: the gradient is taken where K local SGD steps end; 0: at y^t

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """K SGD steps z ← z − η ∇f_i(z; ξ) from y^t, one more gradient at their end, the momentum, its random sign."""
        y = receive(downlink["y"])  # z^{t,0}(i)
        if self.local_steps:
            y = local.train(y, steps=self.local_steps).y  # y^t(i) = z^{t,K}(i)
        g = local.gradient(y)
        m = self.theta * state["m"] + (1 - self.theta) * g
        local.log("clipped_fraction", (m.abs() > self.R).float().mean(dim=1))
        return {"s": sto_sign(m, self.R, self._codec(), streams)}, {"m": m}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Step along the vote."""
        s = self._codec().mean(uplink["s"], round.d)
        return self.descend(server, self.vote(s, round), round)

    def message(self, server: State, round: Round) -> Message:
        """Signs."""
        return {"s": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d: a random sign has no zero."""
        return layout.coded

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.Sign("random"), self.entropy_coding)


@options
class StoSignSGD(Algorithm):
    """v_i ← θ v_i + (1−θ) g_i, x ← x − γ 1/n Σ s_i with P(s_ij = +1) = 1/2 + v_ij / (2 ‖v_i‖_2)."""

    title: ClassVar[str] = "Sto-SignSGD"
    client_state: ClassVar[tuple[str, ...]] = ("v",)

    server_lr: Positive  # γ
    theta: Momentum  # θ
    entropy_coding: bool

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """One stochastic gradient, the momentum, and its random sign; the norm stays with the client."""
        g = local.gradient(receive(downlink["x"]))
        v = self.theta * state["v"] + (1 - self.theta) * g
        return {"s": sto_sign(v, v.norm(dim=1, keepdim=True), self._codec(), streams)}, {"v": v}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """Step along the mean sign."""
        return {"x": server["x"] - self.server_lr * self._codec().mean(uplink["s"], round.d)}

    def message(self, server: State, round: Round) -> Message:
        """Signs."""
        return {"s": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d: a random sign has no zero."""
        return layout.coded

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.Sign("random"), self.entropy_coding)
