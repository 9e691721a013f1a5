"""Sparse messages: the k entries of largest magnitude of the whole vector, with their values or with signs alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, finite, naming
from fedsign.codecs.dense import floats
from fedsign.codecs.entropy import compress, decompress
from fedsign.codecs.onebit import sign
from fedsign.errors import PayloadError
from fedsign.local.streams import Streams


class TopK(Codec):
    """The k entries of largest |x_j| as they are, the others zero; of equal magnitudes those of lowest index are kept.

    A row is the k values in float32, in the order of their indices, then the indices: k (32 + ⌈log2 d⌉) bits, padded to
    a byte.

    Attributes:
        ratio: k / d, in (0, 1]; k is rounded down, and at least 1.
        indices: ``fixed`` sends ⌈log2 d⌉ bits an index; ``shorter`` a bitmap of d bits instead where that is shorter,
            which k and d alone decide; ``shortest`` whatever is shortest of these two and of the bitmap entropy coded,
            for every row apart, after a byte that says which it is.
    """

    def __init__(self, ratio: float, indices: Literal["fixed", "shorter", "shortest"] = "fixed"):
        self.ratio, self.indices = ratio, indices

    def kept(self, d: int) -> int:
        """k of d values."""
        return max(1, int(self.ratio * d))

    def length(self, d: int) -> int:
        """4 k + ceil(k ⌈log2 d⌉ / 8) bytes, or 4 k + ceil(d / 8); of the shortest indices, the most that they take."""
        return bits.packed_length(self.unpadded_bits(d)) + (self.indices == "shortest")

    def unpadded_bits(self, d: int) -> int:
        """k (32 + ⌈log2 d⌉), or 32 k + d where a bitmap is allowed and shorter."""
        k = self.kept(d)
        return 32 * k + (k * index_width(d) if self.indices == "fixed" else min(k * index_width(d), d))

    def encode(self, x: Tensor, streams: Streams | None = None) -> list[Tensor]:
        """Rows of the largest entries of x [n, d]. Raises PayloadError if a value is not finite."""
        d = x.shape[1]
        index = largest(finite(x), self.kept(d))
        values = x.to(torch.float32).gather(1, index).view(torch.uint8)
        if self.indices == "shortest":
            places = [_pack_shortest(i, d) for i in index]
        else:
            places = list(_pack_bitmap(index, d) if self._is_bitmap(d) else pack_indices(index, d))
        return [torch.cat(parts) for parts in zip(values, places, strict=True)]

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """The kept values [n, d], zero elsewhere.

        Raises:
            PayloadError: a wrong length, a value that is not finite, padding, or indices that do not increase, lie
                beyond d, or are not k.
        """
        k = self.kept(d)
        x = torch.zeros(len(rows), d, device=rows[0].device)
        if self.indices != "shortest":
            data = self.stacked(rows, d)
            places = data[:, 4 * k :].contiguous()
            index = _unpack_bitmap(places, k, d) if self._is_bitmap(d) else unpack_indices(places, k, d)
            return x.scatter_(1, index, finite(floats(data[:, : 4 * k])))
        for i, row in enumerate(rows):
            with naming(i):
                if row.dtype != torch.uint8 or row.dim() != 1 or not 4 * k < len(row) <= self.length(d):
                    got = f"{tuple(row.shape)} {str(row.dtype).removeprefix('torch.')}"
                    raise PayloadError(f"payload is {got}; expected at most {self.length(d)} bytes for {d} values")
                x[i, _unpack_shortest(row[4 * k :], k, d)] = finite(floats(row[None, : 4 * k].clone()))[0]
        return x

    def _is_bitmap(self, d: int) -> bool:
        return self.indices == "shorter" and d < self.kept(d) * index_width(d)


class HeavySign(Codec):
    """Signs of the k largest entries, times the mean magnitude of those of them that lie in the same group.

    With S the entries that `TopK` keeps, x_j becomes ‖x_{S∩g}‖_1 / |S∩g| Sign(x_j) for j in S and the group g. A row is
    the indices, the signs, and the float32 scale of every group that S hits, in their order: k (1 + ⌈log2 d⌉) + 32 G⁺
    bits, indices and signs padded to a byte each. The indices tell the server which G⁺ groups these are.

    Attributes:
        ratio: k / d, as in `TopK`.
        zero: what Sign(0) is, should fewer than k entries be non-zero; ``zero`` takes two bits a sign.
        sizes: lengths of the groups, summing to d (``layout.sizes``: per tensor); None is one group.
    """

    def __init__(self, ratio: float, zero: str, sizes: Sequence[int] | None = None):
        self.top, self.signs, self.sizes = TopK(ratio), sign(zero), sizes

    def length(self, d: int) -> int:
        """Bytes of a row that hits as many groups as k entries can."""
        k = self.top.kept(d)
        return bits.packed_length(k * index_width(d)) + self.signs.length(k) + 4 * self._most_groups(d)

    def unpadded_bits(self, d: int) -> int:
        """k (1 + ⌈log2 d⌉) + 32 G⁺ of a row that hits as many groups as k entries can."""
        k = self.top.kept(d)
        return k * index_width(d) + self.signs.unpadded_bits(k) + 32 * self._most_groups(d)

    def encode(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of indices, signs and scales of x [n, d]. Raises PayloadError if a value is not finite."""
        d = x.shape[1]
        index = largest(finite(x), self.top.kept(d))
        kept = x.gather(1, index)
        group, hits = self._groups(index, d)
        sums = torch.zeros(hits.shape, dtype=torch.float64, device=x.device).scatter_add_(1, group, kept.abs().double())
        scales = (sums / hits.clamp(min=1)).to(torch.float32)
        parts = zip(pack_indices(index, d), self.signs.encode(kept, streams), scales, hits, strict=True)
        return [torch.cat([places, s, scale[hit > 0].view(torch.uint8)]) for places, s, scale, hit in parts]

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """The scaled signs [n, d], zero elsewhere.

        Raises:
            PayloadError: a wrong length, a scale that is negative or not finite, padding, or indices that do not
                increase or lie beyond d.
        """
        out = torch.zeros(len(rows), d, device=rows[0].device)
        for i, row in enumerate(rows):
            with naming(i):
                index, values = self._decode_row(row, d)
            out[i, index] = values
        return out

    def _decode_row(self, row: Tensor, d: int) -> tuple[Tensor, Tensor]:
        k = self.top.kept(d)
        ends = np.cumsum([bits.packed_length(k * index_width(d)), self.signs.length(k)])
        if row.dtype != torch.uint8 or row.dim() != 1 or len(row) < ends[1]:
            got = f"{tuple(row.shape)} {str(row.dtype).removeprefix('torch.')}"
            raise PayloadError(f"payload is {got}; expected at least {ends[1]} bytes for {d} values")
        places, signs, scales = row[: ends[0]], row[ends[0] : ends[1]], row[ends[1] :]
        index = unpack_indices(places[None], k, d)
        group, hits = self._groups(index, d)
        hit = hits[0] > 0
        if len(scales) != 4 * int(hit.sum()):
            raise PayloadError(f"payload has {len(scales)} bytes of scales; expected {4 * int(hit.sum())}")
        scale = torch.zeros(len(hit), device=row.device)
        scale[hit] = legal_scales(floats(scales.clone()[None]))[0]
        return index[0], self.signs.decode([signs], k)[0] * scale[group[0]]

    def _groups(self, index: Tensor, d: int) -> tuple[Tensor, Tensor]:
        """The group [n, k] of each index, and how many indices each group has, [n, G]."""
        ends = torch.tensor(self.sizes or [d], device=index.device).cumsum(0)
        group = torch.bucketize(index, ends, right=True)
        hits = torch.zeros(len(index), len(ends), dtype=torch.int64, device=index.device)
        return group, hits.scatter_add_(1, group, torch.ones_like(group))

    def _most_groups(self, d: int) -> int:
        return min(self.top.kept(d), len(self.sizes or [d]))


