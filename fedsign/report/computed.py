"""Items that need no runs: a module computes them from the configs of the preset's grid.

Such a module of this package has the name of a ``report.kind`` and ``table(configs)``, a data frame with a row per
thing; and, if there is something to see, ``draw(table, path)``, which writes a PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fedsign.errors import DataError
from fedsign.presets import Job
from fedsign.report import document, labels, render
from fedsign.report.cells import AGREES, DIFFERS, SHARE
from fedsign.report.reference import Published
from fedsign.tracking.environment import describe

KINDS = ("forward_cost", "histograms", "local_times")
LONGEST = 50  # rows of a table on the page
RULE = f"{AGREES} within {SHARE:.0%} of the paper's value, {DIFFERS} not."


def write(item: str, jobs: Sequence[Job], published: Sequence[Published], base: Path) -> str:
    """Compute an item and write its csv, and its figure if it has one; returns the page.

    Args:
        item: the preset.
        jobs: its grid.
        published: what the paper has.
        base: path of the files, without suffix.

    Raises:
        DataError: a number of the paper belongs to no row of the table.
        FedsignError: what the module raises.
    """
    report = jobs[0].config["report"]
    module = import_module(f"fedsign.report.{report['kind']}")
    table: pd.DataFrame = module.table([job.config for job in jobs])
    table.to_csv(base.with_suffix(".csv"), index=False)
    sections = [_provenance(item)]
    if hasattr(module, "draw"):
        module.draw(table, base.with_suffix(".png"))
        sections.append(f"![{report['title'] or item}]({base.name}.png)")
    numbers = [row for row in published if row.metric]
    homes = [_home(table, row) for row in numbers]
    if len(table) <= LONGEST:
        rows = [[_cell(table, i, str(column), numbers, homes) for column in table.columns] for i in range(len(table))]
        sections += [render.markdown([labels.head(str(c)) for c in table.columns], rows), RULE if numbers else ""]
    sections.append(document.statements(published))
    title = f"{item}: {report['title']}" if report["title"] else item
    return document.page(title, sections)


def _provenance(item: str) -> str:
    made = describe(torch.device("cpu"), 1)
    return "\n".join(
        [
            f"- command: `fedsign-report {item}` (computed when the report is made; nothing is run)",
            f"- commit: {made['git_commit']}",
            f"- hardware: {made['hardware']['device']}",
            f"- torch: {made['versions']['torch']}",
        ]
    )


def _home(table: pd.DataFrame, row: Published) -> int | None:
    """The position of the row of the table that a number belongs to; None for one that its statement explains."""
    records: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    found = [i for i, record in enumerate(records) if row.describes(record)]
    if row.metric not in table or len(found) != 1:
        if row.statement:
            return None
        raise DataError(f"{row.where}: {row.metric} belongs to {len(found)} rows of the table")
    return found[0]


def _cell(table: pd.DataFrame, i: int, column: str, numbers: Sequence[Published], homes: Sequence[int | None]) -> str:
    value = table[column].iloc[i]
    text = f"{value:.4g}" if isinstance(value, float) or column in {row.metric for row in numbers} else str(value)
    for row, home in zip(numbers, homes, strict=True):
        if home == i and row.metric == column:
            mark = AGREES if abs(value - row.value) <= SHARE * abs(row.value) else DIFFERS
            text += f" {mark}<br>paper {row.printed}"
    return text
