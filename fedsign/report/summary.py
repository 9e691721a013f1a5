"""What a run or a sweep ends with: a table on the terminal and a plot beside it."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from fedsign.report import runs as finished
from fedsign.report import table as tables
from fedsign.report.figure import accuracy_against_uplink
from fedsign.tracking.progress import bits_text

PLOT = "accuracy_vs_uplink.png"
TABLE = "comparison.csv"


def report(paths: Sequence[Path], folder: Path) -> str:
    """Summarise finished runs.

    Writes the plot, and the comparison as CSV, into `folder`; returns what to print.
    """
    runs = [run for path in dict.fromkeys(paths) if (run := finished.read(path)) is not None]
    groups = finished.groups(runs)
    if all("best_accuracy" in run.summary for run in runs):
        target = tables.target_accuracy(groups)
        comparison = tables.comparison(groups, target)
        accuracy_against_uplink(groups, target, folder / PLOT)
        shown = tables.readable(comparison, target)
    else:
        comparison = objectives(groups)
        accuracy_against_uplink(groups, None, folder / PLOT)
        shown = comparison.map(lambda value: f"{value:.6g}")
        shown["total uplink"] = [bits_text(bits) for bits in comparison["total uplink"]]
    comparison.to_csv(folder / TABLE)
    return f"{_text(shown)}\nplot  {folder / PLOT}"


def objectives(groups: dict[str, list[finished.Run]]) -> pd.DataFrame:
    """The comparison of runs on the consensus problem."""
    rows = {
        label: {
            "final objective": sum(run.summary["final_objective"] for run in runs) / len(runs),
            "final distance": sum(run.summary["final_distance"] for run in runs) / len(runs),
            "total uplink": sum(run.summary["uplink_bits"] for run in runs) / len(runs),
        }
        for label, runs in groups.items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "method"
    return table


def _text(shown: pd.DataFrame) -> str:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(str(shown.index.name))
    for column in shown.columns:
        table.add_column(column, justify="right")
    for label, row in shown.iterrows():
        table.add_row(str(label), *map(str, row))
    console = Console(file=StringIO(), width=160, color_system=None)
    console.print(table)
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()).strip("\n")
