"""Masks in {0, 1}, one bit a value."""

from __future__ import annotations

from torch import Tensor, float32

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec


class Mask(Codec):
    """Masks in {0, 1}, one bit each."""

    k = 1

    def length(self, d: int) -> int:
        """ceil(d / 8) bytes."""
        return bits.packed_length(d)

    def encode(self, m: Tensor) -> list[Tensor]:
        """Rows of the packed masks m [n, d], bool."""
        return list(bits.pack(m))

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
