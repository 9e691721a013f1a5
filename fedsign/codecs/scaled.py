"""Scaled signs: a sign per value and a mean magnitude per group of values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedsign.codecs.codec import Codec, finite
from fedsign.codecs.dense import floats
from fedsign.codecs.onebit import sign
from fedsign.codecs.sparse import legal_scales
from fedsign.local.streams import Streams


class ScaledSign(Codec):
    """Every group x_g of d_g values becomes ‖x_g‖_1 / d_g Sign(x_g).

    A row is the float32 scale of every group, then the signs: d + 32 G bits for G groups, padded to a byte.

    Attributes:
        zero: what Sign(0) is: ``random``, ``plus``, or ``zero``, which takes two bits a sign.
        sizes: lengths of the groups, summing to d (``layout.sizes``: per tensor); None is the whole vector.
    """

    def __init__(self, zero: str, sizes: Sequence[int] | None = None):
        self.signs, self.sizes = sign(zero), sizes
        self.k = self.signs.k

    def length(self, d: int) -> int:
        """4 G bytes and those of the signs."""
        return 4 * len(self._groups(d)) + self.signs.length(d)

    def unpadded_bits(self, d: int) -> int:
        """d + 32 G, or 2 d + 32 G where Sign(0) = 0."""
        return 32 * len(self._groups(d)) + self.signs.unpadded_bits(d)

    def encode(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of scales and packed signs of x [n, d]. Raises PayloadError if a value is not finite."""
        return self._rows(self._scales(finite(x)), x, streams)

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """The scaled signs [n, d]. Raises PayloadError on a wrong length, padding, or an illegal scale."""
        groups = self._groups(d)
        data = self.stacked(rows, d)
        scales = legal_scales(floats(data[:, : 4 * len(groups)]))
        out = self.signs.decode(list(data[:, 4 * len(groups) :].contiguous()), d)
        for i, group in enumerate(out.split(groups, dim=1)):
            group.mul_(scales[:, i : i + 1])
        return out

    def _scales(self, x: Tensor) -> Tensor:
        """‖x_g‖_1 / d_g, [n, G]."""
        groups = x.split(self._groups(x.shape[1]), dim=1)
        norms = (torch.linalg.vector_norm(g, 1, dim=1, keepdim=True, dtype=torch.float64) for g in groups)
        scales = torch.cat([norm / g.shape[1] for norm, g in zip(norms, groups, strict=True)], dim=1)
        return scales.to(torch.float32)

    def _rows(self, scales: Tensor, x: Tensor, streams: Streams) -> list[Tensor]:
        return list(torch.cat([scales.view(torch.uint8), torch.stack(self.signs.encode(x, streams))], dim=1))

    def _groups(self, d: int) -> list[int]:
        return [d] if self.sizes is None else list(self.sizes)


class StochasticSign(ScaledSign):
    """Every value of a group becomes ±a, + with probability clip(1/2 + x/(2a), 0, 1): unbiased where |x| ≤ a.

    The scale is a = c ‖x_g‖_1 / d_g, and what is clipped is replaced by ±a in expectation. A row is that of
    `ScaledSign`, d + 32 G bits.

    Attributes:
        c: the scale of a group over its mean magnitude.
        sizes: lengths of the groups, as in `ScaledSign`.
    """

    def __init__(self, c: float, sizes: Sequence[int] | None = None):
        super().__init__("plus", sizes)
        self.c = c

    def encode(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of scales and drawn signs of x [n, d]. Raises PayloadError if a value is not finite."""
        d = x.shape[1]
        scales = self.c * self._scales(finite(x))
        noise = streams.uniform("rounding", d).mul_(2).sub_(1)
        for i, group in enumerate(noise.split(self._groups(d), dim=1)):
            group.mul_(scales[:, i : i + 1])  # uniform on [−a, a)
        return self._rows(finite(scales), noise.add_(x), streams)
