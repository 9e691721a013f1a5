"""A live line per run: round, accuracy, uplink so far, time left."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY = 15.0  # seconds between lines where there is no terminal to draw on


class RoundProgress:
    """Shows a run as it goes: a bar on a terminal, now and then a line elsewhere."""

    def __init__(self, label: str, rounds: int, done: int):
        self._label, self._rounds = label, rounds
        self._console = Console(stderr=True)
        self._live = self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=24),
            TextColumn("round {task.completed}/{task.total}"),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._live,
        )
        self._task = self._bar.add_task(label, total=rounds, completed=done, metrics="")
        self._printed = time.monotonic()

    def __enter__(self) -> RoundProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, t: int, row: dict[str, Any] | None, uplink_bits: float) -> None:
        """A round is done; `row` is its line of metrics.csv if it was evaluated."""
        metrics = f"uplink {bits_text(uplink_bits)}"
        if row is not None:
            metrics = f"{headline(row)}  {metrics}"
            self._bar.update(self._task, completed=t, metrics=metrics)
        else:
            self._bar.update(self._task, completed=t)
        if not self._live and (t == self._rounds or time.monotonic() - self._printed > PLAIN_EVERY):
            self._printed = time.monotonic()
            print(f"{self._label}: round {t}/{self._rounds}  {metrics}", file=sys.stderr, flush=True)


def headline(row: dict[str, Any]) -> str:
    """The number of a row that a person looks at first."""
    if row.get("test_accuracy") is not None:
        return f"accuracy {float(row['test_accuracy']):6.2%}"
    return f"objective {float(row['objective']):.6g}"


def bits_text(bits: float) -> str:
    """Bits with a decimal prefix: ``1.27 Gbit``."""
    for prefix in ("", "k", "M", "G", "T"):
        if bits < 1000:
            return f"{bits:.3g} {prefix}bit"
        bits /= 1000
    return f"{bits:.3g} Pbit"
