"""Checkpoints: one npz file each, written beside its final name and renamed; the last two are kept."""

from __future__ import annotations

import os
import warnings
import zipfile
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
    path = folder / f"round_{snapshot.t:06d}.npz"
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, t=snapshot.t, tail=snapshot.tail.cpu().numpy(), slots=snapshot.slots, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in _files(folder)[:-KEPT]:
        old.unlink()


def load(folder: Path, device: torch.device) -> Snapshot | None:
    """The newest checkpoint that reads back whole (zip checksums), or None; a damaged one is passed with a warning."""
    for path in reversed(_files(folder)):
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {k: file[k] for k in file.files}
            return Snapshot(
                t=int(arrays["t"]),
                server=_tensors(arrays, "server.", device),
                tail=torch.from_numpy(arrays["tail"]).to(device),
                slots=arrays["slots"],
                counters={k[8:]: float(v) for k, v in arrays.items() if k.startswith("counter.")},
            )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            warnings.warn(f"checkpoint {path} is damaged ({error}); using an older one", stacklevel=2)
    return None


def clear(folder: Path) -> None:
    """Forget all checkpoints."""
    for path in _files(folder):
        path.unlink()


def _tensors(arrays: dict[str, np.ndarray], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): torch.from_numpy(v).to(device) for k, v in arrays.items() if k.startswith(prefix)}


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("round_*.npz"))
