"""FedEF: FedAvg with a biased codec and error feedback, SGD or AMSGrad on the server (Li & Li, ICML 2023).

Uplink the bits of the codec, downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, need_symbols, receive
from fedsign.algorithms.fedams import moments
from fedsign.options import Fraction, Momentum, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class FedEF(Algorithm):
    """q_i = C(Δ_i + e_i); what the codec left out waits in e_i for the client's next round."""

    title: ClassVar[str] = "FedEF"
    client_state: ClassVar[tuple[str, ...]] = ("e",)  # 0

    codec: Literal["topk", "sign", "heavy_sign", "identity"]
    ratio: Fraction  # k / d of topk and heavy_sign
    optimizer: Annotated[Literal["sgd", "ams"], Field(alias="server")]
    server_lr: Positive  # η_g
    beta_1: Momentum  # these three of the AMS server
    beta_2: Fraction
    eps: Positive
    sign_zero: SignZero
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Floats have no symbols to code, and sparse messages have coded none."""
        need_symbols(self.entropy_coding, "codec", self.codec, "sign")

    def init(self, x: Tensor, layout: Layout) -> State:
        """x; and m = v = v̂ = 0."""
        return {"x": x} if self.optimizer == "sgd" else {"x": x, "m": 0 * x, "v": 0 * x, "v_hat": 0 * x}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """Local SGD; the codec takes the difference and the error before."""
        x = receive(downlink["x"])
        p = x - local.train(x).y + state["e"]  # Δ_i + e_i
        codec = self._codec(local.layout)
        q = codec.encode(p, streams)
        return {"q": q}, {"e": p - codec.decode(q, len(x))}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """x ← x − η_g Δ̄, or x ← x − η_g m / √(v̂ + ε)."""
        Delta = self._codec(round.layout).mean(uplink["q"], round.d)  # Δ̄
        if self.optimizer == "sgd":
            return {"x": server["x"] - self.server_lr * Delta}
        server = server | moments(server, Delta, self.beta_1, self.beta_2)
        return server | {"x": server["x"] - self.server_lr * server["m"] / (server["v_hat"] + self.eps).sqrt()}

    def message(self, server: State, round: Round) -> Message:
        """q_i."""
        return {"q": self._codec(round.layout)}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """k (32 + ⌈log2 d⌉), d + 32 L, k (1 + ⌈log2 d⌉) + 32 L or 32 d."""
        return self._codec(layout).unpadded_bits(layout.coded)

    def _codec(self, layout: Layout) -> Any:
        codec = codecs.chosen(self.codec, layout.sizes, ratio=self.ratio, sign_zero=self.sign_zero)
        return codecs.entropy_coded(codec, self.entropy_coding)
