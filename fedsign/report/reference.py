"""A paper's own numbers, beside those of finished runs.

``results/reference/<paper>/<item>.csv`` has the columns ``row`` (a label as the report makes it), ``metric``
(``best_accuracy``, ``final_accuracy``, ``rounds_to_A`` or ``bits_to_A`` with an accuracy A in [0, 1]) and ``paper``
(the published value; empty where the paper says that it was not reached).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedsign.errors import DataError
from fedsign.report.runs import Run


def beside(groups: dict[str, list[Run]], file: Path) -> pd.DataFrame:
    """The paper's table with our values beside it.

    Returns:
        Columns ``row``, ``metric``, ``paper``, ``ours`` (mean over seeds) and ``runs`` (how many; 0 is not run).

    Raises:
        DataError: the file has other columns or an unknown metric.
    """
    table = pd.read_csv(file)
    if list(table.columns) != ["row", "metric", "paper"]:
        raise DataError(f"{file}: has columns {list(table.columns)}; expected row, metric, paper")
    found = [groups.get(str(row), []) for row in table["row"]]
    table["ours"] = [_mean(runs, str(metric), file) for runs, metric in zip(found, table["metric"], strict=True)]
    table["runs"] = [len(runs) for runs in found]
    return table


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The same with words where there is no number."""
    out = table.astype({"paper": object, "ours": object})
    out["paper"] = ["not reached" if math.isnan(value) else f"{value:g}" for value in table["paper"]]
    out["ours"] = [
        "not run" if runs == 0 else "not reached" if math.isnan(value) else f"{value:g}"
        for value, runs in zip(table["ours"], table["runs"], strict=True)
    ]
    return out


def _mean(runs: Sequence[Run], metric: str, file: Path) -> float:
    values = [_value(run, metric, file) for run in runs]
    return sum(values) / len(values) if values else math.nan


def _value(run: Run, metric: str, file: Path) -> float:
    if metric in ("best_accuracy", "final_accuracy"):
        return float(run.summary[metric])
    name, _, target = metric.partition("_to_")
    column = {"rounds": "round", "bits": "uplink_bits"}.get(name)
    if column is None or not target:
        raise DataError(
            f"{file}: no such metric {metric}; allowed: best_accuracy, final_accuracy, rounds_to_A, bits_to_A"
        )
    return run.first(column, float(target))
