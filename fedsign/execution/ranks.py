"""Ranks: the processes that share the cohorts of a run.

Every rank runs the same round loop. It trains its share of the cohort, hands every other rank the bytes of its
clients, and takes the same server step as all of them. The bytes are gathered in the order of the cohort, so that
nothing depends on how many ranks there are.

On one machine `launch` forks the ranks: data that are loaded by then lie in memory once, and the bytes pass through
memory that they share. Under ``torchrun`` the ranks are there already, on one machine or many, and the bytes pass
through torch.distributed: gloo between CPUs, NCCL between GPUs.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from fedsign.errors import FedsignError
from fedsign.execution.shared_memory import SharedMemory

ALIGNMENT = 8  # bytes
CPU = torch.device("cpu")
LONGEST_WAIT = timedelta(days=30)  # for a rank that trains; one that dies is noticed at once

Rows = dict[str, list[Tensor]]  # name to one row of bytes per client, uint8 [length]


class LostRankError(FedsignError):
    """A rank is gone, and the others cannot go on without it."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that share a run.

    Attributes:
        rank: of this process, from 0; rank 0 writes the run directory.
        size: number of ranks.
        machine, machines: where this process is among the machines of the run.
        shared: memory through which the ranks of one machine pass bytes; None for torch.distributed.
        device: where the rows lie.
        group: of torch.distributed; None is the default one.
    """

    rank: int = 0
    size: int = 1
    machine: int = 0
    machines: int = 1
    shared: SharedMemory | None = None
    device: torch.device = CPU
    group: distributed.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def share(self, cohort: Sequence[int], samples: Sequence[int], pinned: bool) -> list[int]:
        """The clients of the cohort that this rank trains, in the cohort's order.

        Longest first, each to the rank with the fewest samples so far (Graham, 1969).

        Args:
            cohort: client ids.
            samples: training samples of each.
            pinned: clients keep state, which lies on the machine of their id.
        """
        load = [0] * self.size
        mine = set()
        per_machine = self.size // self.machines
        for n, client in sorted(zip(samples, cohort, strict=True), key=lambda pair: (-pair[0], pair[1])):
            machine = client % self.machines
            allowed = range(machine * per_machine, (machine + 1) * per_machine) if pinned else range(self.size)
            rank = min(allowed, key=lambda r: (load[r], r))
            load[rank] += n
            if rank == self.rank:
                mine.add(client)
        return [client for client in cohort if client in mine]

    def gather(
        self, cohort: Sequence[int], mine: list[int], rows: Rows, error: str | None = None
    ) -> tuple[list[int], Rows]:
        """Bring together what the ranks have of their clients.

        Args:
            cohort: client ids.
            mine: those of whom this rank has rows.
            rows: one row per client of `mine`, in that order.
            error: why this rank has none to give.

        Returns:
            The clients of the cohort of whom there are rows and these rows, both in the cohort's order, on every rank.

        Raises:
            FedsignError: the error of the lowest rank that gave one.
            LostRankError: another rank is gone.
        """
        if self.size == 1:
            if error is not None:
                raise FedsignError(error)
            return mine, rows
        given = [row for column in rows.values() for row in column]
        note = {"mine": mine, "names": list(rows), "error": error}
        received = self._exchange(note, given)
        for other, _ in received:
            if other["error"] is not None:
                raise FedsignError(other["error"])
        return _merged(cohort, received)

    def each(self, n: int, measure: Callable[[int], Tensor]) -> list[Tensor]:
        """``[measure(0), ..., measure(n - 1)]``, float64 vectors of one length, each computed by one rank alone."""
        mine = {i: measure(i).double() for i in range(self.rank, n, self.size)}
        if self.size == 1:
            return list(mine.values())
        received = self._exchange({"mine": list(mine)}, [value.view(torch.uint8) for value in mine.values()])
        found = {
            i: row.view(torch.float64) for note, rows in received for i, row in zip(note["mine"], rows, strict=True)
        }
        return [found[i] for i in range(n)]

    def agree(self, value: int) -> int:
        """The largest of the ranks' values; no rank goes on before all have given theirs."""
        if self.size == 1:
            return value
        return max(note["value"] for note, _ in self._exchange({"value": value}, []))

    def _exchange(self, note: Mapping[str, Any], rows: list[Tensor]) -> list[tuple[dict[str, Any], list[Tensor]]]:
        """What every rank gives: its note and its rows."""
        body = torch.cat([torch.empty(0, dtype=torch.uint8, device=self.device), *(_aligned(row) for row in rows)])
        text = json.dumps({**note, "lengths": [len(row) for row in rows]}).encode()
        head = _aligned(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        lengths = torch.tensor([len(head), len(body)])
        try:
            if self.shared is not None:
                self.shared.write(self.rank, [head, body])
                every = self._all(lengths)
                read = [self.shared.read(r, n.tolist()) for r, n in enumerate(every)]
                self.shared.turn()
            else:
                every = self._all(lengths)
                heads, bodies = (self._padded(t, [int(n[i]) for n in every]) for i, t in enumerate((head, body)))
                read = list(zip(heads, bodies, strict=True))
        except RuntimeError as error:
            raise LostRankError(f"a process of this run is gone ({str(error).splitlines()[0]})") from error
        notes = [json.loads(bytes(head.numpy()).rstrip(b"\0")) for head, _ in read]
        return [(note, _split(body, note["lengths"])) for note, (_, body) in zip(notes, read, strict=True)]

    def _padded(self, mine: Tensor, lengths: list[int]) -> list[Tensor]:
        """All ranks' vectors of these lengths, by collectives that want equal ones."""
        padded = torch.nn.functional.pad(mine, (0, max(lengths) - len(mine)))
        return [row[:n] for row, n in zip(self._all(padded), lengths, strict=True)]

    def _all(self, mine: Tensor) -> list[Tensor]:
        out = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(out, mine, group=self.group)
        return out


@contextlib.contextmanager
def from_environment(device: torch.device) -> Iterator[Ranks]:
    """This process, of that device, among those that ``torchrun`` started, within their group; alone without it."""
    if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    rank, size = distributed.get_rank(), distributed.get_world_size()
    per_machine = int(os.environ["LOCAL_WORLD_SIZE"])
    try:
        yield Ranks(rank, size, rank // per_machine, size // per_machine, device=device)
    finally:
        distributed.destroy_process_group()


def _merged(cohort: Sequence[int], received: list[tuple[dict[str, Any], list[Tensor]]]) -> tuple[list[int], Rows]:
    by_client: dict[int, dict[str, Tensor]] = {}
    for note, rows in received:
        given = iter(rows)
        for name in note["names"]:
            for client in note["mine"]:
                by_client.setdefault(client, {})[name] = next(given)
    kept = [client for client in cohort if client in by_client]
    return kept, {name: [by_client[client][name] for client in kept] for name in (by_client[kept[0]] if kept else ())}


def _aligned(row: Tensor) -> Tensor:
    """A row of bytes, padded so that the one after it can be read as wider values."""
    return torch.nn.functional.pad(row, (0, -len(row) % ALIGNMENT))


def _split(body: Tensor, lengths: Sequence[int]) -> list[Tensor]:
    """The rows of these lengths that were aligned and joined."""
    parts = body.split([n + -n % ALIGNMENT for n in lengths]) if lengths else ()
    return [part[:n] for part, n in zip(parts, lengths, strict=True)]
