"""What every codec does: rows of values to rows of bytes, and back."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fedsign.errors import NotFiniteError, PayloadError
from fedsign.local.streams import Streams


class Codec(ABC):
    """Values [n, d] to n rows of bytes, one per client, and back. Lengths are exact: 8 bits a byte of the rows.

    Attributes:
        k: bits of a symbol, where a row ends in as many planes of packed bits; 0 where it does not.
    """

    k: int = 0

    def symbols(self, d: int) -> int:
        """How many symbols the planes hold: one a value, unless a codec says otherwise."""
        return d

    encode: Callable[..., list[Tensor]]  # what is encoded, and with which draws, differs from codec to codec

    @abstractmethod
    def length(self, d: int) -> int:
        """Bytes that a row of d values takes."""

    def unpadded_bits(self, d: int) -> int:
        """Bits of a row before it is padded to whole bytes: what papers count."""
        return 8 * self.length(d)

    def write(self, x: Tensor, streams: Streams) -> list[Tensor]:
        """Rows of the legal messages nearest to any finite values [n, d]; `encode` where it takes any such values.

        Raises:
            PayloadError: a value is not finite.
        """
        return self.encode(x, streams)

    @abstractmethod
    def decode(self, rows: list[Tensor], d: int) -> Tensor:
        """The values [n, d] that the rows carry, float32.

        Raises:
            PayloadError: a row has the wrong length or bytes that no client could have sent.
        """

    def mean(self, rows: list[Tensor], d: int, weights: Tensor | None = None) -> Tensor:
        """Mean of the decoded rows, [d]; weighted if weights [n] that sum to one are given."""
        return mean_of_each([self] * len(rows), rows, d, weights)

    def stacked(self, rows: list[Tensor], d: int) -> Tensor:
        """The rows as one uint8 matrix [n, length], each of the right length. Raises PayloadError."""
        self.check_lengths(rows, d)
        return torch.stack(rows)

    def check_lengths(self, rows: list[Tensor], d: int) -> None:
        """Refuse rows of another length or type. Raises PayloadError."""
        expected = self.length(d)
        for i, row in enumerate(rows):
            if row.dtype != torch.uint8 or row.shape != (expected,):
                got = f"{tuple(row.shape)} {str(row.dtype).removeprefix('torch.')}"
                raise PayloadError(f"payload is {got}; expected {expected} bytes for {d} values", i)


def mean_of_each(codecs: Sequence[Codec], rows: list[Tensor], d: int, weights: Tensor | None = None) -> Tensor:
    """Mean [d] of rows that have a codec each; weighted if weights [n] that sum to one are given.

    Rows are decoded and added one by one, in order, whatever the back end: the sum has one rounding, and integers
    below 2^24 are added exactly.

    Raises:
        PayloadError: a codec refuses its row, which is named.
    """
    total = torch.zeros(d, dtype=torch.float32, device=rows[0].device)
    for i, (codec, row) in enumerate(zip(codecs, rows, strict=True)):
        with naming(i):
            value = codec.decode([row], d)[0]
        total += value if weights is None else value * weights[i]
    return total / len(rows) if weights is None else total


@contextlib.contextmanager
def naming(row: int) -> Iterator[None]:
    """Within, a payload that is refused is that row."""
    try:
        yield
    except PayloadError as error:
        raise type(error)(str(error), row) from None


def finite(x: Tensor) -> Tensor:
    """Return x [n, d] unchanged. Raises NotFiniteError with the row if it has NaN or infinite entries."""
    if not x.is_meta and not torch.isfinite(x.sum()):  # the sum is cheap, and not finite if an entry is not
        ok = torch.isfinite(x).all(dim=1)
        if not ok.all():
            raise NotFiniteError("values to send are NaN or infinite", int((~ok).nonzero()[0, 0]))
    return x


def may_hold(mask: Tensor) -> bool:
    """Whether any entry holds, where looking is free: on a CPU. Elsewhere yes, rather than wait for the device."""
    return mask.device.type != "cpu" or bool(mask.any())


def norm(x: Tensor) -> Tensor:
    """ℓ2 norm of every row of x [n, d], [n, 1], whose squares need not lie in the range of float32."""
    largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True)
    return largest * torch.linalg.vector_norm(x / nonzero(largest), dim=1, keepdim=True)


def nonzero(x: Tensor) -> Tensor:
    """Numbers x >= 0 to divide by, where 0 / 0 is to be 0."""
    return x.clamp(min=torch.finfo(torch.float32).tiny)
