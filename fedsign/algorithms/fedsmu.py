"""FedSMU: federated learning through symbolic model updates (Lu et al., ICML 2025), Algorithm 1.

Uplink d bits, downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, need_symbols, receive
from fedsign.options import Fraction, Momentum, NonNegative, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class FedSMU(Algorithm):
    """Lion split in two: momentum and sign on the clients, step and weight decay on the server."""

    title: ClassVar[str] = "FedSMU"
    client_state: ClassVar[tuple[str, ...]] = ("m",)  # m_0^i = 0

    beta_1: Momentum
    beta_2: Momentum
    gamma_1: Positive
    gamma_2: NonNegative
    gamma_1_decay: Fraction  # γ_1 of round t is gamma_1 · gamma_1_decay^(t−1): in the released code, not in the paper
    aggregate: Literal["mean", "majority"]  # majority is FedSMU-MV (Appendix C.9)
    bits: Literal[1, 3, 8, 32]  # Table 9; 32 is "full-precision" of Table 12
    sign_zero: SignZero
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Floats have no symbols to code."""
        need_symbols(self.entropy_coding, "bits", self.bits, 1, 3, 8)

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Local SGD, then the sign of the interpolated momentum."""
        x, m = receive(downlink["x"]), state["m"]
        g = local.train(x).y - x  # g_t^i = y_{t,K}^i − y_{t,0}^i
        u = self.beta_1 * m + (1 - self.beta_1) * g  # u_t^i, before Sign
        m = self.beta_2 * m + (1 - self.beta_2) * g  # m_t^i
        local.log("zero_fraction", (u == 0).float().mean(dim=1))
        return {"u": self._encode(u, streams)}, {"m": m}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """x_{t+1} = x_t + γ_1 (1/n Σ u_t^i − γ_2 x_t)."""
        x = server["x"]
        u = self._codec().mean(uplink["u"], round.d)
        if self.aggregate == "majority":
            u = codecs.signs(u[None], self.sign_zero, round.streams)[0]
        gamma_1 = self.gamma_1 * self.gamma_1_decay ** (round.t - 1)
        return {"x": x + gamma_1 * (u - self.gamma_2 * x)}

    def message(self, server: State, round: Round) -> Message:
        """u_t^i in the bits of the ablation."""
        return {"u": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """d, or 2 d where Sign(0) = 0; b d in the b-bit ablations."""
        return layout.coded * (2 if self.bits == 1 and self.sign_zero == "zero" else self.bits)

    def _codec(self) -> Any:
        if self.bits == 32:
            return codecs.Float32()
        codec = codecs.sign(self.sign_zero) if self.bits == 1 else codecs.Uniform(self.bits)
        return codecs.entropy_coded(codec, self.entropy_coding)

    def _encode(self, u: Tensor, streams: Streams) -> list[Tensor]:
        if self.bits in (1, 32):
            return self._codec().encode(u, streams)
        largest = u.abs().amax(dim=1, keepdim=True)  # every client's update spans [−1, 1]; no scale is sent
        return self._codec().encode(u / largest.clamp(min=1e-30))
