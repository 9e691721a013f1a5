"""Bits to bytes: eight a byte, the first bit in the highest place, the last byte padded with zeros."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedsign.errors import PayloadError


def packed_length(d: int) -> int:
    """Bytes that d bits take: ceil(d / 8)."""
    return -(-d // 8)


def pack(bits: Tensor) -> Tensor:
    """Pack booleans [n, d] into uint8 [n, ceil(d/8)]."""
    if bits.device.type == "cpu":
        return torch.from_numpy(np.packbits(bits.numpy(), axis=1))
    n, d = bits.shape
    padded = torch.nn.functional.pad(bits.to(torch.uint8), (0, -d % 8)).view(n, -1, 8)
    return (padded << _places(bits.device)).sum(dim=2, dtype=torch.uint8)


def unpack(data: Tensor, d: int) -> Tensor:
    """Unpack uint8 [n, ceil(d/8)] into booleans [n, d]."""
    if data.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(data.numpy(), axis=1, count=d).view(np.bool_))
    return ((data.unsqueeze(2) >> _places(data.device)) & 1).view(len(data), -1)[:, :d].bool()


def _places(device: torch.device) -> Tensor:
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)


def check_padding(data: Tensor, d: int) -> None:
    """Refuse rows [n, ceil(d/8)] whose padding bits are not zero. Raises PayloadError with the row."""
    if d % 8 and not data.is_meta:
        bad = data[:, -1] & ((1 << (-d % 8)) - 1)
        if bad.any():
            raise PayloadError("padding bits are not zero", int(bad.nonzero()[0, 0]))


def pack_symbols(symbols: Tensor, k: int) -> Tensor:
    """Pack integers [n, d] from 0 to 2^k - 1 into k planes, the highest digit first: uint8 [n, k ceil(d/8)]."""
    return torch.cat([pack((symbols >> digit) & 1 == 1) for digit in reversed(range(k))], dim=1)


def unpack_symbols(data: Tensor, d: int, k: int) -> Tensor:
    """Integers [n, d], int32, of k planes [n, k ceil(d/8)]. Raises PayloadError with the row if padding is not zero."""
    symbols = torch.zeros(len(data), d, dtype=torch.int32, device=data.device)
    for plane in data.split(packed_length(d), dim=1):
        plane = plane.contiguous()
        check_padding(plane, d)
        symbols = (symbols << 1) | unpack(plane, d)
    return symbols


def count(rows: list[Tensor], d: int) -> Tensor:
    """How many of the packed rows have each bit set, as int32 [d].

    The count is kept as bit planes of packed words (plane k holds the k-th binary digit of 64 counters a word), so
    that a row costs a few word operations per 64 coordinates and nothing is unpacked but the final digits.
    """
    planes: list[Tensor] = []
    for row in rows:
        carry = _words(row)
        for k, plane in enumerate(planes):
            planes[k], carry = plane ^ carry, plane & carry
        planes.append(carry)
        if len(planes) > len(rows).bit_length():
            planes.pop()  # a carry out of the highest digit cannot happen
    total = torch.zeros(d, dtype=torch.int32, device=rows[0].device)
    for k, plane in enumerate(planes):
        total += unpack(plane.view(torch.uint8)[None, : packed_length(d)], d)[0].to(torch.int32) << k
    return total


def _words(row: Tensor) -> Tensor:
    return torch.nn.functional.pad(row, (0, -len(row) % 8)).view(torch.int64)
