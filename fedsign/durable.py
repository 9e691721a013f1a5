"""Files that are whole or not there, and npz files that tell when they are damaged."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

DIGEST = 32  # bytes of a SHA-256
BLOCK = 2**20


@contextlib.contextmanager
def replacing(path: Path, temporary: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file, readable too, that takes its name when the block ends and it is on the disk.

    Whatever happens in between, a reader finds the old file or the new one. `temporary` is where it is written, by
    default beside its name; nothing is left there after an error.
    """
    temporary = temporary or path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync(path: Path) -> None:
    """Bring what was written to a file to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: a renamed file is only then safe from a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no such thing
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is never seen half-written."""
    with replacing(path) as file:
        file.write(text.encode())


def save_npz(path: Path, arrays: Mapping[str, Any], temporary: Path | None = None) -> None:
    """Write arrays as an npz file followed by its SHA-256; `numpy.load` reads it as any other."""
    with replacing(path, temporary) as file:
        np.savez(file, **arrays)
        size = file.seek(0, os.SEEK_END)
        file.write(_digest(file, size))


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """Read what `save_npz` wrote; nothing in it is unpickled.

    Raises:
        ValueError: it is not that, to the last bit.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - DIGEST
        if size < 0 or _digest(file, size) != file.read():
            raise ValueError("its checksum does not match")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _digest(file: BinaryIO, size: int) -> bytes:
    """SHA-256 of the first `size` bytes; the file is left there."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0 and (block := file.read(min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.digest()
