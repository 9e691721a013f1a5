"""Seeds in [0, 2^63): 64 bits each."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from fedsign.errors import PayloadError
from fedsign.local.streams import Streams

LENGTH = 8  # bytes


def fresh(streams: Streams) -> list[int]:
    """A seed for every client, drawn anew in every round."""
    return [int(streams.numpy("seed", i).integers(2**63)) for i in range(len(streams.clients))]


def of(x: Tensor) -> int:
    """A seed that is a function of the values x, by their checksum: of the initial model, hence of the run's seed."""
    return zlib.crc32(x.cpu().numpy().tobytes())


def to_bytes(seed: int) -> Tensor:
    """Eight bytes, little endian."""
    return torch.tensor(list(seed.to_bytes(LENGTH, "little")), dtype=torch.uint8)


def from_bytes(data: Tensor) -> int:
    """The seed of eight bytes. Raises PayloadError on a wrong length or a seed of 2^63 or more."""
    if data.dtype != torch.uint8 or data.shape != (LENGTH,):
        raise PayloadError(f"a seed has {data.numel()} bytes; expected {LENGTH}")
    seed = int.from_bytes(bytes(data.tolist()), "little")
    if seed >= 2**63:
        raise PayloadError("a seed is 2^63 or more")
    return seed
