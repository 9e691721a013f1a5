"""Memory that the ranks of one machine share: what a rank writes, the others read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class SharedMemory:
    """Two files in memory per rank, used in turn.

    A rank may write the next message while another still reads the last one; it writes over a message only after every
    rank has announced the one that followed.
    """

    def __init__(self, ranks: int):
        """Open the files; processes that are forked from this one share them."""
        self._files = [[_file() for _ in range(ranks)] for _ in range(2)]
        self._turn = 0

    def write(self, rank: int, parts: Sequence[Tensor]) -> None:
        """Leave the message of a rank, uint8 vectors one after the other. Raises OSError."""
        at = 0
        for part in parts:
            data = part.cpu().numpy().data
            while len(data):
                written = os.pwrite(self._files[self._turn][rank], data, at)
                data, at = data[written:], at + written

    def read(self, rank: int, lengths: Sequence[int]) -> tuple[Tensor, ...]:
        """The message of a rank: vectors of these lengths."""
        whole = np.empty(sum(lengths), dtype=np.uint8)
        at = 0
        while at < len(whole):
            got = os.preadv(self._files[self._turn][rank], [whole[at:].data], at)
            if got == 0:
                raise OSError("shared memory ends before the message does")
            at += got
        return torch.from_numpy(whole).split(list(lengths))

    def turn(self) -> None:
        """The next message goes to the other file."""
        self._turn = 1 - self._turn

    def close(self) -> None:
        """Give the memory back."""
        for descriptor in (d for turn in self._files for d in turn):
            os.close(descriptor)


def _file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fedsign")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
