"""Masks in {0, 1}, one bit a value."""

from __future__ import annotations

from torch import Tensor, float32

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, finite
from fedsign.local.streams import Streams


class Mask(Codec):
    """Masks in {0, 1}, one bit each."""

    def length(self, d: int) -> int:
        """ceil(d / 8) bytes."""
        return bits.packed_length(d)

    def sample(self, p: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of masks drawn as Bernoulli(p), p in [0, 1]^[n, d]. Raises PayloadError if a value is not finite."""
        return list(bits.pack(streams.uniform("mask", p.shape[1]) < finite(p)))

    def threshold(self, s: Tensor) -> list[Tensor]:
        """Rows of the masks 1[s > 0] of s [n, d]. Raises PayloadError if a value is not finite."""
        return list(bits.pack(finite(s) > 0))

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """Masks [n, d]. Raises PayloadError on a wrong length or a set padding bit."""
        data = self.stacked(rows, d)
        bits.check_padding(data, d)
        return bits.unpack(data, d).to(float32)

    def mean(self, rows: list[Tensor], d: int, weights: Tensor | None = None) -> Tensor:
        """Mean of the masks, [d]. Unweighted, they are counted on packed words; exact, so in any order."""
        if weights is not None:
            return super().mean(rows, d, weights)
        bits.check_padding(self.stacked(rows, d), d)
        return bits.count(rows, d).to(float32) / len(rows)
