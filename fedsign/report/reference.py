"""A paper's own numbers and statements: ``results/reference/<paper>/<item>.csv``.

Columns: ``method`` and dotted keys of the config (empty where a key does not matter), ``metric``, ``value`` (accuracies
in per cent; empty where the paper says "not reached"), ``std`` and ``statement``, the last two if needed.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedsign.errors import DataError
from fedsign.report import labels

OWN = ("metric", "value", "std", "statement")


@dataclass(frozen=True)
class Published:
    """A row.

    Attributes:
        where: the file and the line, for a message.
        keys: to their values as text, without empty ones.
        metric: its name; empty in a row that is a statement alone.
        value: NaN where the paper says "not reached".
        std: NaN where the paper gives none.
        printed: value and deviation as the paper prints them.
        statement: what the paper says, or why there is no such run; or empty.
    """

    where: str
    keys: dict[str, str]
    metric: str
    value: float
    std: float
    printed: str
    statement: str

    def describes(self, values: Mapping[str, Any]) -> bool:
        """Whether all its keys have these values; a key that is missing there has none."""
        return all(same(text, values.get(key)) for key, text in self.keys.items())


def same(text: str, value: Any) -> bool:
    """Whether a cell of the file means a value of the config; numbers are compared as numbers."""
    if value is None:
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return math.isclose(float(text), value, rel_tol=1e-9)
        except ValueError:
            return False
    return text == labels.plain(value)


def path_of(item: str, results: Path) -> Path | None:
    """The file of an item; of a part of a figure (``figure4c``) it may be that of the whole."""
    for name in (item, re.sub(r"(?<=\d)[a-z]$", "", item)):
        path = results / "reference" / f"{name}.csv"
        if path.is_file():
            return path
    return None


def read(path: Path) -> list[Published]:
    """All rows. Raises DataError naming the file and the row."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if missing := {"metric", "value"} - {*columns}:
            raise DataError(f"{path}: has no column {', '.join(sorted(missing))}")
        return [_row(path, reader.line_num, row) for row in reader]


def _row(path: Path, line: int, row: Mapping[str, str | None]) -> Published:
    where = f"{path}, line {line}"
    if None in row or None in row.values():
        raise DataError(f"{where}: has another number of cells than the head")
    cells = {key: (text or "").strip() for key, text in row.items()}
    name, statement = cells["metric"], cells.get("statement", "")
    if not name and not statement:
        raise DataError(f"{where}: has neither a metric nor a statement")
    keys = {key: text for key, text in cells.items() if text and key not in OWN}
    value, std = cells["value"], cells.get("std", "")
    printed = f"{value} ± {std}" if std else value or "not reached"
    return Published(where, keys, name, _number(where, value), _number(where, std), printed, statement)


def _number(where: str, text: str) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        raise DataError(f"{where}: {text} is not a number") from None
