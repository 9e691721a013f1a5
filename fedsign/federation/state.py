"""Per-client persistent state: one row per client and name, on disk, created when a client first takes part.

A row lives in one of three slots of a sparse file. Writing goes to a slot that no kept checkpoint refers to, so a
checkpoint is only the table of current slots, and going back to it finds every row as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedsign.errors import FedsignError

SLOTS = 3  # the current row and those of the two checkpoints that are kept


class ClientStates:
    """Rows of float32 [d] per client for each state name; until first written, those of `start`, or zero."""

    def __init__(
        self, folder: Path, names: tuple[str, ...], clients: int, d: int, start: Mapping[str, Tensor] | None = None
    ):
        """Open or create the files ``<folder>/state_<name>.f32`` (sparse; only rows written take space)."""
        self.start = {name: row.cpu().numpy() for name, row in (start or {}).items()}
        self.folder = folder
        self.names = names
        self.d = d
        self.current = np.full(clients, -1, dtype=np.int8)  # slot of each client's row; -1: never written
        self._kept: list[np.ndarray] = []
        self._rows: dict[str, np.memmap] = {}
        if names:
            folder.mkdir(parents=True, exist_ok=True)
        self._new = False
        for name in names:
            path = folder / f"state_{name}.f32"
            mode: Literal["r+", "w+"] = (
                "r+" if path.exists() and path.stat().st_size == clients * SLOTS * d * 4 else "w+"
            )
            self._new |= mode == "w+"
            self._rows[name] = np.memmap(path, dtype=np.float32, mode=mode, shape=(clients, SLOTS, d))

    def read(self, clients: list[int], device: torch.device) -> dict[str, Tensor]:
        """State of the given clients: name to float32 [n, d]."""
        out = {}
        for name in self.names:
            rows = np.zeros((len(clients), self.d), dtype=np.float32)
            rows[:] = self.start.get(name, 0)
            for i, client in enumerate(clients):
                if (slot := self.current[client]) >= 0:
                    rows[i] = self._rows[name][client, slot]
            out[name] = torch.from_numpy(rows).to(device)
        return out

    def write(self, clients: list[int], states: dict[str, Tensor]) -> None:
        """Replace the state of the given clients; rows [n, d] of every name."""
        if not self.names:
            return
        slots = [self._free_slot(client) for client in clients]
        for name in self.names:
            rows = states[name].cpu().numpy()
            for i, (client, slot) in enumerate(zip(clients, slots, strict=True)):
                self._rows[name][client, slot] = rows[i]
        self.current[clients] = slots

    def _free_slot(self, client: int) -> int:
        used = {int(table[client]) for table in self._kept}
        return next(slot for slot in range(SLOTS) if slot not in used)

    def commit(self) -> np.ndarray:
        """Make the rows as they are now part of a checkpoint; its slot table is returned. Two are kept."""
        for rows in self._rows.values():
            rows.flush()
        self._kept = [*self._kept[-1:], self.current.copy()]
        self._new = False
        return self.current.copy()

    def restore(self, slots: np.ndarray, older: np.ndarray | None = None) -> None:
        """Go back to a checkpoint's slot table; that of the `older` one that is kept stays protected.

        Raises:
            FedsignError: the rows it refers to are gone.
        """
        if self._new and (slots >= 0).any():
            raise FedsignError(f"{self.folder}: the clients' state files are missing; resume=never starts over")
        self.current = slots.astype(np.int8).copy()
        self._kept = [self.current.copy()] if older is None else [older, self.current.copy()]

    def discard(self) -> None:
        """Delete the files: a finished run needs its clients' state no more."""
        self._rows.clear()
        for name in self.names:
            (self.folder / f"state_{name}.f32").unlink(missing_ok=True)
