"""Checkpoints: one file each that is whole or not there; the last two are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedsign.durable import load_npz, save_npz, sync_folder
from fedsign.errors import FedsignError, warn

KEPT = 2


@dataclass(frozen=True)
class Snapshot:
    """Everything that a run needs to go on after a round.

    Attributes:
        t: rounds done.
        stopped: whether a target of ``stop.*`` was reached in round t.
        server: the method's server state, name to [d].
        tail: the dense tail [tail].
        slots: current slot of every client's state row, int8 [clients].
        counters: cumulative bits and seconds.
    """

    t: int
    stopped: bool
    server: dict[str, Tensor]
    tail: Tensor
    slots: np.ndarray
    counters: dict[str, float]


class Checkpoints:
    """The files ``round_<t>.npz`` of a run.

    A file that cannot be used stays where it is until newer ones are on the disk.
    """

    def __init__(self, folder: Path):
        """Nothing is read or written yet."""
        self.folder = folder
        self._whole: list[Path] = []  # those that can be gone back to, oldest first

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, and when it is on the disk drop all but the last two. Raises OSError."""
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            sync_folder(self.folder.parent)
        arrays: dict[str, Any] = {f"server.{k}": v.cpu().numpy() for k, v in snapshot.server.items()}
        arrays |= {f"counter.{k}": np.float64(v) for k, v in snapshot.counters.items()}
        arrays |= {"t": np.int64(snapshot.t), "stopped": np.bool_(snapshot.stopped)}
        arrays |= {"tail": snapshot.tail.cpu().numpy(), "slots": snapshot.slots}
        path = self.folder / f"round_{snapshot.t:06d}.npz"
        save_npz(path, arrays, temporary=self.folder / "writing.tmp")
        self._whole = [*(old for old in self._whole if old != path), path][-KEPT:]
        for old in set(self._files()) - set(self._whole):
            old.unlink()

    def load(self, device: torch.device, intact: Callable[[np.ndarray], bool]) -> list[Snapshot]:
        """The last two checkpoints that can be gone back to, newest first; for one that cannot, there is a warning.

        Args:
            device: where their tensors go.
            intact: says whether the rows that a table of slots refers to are there.

        Raises:
            FedsignError: there are checkpoints, and none can be used.
        """
        found: list[Snapshot] = []
        files = self._files()
        for path in reversed(files):
            try:
                snapshot = _read(path, device)
                if not found and not intact(snapshot.slots):
                    raise ValueError("the clients' state files it refers to are damaged or missing")
            except (OSError, ValueError, KeyError) as error:
                warn(f"checkpoint {path} is damaged ({error}); using an older one")
            else:
                found.append(snapshot)
                self._whole.insert(0, path)
            if len(found) == KEPT:  # an older one may be left of a kill before it was deleted
                break
        if files and not found:
            raise FedsignError(f"{self.folder}: no checkpoint can be used; resume=never starts over")
        return found

    def clear(self) -> None:
        """Forget all checkpoints."""
        for path in self._files():
            path.unlink()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("round_*.npz"))


def _read(path: Path, device: torch.device) -> Snapshot:
    arrays = load_npz(path)
    return Snapshot(
        t=int(arrays["t"]),
        stopped=bool(arrays["stopped"]),
        server=_tensors(arrays, "server.", device),
        tail=torch.from_numpy(arrays["tail"]).to(device),
        slots=arrays["slots"],
        counters={k.removeprefix("counter."): float(v) for k, v in arrays.items() if k.startswith("counter.")},
    )


def _tensors(arrays: dict[str, np.ndarray], prefix: str, device: torch.device) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): torch.from_numpy(v).to(device) for k, v in arrays.items() if k.startswith(prefix)}
