"""Per-client persistent state: one row per client and name, on disk, created when a client first takes part.

A row lives in one of three slots of a sparse file. Writing goes to a slot that no kept checkpoint refers to, so a
checkpoint is only the table of current slots, and going back to it finds every row as it was. Each row is followed by
its checksum. Rows are read and written as files are, not mapped: a full disk is then an error and not a signal.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from fedsign.durable import sync
from fedsign.errors import FedsignError

SLOTS = 3  # the current row and those of the two checkpoints that are kept
CHECKSUM = 4  # bytes of a CRC-32


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
        if names:
            folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            self._path(name).touch()

    def read(self, clients: list[int], device: torch.device) -> dict[str, Tensor]:
        """State of the given clients: name to float32 [n, d].

        Beside the names, ``new`` says who never took part, bool [n].

        Raises:
            FedsignError: a row is not what was written.
        """
        out = {}
        for name in self.names:
            rows = np.empty((len(clients), self.d), dtype=np.float32)
            rows[:] = self.start.get(name, 0)
            with self._path(name).open("rb") as file:
                for i, client in enumerate(clients):
                    if self.current[client] >= 0 and not self._read_row(file, client, self.current[client], rows[i]):
                        raise FedsignError(f"{self._path(name)}: the state of client {client} is damaged")
            out[name] = torch.from_numpy(rows).to(device)
        if self.names:
            out["new"] = torch.from_numpy(self.current[clients] < 0).to(device)
        return out

    def write(self, clients: list[int], states: dict[str, Tensor]) -> None:
        """Replace the state of the given clients; rows [n, d] of every name. Raises OSError."""
        if not self.names:
            return
        slots = [self._free_slot(client) for client in clients]
        for name in self.names:
            rows = np.ascontiguousarray(states[name].cpu().numpy(), dtype=np.float32)
            with self._path(name).open("r+b") as file:
                for client, slot, row in zip(clients, slots, rows, strict=True):
                    self._seek(file, client, slot)
                    file.write(row.data)
                    file.write(_checksum(row))
        self.current[clients] = slots

    def written(self, clients: list[int]) -> None:
        """Take note of the rows of these clients that other processes have written since the last checkpoint."""
        if self.names:
            self.current[clients] = [self._free_slot(client) for client in clients]

    def commit(self) -> np.ndarray:
        """Make the rows as they are now part of a checkpoint; its slot table is returned. Two are kept.

        The rows are on the disk when it returns. Raises OSError.
        """
        for name in self.names:
            sync(self._path(name))
        self._kept = [*self._kept[-1:], self.current.copy()]
        return self.current.copy()

    def intact(self, slots: np.ndarray) -> bool:
        """Whether every row that a checkpoint's slot table refers to is there, as it was written."""
        row = np.empty(self.d, dtype=np.float32)
        if len(slots) != len(self.current):
            return False
        for name in self.names:
            with self._path(name).open("rb") as file:
                for client in np.flatnonzero(slots >= 0).tolist():
                    if not self._read_row(file, client, slots[client], row):
                        return False
        return True

    def restore(self, tables: Sequence[np.ndarray]) -> None:
        """Go back to the first of some checkpoints' slot tables, newest first; those of the others stay protected."""
        self._kept = [table.astype(np.int8) for table in reversed(tables)]
        self.current = self._kept[-1].copy()

    def discard(self) -> None:
        """Delete the files: a finished run needs its clients' state no more."""
        for name in self.names:
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"state_{name}.f32"

    def _free_slot(self, client: int) -> int:
        used = {int(table[client]) for table in self._kept}
        return next(slot for slot in range(SLOTS) if slot not in used)

    def _seek(self, file: BinaryIO, client: int, slot: int) -> None:
        file.seek((client * SLOTS + slot) * (4 * self.d + CHECKSUM))

    def _read_row(self, file: BinaryIO, client: int, slot: int, row: np.ndarray) -> bool:
        """Fill the row [d] from the file; whether it is whole."""
        self._seek(file, client, int(slot))
        return file.readinto(row.data) == row.nbytes and file.read(CHECKSUM) == _checksum(row)  # type: ignore[attr-defined]


def _checksum(row: np.ndarray) -> bytes:
    return zlib.crc32(row.data).to_bytes(CHECKSUM, "little")