def index_width(d: int) -> int:
    """⌈log2 d⌉: bits of an index below d."""
    return (d - 1).bit_length()


def largest(x: Tensor, k: int) -> Tensor:
    """Indices [n, k], increasing, of the k largest |x_j| of every row of x [n, d]; ties go to the lowest index."""
    magnitude = x.abs()
    if x.device.type != "cpu":  # without a look at the values
        return magnitude.argsort(dim=1, descending=True, stable=True)[:, :k].sort(dim=1).values
    place = x.shape[1] - k  # numpy's selection is several times as fast as a sort
    threshold = torch.from_numpy(np.partition(magnitude.numpy(), place, axis=1)[:, place, None])
    keep = magnitude >= threshold
    if (keep.sum(dim=1) > k).any():
        tied = magnitude == threshold
        room = k - (magnitude > threshold).sum(dim=1, keepdim=True)
        keep &= ~tied | (tied.cumsum(dim=1) <= room)
    return keep.nonzero()[:, 1].view(-1, k)


def pack_indices(index: Tensor, d: int) -> Tensor:
    """Pack indices [n, k] below d in ⌈log2 d⌉ bits each, the highest first: uint8 [n, ceil(k ⌈log2 d⌉ / 8)]."""
    digits = torch.empty(*index.shape, index_width(d), dtype=torch.bool, device=index.device)
    for place in range(index_width(d)):
        digits[:, :, -1 - place] = (index >> place) & 1
    return bits.pack(digits.flatten(1))


