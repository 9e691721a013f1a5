"""FedSMUMC: FedSMU with a server momentum that is sent to the clients (Lu et al., ICML 2025, Appendix D, Algorithm 2).

Uplink 33 d bits, downlink 64 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, receive, send
from fedsign.options import Momentum, NonNegative, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink


@options
class FedSMUMC(Algorithm):
    """The momentum of every participant starts from the server's M_t, so that none is stale."""

    title: ClassVar[str] = "FedSMUMC"

    beta_1: Momentum
    beta_2: Momentum
    gamma_1: Positive
    gamma_2: NonNegative
    sign_zero: SignZero
    entropy_coding: bool  # of the signs

    def init(self, x: Tensor, layout: Layout) -> State:
        """x_1 and M_1 = 0."""
        return {"x": x, "M": 0 * x}

    def broadcast(self, server: State) -> Downlink:
        """x_t and M_t."""
        return send(x=server["x"], M=server["M"])

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Local SGD, the sign of the interpolated momentum, and the new momentum in full."""
        x, M = receive(downlink["x"]), receive(downlink["M"])
        g = local.train(x).y - x  # g_t^i = y_{t,K}^i − y_{t,0}^i
        u = self.beta_1 * M + (1 - self.beta_1) * g  # u_t^i, before Sign
        m = self.beta_2 * M + (1 - self.beta_2) * g  # m_t^i
        local.log("zero_fraction", (u == 0).float().mean(dim=1))
        return {"u": self._codec().encode(u, streams), "m": codecs.Float32().encode(m)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """M_{t+1} = 1/n Σ m_t^i and x_{t+1} = x_t + γ_1 (1/n Σ u_t^i − γ_2 x_t)."""
        x = server["x"]
        M = codecs.Float32().mean(uplink["m"], round.d)
        u = self._codec().mean(uplink["u"], round.d)
        return {"x": x + self.gamma_1 * (u - self.gamma_2 * x), "M": M}

    def message(self, server: State, round: Round) -> Message:
        """The signs and the momentum."""
        return {"u": self._codec(), "m": codecs.Float32()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """33 d, or 34 d where Sign(0) = 0."""
        return layout.coded * (34 if self.sign_zero == "zero" else 33)

    def _codec(self) -> Any:
        return codecs.entropy_coded(codecs.sign(self.sign_zero), self.entropy_coding)
