"""Signs and ternary symbols: one bit and two bits a value."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, finite, may_hold
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams


class Sign(Codec):
    """Sign(x) in one bit: set for +1, clear for -1. One bit has no zero: `zero` says what Sign(0) is.

    Attributes:
        zero: ``random`` is a fair coin from the client's stream, ``plus`` is +1.
    """

    k = 1

    def __init__(self, zero: str):
        self.zero = zero

    def length(self, d: int) -> int:
        """ceil(d / 8) bytes."""
        return bits.packed_length(d)

    def unpadded_bits(self, d: int) -> int:
        """d."""
        return d

    def encode(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of packed signs of x [n, d]. Raises PayloadError if a value is not finite."""
        positive = finite(x) > 0
        exact_zero = x == 0
        if self.zero == "plus":
            positive |= exact_zero
        elif may_hold(exact_zero):
            positive |= exact_zero & (streams.uniform("sign_zero", x.shape[1]) < 0.5)
        return list(bits.pack(positive))

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """Signs [n, d] in {-1, +1}. Raises PayloadError on a wrong length or a set padding bit."""
        data = self.stacked(rows, d)
        bits.check_padding(data, d)
        return bits.unpack(data, d).to(torch.float32) * 2 - 1

    def mean(self, rows: list[Tensor], d: int, weights: Tensor | None = None) -> Tensor:
        """Mean of the signs, [d]. Unweighted, the votes are counted on packed words; exact, so in any order."""
        if weights is not None:
            return super().mean(rows, d, weights)
        self.check_lengths(rows, d)
        bits.check_padding(torch.stack([row[-1:] for row in rows]), d)
        return bits.count(rows, d).to(torch.float32).mul_(2).sub_(len(rows)).div_(len(rows))


class Ternary(Codec):
    """Symbols {-1, 0, +1} in two bits: a plane of non-zeros, then a plane of positives; each padded to a byte."""

    k = 2

    def length(self, d: int) -> int:
        """2 ceil(d / 8) bytes."""
        return 2 * bits.packed_length(d)

    def unpadded_bits(self, d: int) -> int:
        """2 d."""
        return 2 * d

    def encode(self, x: Tensor, streams: Streams | None = None) -> list[Tensor]:
        """Rows of the packed signs of x [n, d], zero kept as zero. Raises PayloadError if a value is not finite."""
        return list(torch.cat([bits.pack(finite(x) != 0), bits.pack(x > 0)], dim=1))

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """Symbols [n, d]. Raises PayloadError on a wrong length, padding, or a zero that is marked positive."""
        nonzero, positive = self._planes(rows, d)
        return bits.unpack(positive, d).to(torch.float32) * 2 - bits.unpack(nonzero, d).to(torch.float32)

    def mean(self, rows: list[Tensor], d: int, weights: Tensor | None = None) -> Tensor:
        """Mean of the symbols, [d]. Unweighted, counted on packed words."""
        if weights is not None:
            return super().mean(rows, d, weights)
        nonzero, positive = self._planes(rows, d)
        counted = 2 * bits.count(list(positive), d) - bits.count(list(nonzero), d)
        return counted.to(torch.float32) / len(rows)

    def _planes(self, rows: list[Tensor], d: int) -> tuple[Tensor, Tensor]:
        nonzero, positive = (p.contiguous() for p in self.stacked(rows, d).split(bits.packed_length(d), dim=1))
        for plane in (nonzero, positive):
            bits.check_padding(plane, d)
        illegal = positive & ~nonzero
        if not illegal.is_meta and illegal.any():
            raise PayloadError("a ternary zero is marked positive", int(illegal.nonzero()[0, 0]))
        return nonzero, positive


def sign(zero: str) -> Sign | Ternary:
    """The codec of Sign(x) for a method's `sign_zero`: ``zero`` needs a third symbol and is priced at two bits."""
    return Ternary() if zero == "zero" else Sign(zero)


def signs(x: Tensor, zero: str, streams: Streams) -> Tensor:
    """Sign(x) [n, d] as values, under the same convention for Sign(0) as the codec; what a server votes with."""
    s = torch.sign(x)
    if zero == "plus":
        return torch.where(x == 0, torch.ones_like(s), s)
    if zero == "random" and may_hold(x == 0):
        coin = torch.where(streams.uniform("sign_zero", x.shape[1]) < 0.5, 1.0, -1.0)
        return torch.where(x == 0, coin, s)
    return s
