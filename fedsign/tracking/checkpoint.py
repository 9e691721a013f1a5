"""Checkpoints: one npz file each, written beside its final name and renamed; the last two are kept."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEPT = 2


@dataclass(frozen=True)
class Snapshot:
    """Everything that a run needs to go on after a round.

    Attributes:
        t: rounds done.
        server: the method's server state, name to [d].
        tail: the dense tail [tail].
        slots: current slot of every client's state row, int8 [clients].
        counters: cumulative bits and seconds.
    """

    t: int
    server: dict[str, Tensor]
    tail: Tensor
    slots: np.ndarray
    counters: dict[str, float]


def save(folder: Path, snapshot: Snapshot) -> None:
    """Write ``round_<t>.npz`` atomically and drop all but the last two checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {f"server.{k}": v.cpu().numpy() for k, v in snapshot.server.items()}
    arrays |= {f"counter.{k}": np.float64(v) for k, v in snapshot.counters.items()}
    arrays |= {"t": np.int64(snapshot.t), "tail": snapshot.tail.cpu().numpy(), "slots": snapshot.slots}
    path = folder / f"round_{snapshot.t:06d}.npz"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, digest=_digest(arrays), **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in _files(folder)[:-KEPT]:
        old.unlink()


def load(folder: Path, device: torch.device) -> Snapshot | None:
    """The newest checkpoint that reads back whole (by its digest), or None; damaged ones are deleted with a warning."""
    return next(_whole(folder, device), None)


def older_slots(folder: Path, t: int) -> np.ndarray | None:
    """The slot table of the newest whole checkpoint of a round before t."""
    return next((s.slots for s in _whole(folder, torch.device("cpu")) if s.t < t), None)


def _whole(folder: Path, device: torch.device) -> Iterator[Snapshot]:
    for path in reversed(_files(folder)):
        try:
            snapshot = _read(path, device)
        except (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            warnings.warn(f"checkpoint {path} is damaged ({error}); using an older one", stacklevel=3)
            path.unlink()
        else:
            yield snapshot


def _read(path: Path, device: torch.device) -> Snapshot:
    with np.load(path, allow_pickle=False) as file:
        arrays = {k: file[k] for k in file.files}
    if not np.array_equal(arrays.pop("digest"), _digest(arrays)):
        raise ValueError("its digest is another")
    return Snapshot(
        t=int(arrays["t"]),
        server=_tensors(arrays, "server.", device),
        tail=torch.from_numpy(arrays["tail"]).to(device),
        slots=arrays["slots"],
        counters={k.removeprefix("counter."): float(v) for k, v in arrays.items() if k.startswith("counter.")},
    )


def _digest(arrays: Mapping[str, Any]) -> np.ndarray:
    """SHA-256 of names, types and contents, uint8 [32]; the zip's own checksums leave the names out."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def clear(folder: Path) -> None:
    """Forget all checkpoints."""
    for path in _files(folder):
        path.unlink()


def _tensors(arrays: dict[str, np.ndarray], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): torch.from_numpy(v).to(device) for k, v in arrays.items() if k.startswith(prefix)}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("round_*.npz"))
