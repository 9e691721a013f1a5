"""EF21 with local steps and partial participation (Richtárik et al., NeurIPS 2021; Fatkhullin et al., 2021).

Uplink the bits of the codec, and once 32 d with a warm start; downlink 32 d.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fedsign import codecs
from fedsign.algorithms.base import Algorithm, need_symbols, receive
from fedsign.errors import PayloadError
from fedsign.options import Fraction, Positive, SignZero, options

if TYPE_CHECKING:
    from fedsign.algorithms.base import Downlink, Layout, LocalTraining, Message, Round, State, Streams, Tensor, Uplink
    from fedsign.config import Config


@options
class EF21(Algorithm):
    """Clients send how their update differs from the g_i that the server knows; it steps along G = 1/N Σ g_i."""

    title: ClassVar[str] = "EF21"
    client_state: ClassVar[tuple[str, ...]] = ("g",)  # g_i = 0

    codec: Literal["topk", "sign", "heavy_sign", "identity"]
    ratio: Fraction  # k / d of topk and heavy_sign
    server_lr: Positive  # η_g
    warm_start: bool  # at a client's first participation g_i = D_i, sent in full
    sign_zero: SignZero
    entropy_coding: bool

    def check(self, config: Config) -> None:
        """Floats have no symbols to code, and sparse messages have coded none."""
        need_symbols(self.entropy_coding, "codec", self.codec, "sign")

    def init(self, x: Tensor, layout: Layout) -> State:
        """x and G = 0."""
        return {"x": x, "G": 0 * x}

    def client(self, downlink: Downlink, state: State, local: LocalTraining, streams: Streams) -> tuple[Uplink, State]:
        """c_i = C(D_i − g_i) and g_i ← g_i + c_i, with D_i = x − y_i^K."""
        x, g = receive(downlink["x"]), state["g"]
        D = x - local.train(x).y
        codec = self._codec(local.layout)
        c = codec.encode(D - g, streams)
        g = g + codec.decode(c, len(x))
        if not self.warm_start:
            return {"c": c}, {"g": g}
        g_0, new = codecs.Float32().encode(D), state["new"]
        pairs = [(g_0[i], c[i][:0]) if first else (g_0[i][:0], c[i]) for i, first in enumerate(new.tolist())]
        return {"g_0": [g_0 for g_0, _ in pairs], "c": [c for _, c in pairs]}, {"g": D.where(new[:, None], g)}

    def server(self, server: State, uplink: Uplink, round: Round) -> State:
        """G ← G + 1/N Σ c_i, by N and not by n: the absent keep their g_i. Then x ← x − η_g G."""
        share = len(round.clients) / round.population
        G = server["G"] + share * self._mean(uplink, round)
        return {"x": server["x"] - self.server_lr * G, "G": G}

    def message(self, server: State, round: Round) -> Message:
        """c_i; and g_i^0, empty but from a client that is new under a warm start."""
        codec = self._codec(round.layout)
        return {"c": codec, "g_0": codecs.Float32()} if self.warm_start else {"c": codec}

    def uplink_bits_formula(self, layout: Layout) -> float:
        """Of the codec; the warm start is not in it."""
        return self._codec(layout).unpadded_bits(layout.coded)

    def _mean(self, uplink: Uplink, round: Round) -> Tensor:
        """1/n Σ c_i, where a client that is new under a warm start sends g_i^0 in its place."""
        codec = self._codec(round.layout)
        if not self.warm_start:
            return codec.mean(uplink["c"], round.d)
        for i, (g_0, c) in enumerate(zip(uplink["g_0"], uplink["c"], strict=True)):
            if (len(g_0) > 0) == (len(c) > 0):
                raise PayloadError(f"{len(g_0)} bytes of g_0 and {len(c)} of c; expected one of the two", i)
        kinds = [codecs.Float32() if len(g_0) else codec for g_0 in uplink["g_0"]]
        rows = [g_0 if len(g_0) else c for g_0, c in zip(uplink["g_0"], uplink["c"], strict=True)]
        return codecs.mean_of_each(kinds, rows, round.d)

    def _codec(self, layout: Layout) -> Any:
        codec = codecs.chosen(self.codec, layout.sizes, ratio=self.ratio, sign_zero=self.sign_zero)
        return codecs.entropy_coded(codec, self.entropy_coding)
