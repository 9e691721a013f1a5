"""Uniform quantisation of [-1, 1] in k bits a value."""

from __future__ import annotations

import torch
from torch import Tensor

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, finite
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams


class Uniform(Codec):
    """The 2^k - 1 levels -1, ..., -1/L, 0, 1/L, ..., 1 with L = 2^(k-1) - 1, rounded to the nearest.

    A row is k planes of packed bits, the highest digit of (level + L) first, each padded to a byte; no scale is sent.

    Attributes:
        k: bits per value, at least 2.
    """

    def __init__(self, k: int):
        self.k = k
        self.levels = 2 ** (k - 1) - 1

    def length(self, d: int) -> int:
        """k ceil(d / 8) bytes."""
        return self.k * bits.packed_length(d)

    def encode(self, x: Tensor) -> list[Tensor]:
        """Rows of packed levels of x [n, d]. Raises PayloadError if a value is not finite or outside [-1, 1]."""
        outside = finite(x).abs() > 1
        if not x.is_meta and outside.any():
            raise PayloadError("values to quantise lie outside [-1, 1]", int(outside.nonzero()[0, 0]))
        symbol = torch.round(x * self.levels).to(torch.int32) + self.levels
        return list(bits.pack_symbols(symbol, self.k))

    def write(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of x [n, d] cut to [-1, 1]. Raises PayloadError if a value is not finite."""
        return self.encode(finite(x).clamp(-1, 1))

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """Levels [n, d] in [-1, 1]. Raises PayloadError on a wrong length, padding, or a symbol of no level."""
        symbol = bits.unpack_symbols(self.stacked(rows, d), d, self.k)
        beyond = symbol > 2 * self.levels
        if not beyond.is_meta and beyond.any():
            raise PayloadError("a symbol stands for no level", int(beyond.nonzero()[0, 0]))
        return (symbol - self.levels).to(torch.float32) / self.levels
