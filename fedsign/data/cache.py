"""Arrays that took long to read, kept as one file that loads at once."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedsign import __version__
from fedsign.data.arrays import Array
from fedsign.durable import load_npz, save_npz


def cached(name: str, files: Sequence[Path], read: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
    """What `read` gives, kept under ``$FEDSIGN_CACHE``, else ``~/.cache/fedsign/arrays``.

    The file is named after this version and the sources' paths, sizes and times: what changes is read again. It is
    never seen half-written; one whose checksum does not match is replaced.

    Args:
        name: of the dataset.
        files: the sources that `read` reads.
        read: gives the arrays by name.
    """
    stamps = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(repr((__version__, stamps)).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("FEDSIGN_CACHE") or "~/.cache/fedsign/arrays").expanduser()
    path = folder / f"{name}-{digest}.npz"
    try:
        return load_npz(path)
    except (OSError, ValueError):
        pass  # not there, or damaged
    arrays = dict(read())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_npz(path, arrays, temporary=path.with_name(f"{path.name}.{os.getpid()}.tmp"))
    except OSError as error:
        print(f"dataset {name} is not cached and will be read again: {folder}: {error}", file=sys.stderr)
    return arrays
