"""CSV files that grow by a row as a round finishes."""

from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

from fedsign.durable import replacing, sync
from fedsign.errors import FedsignError


class Table:
    """A CSV file whose columns are those of its first row. A row is in the file, whole, when `append` returns."""

    def __init__(self, path: Path, keep_through: int, every: int = 1):
        """Open a table, keeping the rows whose ``round`` is at most `keep_through` (0: start anew).

        Raises:
            FedsignError: a row to keep is not there, of which there is one `every` so many rounds; nothing is written.
            OSError: it cannot be read or written.
        """
        self.path = path
        columns, rows = _read(path)
        self.rows = [row for row in rows if int(row["round"]) <= keep_through]
        if missing := {*range(every, keep_through + 1, every)} - {int(row["round"]) for row in self.rows}:
            done = f"round {min(missing)} is missing, though a checkpoint has done {keep_through}"
            raise FedsignError(f"{path}: {done}; resume=never starts over")
        self._columns = columns if self.rows else None
        lines = [self._line(columns), *(self._line(row.values()) for row in self.rows)] if self.rows else []
        with replacing(path) as file:
            file.write(b"".join(lines))

    def append(self, row: dict[str, Any]) -> None:
        """Write a row; missing columns stay empty.

        Raises:
            ValueError: the first row lacks one of the columns.
            OSError: it cannot be written; the file is as it was.
        """
        columns = self._columns or list(row)
        if unknown := row.keys() - columns:
            raise ValueError(f"{self.path}: columns that the first row lacks: {', '.join(sorted(unknown))}")
        line = self._line(row.get(column) for column in columns)
        self._write(line if self._columns else self._line(columns) + line)
        self._columns = columns
        self.rows.append(row)

    def sync(self) -> None:
        """Bring the rows to the disk. Raises OSError."""
        sync(self.path)

    def _write(self, data: bytes) -> None:
        with self.path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(size)
                raise

    @staticmethod
    def _line(values: Any) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue().encode()


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Columns and rows of a table up to the first line that is not whole: a run may have died while it wrote."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line end was cut
    except FileNotFoundError:
        return [], []
    csv.field_size_limit(2**31 - 1)  # a cohort may be large
    records = csv.reader(line.decode(errors="replace") for line in lines)
    columns: list[str] = []
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(csv.Error):
        columns = next(records, [])
        for values in records:
            row = dict(zip(columns, values, strict=False))
            if len(values) != len(columns) or not row.get("round", "").isdecimal():
                break
            rows.append(row)
    return columns, rows
