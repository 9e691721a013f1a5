"""Bits to bytes: eight a byte, the first bit in the highest place, the last byte padded with zeros."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fedsign.errors import PayloadError

BLOCK = 2**14  # words of a row that are counted at a time: 128 KiB
MOST_COUNTED = 255  # rows whose count fits a byte


def packed_length(d: int) -> int:
    """Bytes that d bits take: ceil(d / 8)."""
    return -(-d // 8)


def pack(bits: Tensor) -> Tensor:
    """Pack booleans, or integers 0 and 1, [n, d] into uint8 [n, ceil(d/8)]."""
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
    symbols = symbols.to(_symbol_type(k))
    return torch.cat([pack((symbols >> digit) & 1) for digit in reversed(range(k))], dim=1)


def unpack_symbols(data: Tensor, d: int, k: int) -> Tensor:
    """Integers [n, d], int32, of k planes [n, k ceil(d/8)]. Raises PayloadError with the row if padding is not zero."""
    symbols = torch.zeros(len(data), d, dtype=_symbol_type(k), device=data.device)
    for plane in data.split(packed_length(d), dim=1):
        plane = plane.contiguous()
        check_padding(plane, d)
        symbols = (symbols << 1) | unpack(plane, d).view(torch.uint8)
    return symbols.to(torch.int32)


def _symbol_type(k: int) -> torch.dtype:
    return torch.uint8 if k <= 8 else torch.int32  # a quarter of the traffic where it fits


def count(rows: list[Tensor], d: int) -> Tensor:
    """How many of the packed rows have each bit set, as int32 [d].

    Full adders on packed words (64 coordinates at once) turn the rows into binary digits of the counts, plane k holding
    the k-th; only these few planes are unpacked. Done in blocks that stay in the cache.
    """
    total = torch.zeros(d, dtype=torch.int32, device=rows[0].device)
    for at in range(0, len(rows), MOST_COUNTED):
        total += _count(rows[at : at + MOST_COUNTED])[:d]
    return total


def _count(rows: list[Tensor]) -> Tensor:
    """The counts of at most `MOST_COUNTED` rows as bytes, padding included."""
    words = [_words(row) for row in rows]
    spread = _bits_of_bytes(rows[0].device)
    counts = torch.empty(8 * len(words[0]), dtype=torch.int64, device=rows[0].device)  # a byte per coordinate
    for at in range(0, len(words[0]), BLOCK):
        block = counts[8 * at : 8 * (at + BLOCK)].zero_()
        for k, digits in enumerate(_planes([row[at : at + BLOCK] for row in words])):
            block += (spread << k).index_select(0, digits.view(torch.uint8).int())
    return counts.view(torch.uint8)


def _planes(words: list[Tensor]) -> list[Tensor]:
    """The binary digits of a sum of bits, lowest first; every digit is what full adders leave of three bits."""
    planes = []
    while words:
        carries = []
        while len(words) > 1:
            a, b = words.pop(), words.pop()
            c = words.pop() if words else torch.zeros_like(a)
            odd = a ^ b
            carries.append((a & b) | (odd & c))
            words.append(odd ^ c)
        planes.append(words.pop())
        words = carries
    return planes


def _bits_of_bytes(device: torch.device) -> Tensor:
    """The eight bits of every byte as eight bytes, int64 [256]; the first bit lies first in memory."""
    byte = torch.arange(256, dtype=torch.uint8, device=device)
    return ((byte[:, None] >> _places(device)) & 1).view(torch.int64).flatten()


def _words(row: Tensor) -> Tensor:
    return torch.nn.functional.pad(row, (0, -len(row) % 8)).view(torch.int64)
