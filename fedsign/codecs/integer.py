"""Integers of a known range, in as many bits as the range needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, finite, naming
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams


class Integer(Codec):
    """The integers low .. high, exactly.

    A row is k planes of packed bits, the highest digit of (value - low) first, each padded to a byte.

    Attributes:
        low, high: the range.
        k: bits per value, ceil(log2(high - low + 1)).
    """

    def __init__(self, low: int, high: int):
        self.low, self.high = low, high
        self.k = (high - low).bit_length()

    def length(self, d: int) -> int:
        """k ceil(d / 8) bytes."""
        return self.k * bits.packed_length(d)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Rows of packed integers x [n, d], of any dtype. Raises PayloadError if a value is none or out of range."""
        illegal = (finite(x) < self.low) | (x > self.high) | (x != x.round())
        if not x.is_meta and illegal.any():
            problem = f"values to send are not integers in {self.low}..{self.high}"
            raise PayloadError(problem, int(illegal.nonzero()[0, 0]))
        return list(bits.pack_symbols(x.to(torch.int32) - self.low, self.k))

    def write(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of the nearest integers of the range. Raises PayloadError if a value is not finite."""
        return self.encode(finite(x).round().clamp(self.low, self.high))

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """Integers [n, d], as float32. Raises PayloadError on a wrong length, padding, or a value beyond the range."""
        value = bits.unpack_symbols(self.stacked(rows, d), d, self.k) + self.low
        beyond = value > self.high
        if not beyond.is_meta and beyond.any():
            raise PayloadError(f"an integer is not in {self.low}..{self.high}", int(beyond.nonzero()[0, 0]))
        return value.to(torch.float32)


def encode_each(codecs: Sequence[Codec], x: Tensor) -> list[Tensor]:
    """Rows of bytes of x [n, d] where every row has its own codec. Raises PayloadError: a codec refuses its row."""
    rows = []
    for i, codec in enumerate(codecs):
        with naming(i):
            rows += codec.encode(x[i : i + 1])
    return rows
