"""FedAMS and FedCAMS: AMSGrad on the server, the second with compressed updates (Wang, Lin & Chen, ICML 2022).

Uplink 32 d bits, and the bits of the codec; downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, need_symbols, receive
from fedsign.options import Fraction, Momentum, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class FedAMS(Algorithm):
    """x ← x + η m / √v̂ with v̂ never below ε (the max-stabilised form)."""

    title: ClassVar[str] = "FedAMS"

    server_lr: Positive  # η
    beta_1: Momentum
    beta_2: Fraction
    eps: Positive  # ε

    def init(self, x: Tensor, layout: Layout) -> State:
        """x, m = v = 0 and v̂ = ε."""
        return {"x": x, "m": 0 * x, "v": 0 * x, "v_hat": 0 * x + self.eps}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Train locally and send the model difference."""
        x = receive(downlink["x"])
        Delta = local.train(x).y - x
        return {"Delta": codecs.Float32().encode(Delta)}, {}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """The moments of Δ_t = 1/n Σ Δ_t^i, and the step."""
        Delta = self._codec().mean(uplink["Delta"], round.d)
        server = server | moments(server, Delta, self.beta_1, self.beta_2)
        return server | {"x": server["x"] + self.server_lr * server["m"] / server["v_hat"].sqrt()}

    def message(self, server: State, round: Round) -> Message:
        """Δ_t^i, in full or as the codec sends it."""
        return {"Delta": self._codec()}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """32 d, or what the codec takes."""
        return self._codec().unpadded_bits(layout.coded)

    def _codec(self) -> Any:
        return codecs.Float32()


@options
class FedCAMS(FedAMS):
    """The same with C(Δ_i + e_i) in place of Δ_i, and what that leaves in e_i."""

    title: ClassVar[str] = "FedCAMS"
    client_state: ClassVar[tuple[str, ...]] = ("e",)  # 0

    codec: Literal["sign", "topk", "identity"]
    ratio: Fraction  # k / d of topk
    sign_zero: SignZero
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Floats have no symbols to code, and sparse messages have coded none."""
        need_symbols(self.entropy_coding, "codec", self.codec, "sign")

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Train locally and send what the codec makes of the model difference and the error before."""
        x = receive(downlink["x"])
        Delta = local.train(x).y - x + state["e"]
        codec = self._codec()
        sent = codec.encode(Delta, streams)
        return {"Delta": sent}, {"e": Delta - codec.decode(sent, len(x))}

    def _codec(self) -> Any:
        """On the whole vector, as one group."""
        codec = codecs.chosen(self.codec, None, ratio=self.ratio, sign_zero=self.sign_zero)
        return codecs.entropy_coded(codec, self.entropy_coding)


def moments(server: State, Delta: Tensor, beta_1: float, beta_2: float) -> State:
    """m ← β1 m + (1−β1) Δ, v ← β2 v + (1−β2) Δ² and v̂ ← max(v̂, v), all [d]: AMSGrad's."""
    m = beta_1 * server["m"] + (1 - beta_1) * Delta
    v = beta_2 * server["v"] + (1 - beta_2) * Delta**2
    return {"m": m, "v": v, "v_hat": server["v_hat"].maximum(v)}
