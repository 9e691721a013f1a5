"""QSGD: unbiased stochastic rounding of |x| / ‖x‖ to s levels (Alistarh et al., 2017). TernGrad: ℓ∞ and s = 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, finite, nonzero, norm
from fedsign.codecs.dense import floats
from fedsign.codecs.sparse import legal_scales
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams


class QSGD(Codec):
    """Q_s(x)_j = ‖x‖ sgn(x_j) ξ_j with ξ_j ∈ {ℓ/s, (ℓ+1)/s} drawn so that E[Q_s(x)] = x; Q_s(0) = 0.

    A row is the float32 norm of every group, then the planes of the symbols sgn(x_j) s ξ_j + s ∈ {0, ..., 2s}:
    d ⌈log2(2s+1)⌉ + 32 G bits for G groups, each plane padded to a byte.

    Attributes:
        levels: s, at least 1.
        norm: ``l2``, or ``linf`` (largest magnitude).
        sizes: lengths of the groups that have a norm each, summing to d (``layout.sizes``: per tensor); None is one
            norm for the whole vector.
    """

    def __init__(self, levels: int, norm: Literal["l2", "linf"], sizes: Sequence[int] | None = None):
        self.levels, self.norm, self.sizes = levels, norm, sizes
        self.k = (2 * levels).bit_length()  # ⌈log2(2s+1)⌉

    def length(self, d: int) -> int:
        """4 G + k ceil(d / 8) bytes, k = ⌈log2(2s+1)⌉."""
        return 4 * len(self._groups(d)) + self.k * bits.packed_length(d)

    def unpadded_bits(self, d: int) -> int:
        """d ⌈log2(2s+1)⌉ + 32 G."""
        return self.k * d + 32 * len(self._groups(d))

    def encode(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of the norms and the drawn symbols of x [n, d]. Raises PayloadError if a value or norm is not finite."""
        n, d = x.shape
        symbols = torch.empty(n, d, dtype=torch.int32, device=x.device)
        grouped = (t.split(self._groups(d), dim=1) for t in (finite(x), streams.uniform("rounding", d), symbols))
        norms = []
        for group, u, symbol in zip(*grouped, strict=True):
            norms.append(norm(group) if self.norm == "l2" else group.abs().amax(dim=1, keepdim=True))
            level = group.abs().div_(nonzero(norms[-1])).mul_(self.levels)
            lower = level.floor()  # ℓ
            level.sub_(lower).sub_(u).ceil_().add_(lower)  # ℓ + 1 if u < level − ℓ: s ξ, of mean s |x_j| / ‖x‖
            symbol.copy_(level.copysign_(group).add_(self.levels))
        head = finite(torch.cat(norms, dim=1)).view(torch.uint8)
        return list(torch.cat([head, bits.pack_symbols(symbols, self.k)], dim=1))

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """Q_s(x) [n, d]. Raises PayloadError on a wrong length, padding, a symbol of no level, or an illegal norm."""
        groups = self._groups(d)
        head, planes = self.stacked(rows, d).split([4 * len(groups), self.k * bits.packed_length(d)], dim=1)
        norms = legal_scales(floats(head))
        symbols = bits.unpack_symbols(planes, d, self.k)
        beyond = symbols > 2 * self.levels
        if not beyond.is_meta and beyond.any():
            raise PayloadError("a symbol is of no level", int(beyond.nonzero()[0, 0]))
        x = (symbols - self.levels).to(torch.float32)
        for i, group in enumerate(x.split(groups, dim=1)):
            group.mul_(norms[:, i : i + 1] / self.levels)
        return x

    def _groups(self, d: int) -> list[int]:
        return [d] if self.sizes is None else list(self.sizes)
