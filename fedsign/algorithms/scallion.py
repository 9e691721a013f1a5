"""SCALLION and SCAFCOM: SCAFFOLD with one compressed increment (Huang, Li & Li, ICLR 2024).

Uplink the bits of the codec, downlink 64 d.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import need_symbols, receive
from fedsign.algorithms.scaffold import Scaffold
from fedsign.options import Fraction, PositiveInt, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Uplink
    from fedsign.config import Config


@options
class Incremental(Scaffold):
    """What the two share: c_i and c move by the increments δ̃_i = C(δ_i) that are sent, and so does x."""

    symbols: ClassVar[str]  # the codec that sends symbols

    codec: str
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Beside plain SGD: floats have no symbols to code, and sparse messages have coded none."""
        super().check(config)
        need_symbols(self.entropy_coding, "codec", self.codec, self.symbols)

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """x ← x − η_g η_l K (Σ K_i/ΣK_j δ̃_i + c), K the mean K_i and c the old c; c ← c + 1/N Σ δ̃_i."""
        x, c = server["x"], server["c"]
        codec, K = self._codec(round.layout), round.steps.float()
        delta = codec.mean(uplink["delta"], round.d, weights=K / K.sum())  # the paper's mean where all K_i are equal
        share = len(round.clients) / round.population
        c_plus = c + share * codec.mean(uplink["delta"], round.d)
        return {"x": x - self.server_lr * round.lr * float(K.mean()) * (delta + c), "c": c_plus}

    def message(self, server: State, round: Round) -> Message:
        """δ̃_i."""
        return {"delta": self._codec(round.layout)}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """b(C)."""
        return self._codec(layout).unpadded_bits(layout.coded)

    @abstractmethod
    def _codec(self, layout: Layout) -> Any: ...


@options
class Scallion(Incremental):
    """An unbiased codec of δ_i = α [(x − y_i^K)/(η_l K) − c]."""

    title: ClassVar[str] = "SCALLION"
    symbols: ClassVar[str] = "qsgd"

    alpha: Fraction  # α
    codec: Literal["qsgd", "identity"]  # unbiased, as the theory needs it; biased ones are for SCAFCOM
    levels: PositiveInt  # s of QSGD

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """K corrected steps; c_i moves by what is sent."""
        x, c, c_i = receive(downlink["x"]), receive(downlink["c"]), state["c_i"]
        y = local.train(x, correction=c - c_i).y  # y ← y − η_l (g(y) − c_i + c)
        delta = self.alpha * ((x - y) / (local.steps[:, None] * local.lr) - c)  # δ_i
        codec = self._codec(local.layout)
        sent = codec.encode(delta, streams)  # δ̃_i
        return {"delta": sent}, {"c_i": c_i + codec.decode(sent, len(x))}

    def _codec(self, layout: Layout) -> Any:
        """QSGD with a norm per tensor: d ⌈log2(2s+1)⌉ + 32 L bits."""
        codec = codecs.QSGD(self.levels, "l2", layout.sizes) if self.codec == "qsgd" else codecs.Float32()
        return codecs.entropy_coded(codec, self.entropy_coding)


@options
class Scafcom(Incremental):
    """Any codec of δ_i = v_i − c_i, v_i a moving average of the mean local gradients."""

    title: ClassVar[str] = "SCAFCOM"
    symbols: ClassVar[str] = "sign"
    client_state: ClassVar[tuple[str, ...]] = ("c_i", "v_i")  # 0

    beta: Fraction  # β
    codec: Literal["topk", "sign", "heavy_sign", "identity"]
    ratio: Fraction  # k / d of topk and heavy_sign
    sign_zero: SignZero

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """K corrected steps; v_i takes their mean gradient, and c_i moves towards v_i by what is sent."""
        x, c, c_i, v_i = receive(downlink["x"]), receive(downlink["c"]), state["c_i"], state["v_i"]
        y = local.train(x, correction=c - c_i).y  # y ← y − η_l (g(y) − c_i + c)
        g = (x - y) / (local.steps[:, None] * local.lr) + c_i - c
        v_i = (1 - self.beta) * v_i + self.beta * g
        codec = self._codec(local.layout)
        sent = codec.encode(v_i - c_i, streams)  # δ̃_i
        return {"delta": sent}, {"c_i": c_i + codec.decode(sent, len(x)), "v_i": v_i}

    def _codec(self, layout: Layout) -> Any:
        codec = codecs.chosen(self.codec, layout.sizes, ratio=self.ratio, sign_zero=self.sign_zero)
        return codecs.entropy_coded(codec, self.entropy_coding)