def unpack_indices(data: Tensor, k: int, d: int) -> Tensor:
    """Indices [n, k], int64.

    Raises:
        PayloadError: with the row, if padding is not zero, or the indices do not increase or lie beyond d.
    """
    width = index_width(d)
    bits.check_padding(data, k * width)
    digits = bits.unpack(data, k * width).view(len(data), k, width)
    index = torch.zeros(len(data), k, dtype=torch.int64, device=data.device)
    for digit in range(width):
        index = (index << 1) | digits[:, :, digit]
    illegal = (index[:, 1:] <= index[:, :-1]).any(dim=1) | (index[:, -1] >= d)
    if not data.is_meta and illegal.any():
        raise PayloadError(f"indices do not increase or lie beyond {d}", int(illegal.nonzero()[0, 0]))
    return index


def _pack_bitmap(index: Tensor, d: int) -> Tensor:
    """A bitmap of d bits of the indices [n, k]: uint8 [n, ceil(d / 8)]."""
    return bits.pack(torch.zeros(len(index), d, dtype=torch.bool, device=index.device).scatter_(1, index, True))


def _unpack_bitmap(data: Tensor, k: int, d: int) -> Tensor:
    """The indices [n, k]. Raises PayloadError with the row, if padding is not zero or another number is marked."""
    bits.check_padding(data, d)
    return _marked(bits.unpack(data, d), k)


def _marked(marked: Tensor, k: int) -> Tensor:
    """Places [n, k] of what is true in [n, d]. Raises PayloadError with the row that does not have k of them."""
    wrong = marked.sum(dim=1) != k
    if not marked.is_meta and wrong.any():
        raise PayloadError(f"not {k} indices are marked", int(wrong.nonzero()[0, 0]))
    return marked.nonzero()[:, 1].view(-1, k)


FIXED, BITMAP, CODED = 0, 1, 2  # the first byte of the shortest indices


def _pack_shortest(index: Tensor, d: int) -> Tensor:
    """A byte and the shortest of three forms of the indices [k]."""
    bitmap = _pack_bitmap(index[None], d)[0]
    code = torch.from_numpy(compress(bits.unpack(bitmap[None], d)[0].to(torch.uint8).cpu().numpy(), 1)).to(index.device)
    forms = {FIXED: pack_indices(index[None], d)[0], BITMAP: bitmap, CODED: code}
    tag = min(forms, key=lambda form: len(forms[form]))
    return torch.cat([torch.tensor([tag], dtype=torch.uint8, device=index.device), forms[tag]])


def _unpack_shortest(data: Tensor, k: int, d: int) -> Tensor:
    """The indices [k]. Raises PayloadError."""
    tag, data = int(data[0]), data[1:]
    if tag not in (FIXED, BITMAP, CODED):
        raise PayloadError(f"indices of form {tag}; expected 0, 1 or 2")
    if tag == CODED:
        return _marked(torch.from_numpy(decompress(data.cpu().numpy(), d, 1)).to(data.device).bool()[None], k)[0]
    expected = bits.packed_length(k * index_width(d) if tag == FIXED else d)
    if len(data) != expected:
        raise PayloadError(f"{len(data)} bytes of indices; expected {expected}")
    return (unpack_indices if tag == FIXED else _unpack_bitmap)(data[None].contiguous(), k, d)[0]


def legal_scales(scales: Tensor) -> Tensor:
    """Scales [n, G] unchanged. Raises PayloadError with the row if one is negative or not finite."""
    negative = finite(scales) < 0
    if not scales.is_meta and negative.any():
        raise PayloadError("a scale is negative", int(negative.nonzero()[0, 0]))
    return scales
