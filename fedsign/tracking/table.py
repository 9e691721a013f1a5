"""CSV files that grow by a row as a round finishes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


class Table:
    """A CSV file whose columns are those of its first row. Every row is on disk when `append` returns."""

    def __init__(self, path: Path, keep_through: int):
        """Open a table, keeping the rows whose ``round`` is at most `keep_through` (0: start anew)."""
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._columns: list[str] | None = None
        kept = [row for row in _read(path) if int(row["round"]) <= keep_through] if keep_through else []
        with path.open("w", newline=""):
            pass
        for row in kept:
            self.append(row)

    def append(self, row: dict[str, Any]) -> None:
        """Write a row; missing columns stay empty. Raises ValueError on a column that the first row lacks."""
        new = self._columns is None
        self._columns = self._columns or list(row)
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append(row)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values() and row["round"]]
