"""Entropy coding, without loss, of whatever a codec sends in whole symbols: signs, masks, ternary symbols, levels.

An asymmetric numeral system (Duda, 2013; the library `constriction`) with the symbols' own frequencies, which are sent.
"""

from __future__ import annotations

from typing import Any

import constriction
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedsign.codecs import bits
from fedsign.codecs.codec import Codec, naming
from fedsign.errors import ConfigError, PayloadError
from fedsign.local.streams import Streams

Bytes = NDArray[np.uint8]
PLAIN, CODED = 0, 1  # the first byte of a row


def entropy_coded(codec: Any, on: bool) -> Any:
    """The codec, its rows entropy coded if `on`: what a method's `entropy_coding` key selects.

    Raises:
        ConfigError: if on, and the codec's rows hold no symbols.
    """
    if on and not codec.k:
        raise ConfigError("algorithm.entropy_coding=true: what this method sends has no symbols to code; use false")
    return EntropyCoded(codec) if on else codec


class EntropyCoded(Codec):
    """The rows of another codec, shorter where their symbols are not equally likely; what is decoded is the same.

    A row is a byte, and either the other codec's row as it is or, where that is shorter, what precedes the planes in
    that row followed by the symbols of its planes, compressed.

    Attributes:
        codec: whose rows end in planes of packed bits (`Codec.k` of them).
    """

    def __init__(self, codec: Codec):
        self.codec = codec

    def length(self, d: int) -> int:
        """Most bytes that a row takes: one more than uncoded."""
        return 1 + self.codec.length(d)

    def unpadded_bits(self, d: int) -> int:
        """Of the uncoded row."""
        return self.codec.unpadded_bits(d)

    def encode(self, *values: Any) -> list[Tensor]:
        """Rows of bytes of what the other codec's `encode` takes. Raises PayloadError if that does."""
        x = values[0]
        return [self._coded(row, x.shape[1]) for row in self.codec.encode(*values)]

    def write(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of what the other codec's `write` makes of x [n, d]. Raises PayloadError if that does."""
        return [self._coded(row, x.shape[1]) for row in self.codec.write(x, streams)]

    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """What the other codec decodes. Raises PayloadError if that does, or on a row that is no code of its row."""
        return self.codec.decode(self._plain(rows, d), d)

    def mean(self, rows: list[Tensor], d: int, weights: Tensor | None = None) -> Tensor:
        """The other codec's mean. Raises PayloadError as `decode`."""
        return self.codec.mean(self._plain(rows, d), d, weights)

    def _coded(self, row: Tensor, d: int) -> Tensor:
        k, count = self.codec.k, self.codec.symbols(d)
        head, planes = row.tensor_split([len(row) - k * bits.packed_length(count)])
        symbols = bits.unpack_symbols(planes[None], count, k)[0].cpu().numpy()
        code = torch.from_numpy(compress(symbols, k)).to(row.device)
        shorter = len(head) + len(code) < len(row)
        parts = [head, code] if shorter else [row]
        return torch.cat([torch.tensor([CODED if shorter else PLAIN], dtype=torch.uint8, device=row.device), *parts])

    def _plain(self, rows: list[Tensor], d: int) -> list[Tensor]:
        plain = []
        for i, row in enumerate(rows):
            with naming(i):
                plain.append(self._plain_row(row, d))
        return plain

    def _plain_row(self, row: Tensor, d: int) -> Tensor:
        if row.dtype != torch.uint8 or row.dim() != 1 or not len(row) or row[0] > CODED:
            raise PayloadError("not an entropy-coded row of bytes")
        if row[0] == PLAIN:
            return row[1:]
        k, count = self.codec.k, self.codec.symbols(d)
        head = row[1 : 1 + self.codec.length(d) - k * bits.packed_length(count)]
        symbols = decompress(row[1 + len(head) :].cpu().numpy(), count, k)
        planes = bits.pack_symbols(torch.from_numpy(symbols)[None].to(row.device), k)[0]
        return torch.cat([head, planes])


def compress(symbols: NDArray[np.integer], k: int) -> Bytes:
    """Code symbols [m] from 0 to 2^k − 1 in near m H / 8 bytes, H their entropy.

    The symbols are cut into blocks of 2^(14+k), so that frequencies may differ between the tensors of a model. First
    come the frequencies of every block, four bytes each but for the last symbol's, then the words of the coder.
    """
    coder = constriction.stream.stack.AnsCoder()
    tables = []
    for block in reversed(_blocks(symbols.astype(np.int32), k)):  # what is coded last is decoded first
        counts = np.bincount(block, minlength=2**k)
        coder.encode_reverse(block, _model(counts))
        tables.append(counts[:-1])
    head = np.concatenate(tables[::-1]).astype("<u4")
    return np.concatenate([head.view(np.uint8), coder.get_compressed().astype("<u4").view(np.uint8)])


def decompress(code: Bytes, m: int, k: int) -> NDArray[np.int32]:
    """The m symbols that were coded. Raises PayloadError if no m symbols have this code."""
    symbols = np.empty(m, dtype=np.int32)
    blocks = _blocks(symbols, k)
    start = 4 * len(blocks) * (2**k - 1)
    if len(code) < start or len(code) % 4:
        raise PayloadError(f"{len(code)} bytes of entropy code; expected {start} and whole words")
    words = np.frombuffer(code.tobytes(), dtype="<u4").astype(np.uint32)
    head = words[: start // 4].astype(np.int64).reshape(len(blocks), -1)
    try:
        coder = constriction.stream.stack.AnsCoder(words[start // 4 :])
    except ValueError:  # the last word is zero
        raise PayloadError("the entropy code ends in an empty word") from None
    for block, table in zip(blocks, head, strict=True):
        counts = np.append(table, len(block) - table.sum())
        if counts[-1] < 0:
            raise PayloadError("frequencies exceed the number of symbols")
        block[:] = coder.decode(_model(counts), len(block))
        if not np.array_equal(np.bincount(block, minlength=2**k), counts):
            raise PayloadError("the entropy code does not have the frequencies that it states")
    if not coder.is_empty():
        raise PayloadError("the entropy code has more words than symbols")
    return symbols


def _blocks(symbols: NDArray[np.int32], k: int) -> list[NDArray[np.int32]]:
    return np.split(symbols, range(2 ** (14 + k), len(symbols), 2 ** (14 + k)))


def _model(counts: NDArray[np.int64]) -> constriction.stream.model.Categorical:
    return constriction.stream.model.Categorical(counts / counts.sum(), perfect=False)
