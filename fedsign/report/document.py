"""The page of an item: what was run, with what, what it shows, and what the paper says."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from fedsign.report import labels
from fedsign.report.cells import Cell
from fedsign.report.grid import Grid
from fedsign.report.metrics import Metric
from fedsign.report.reference import Published
from fedsign.report.render import markdown
from fedsign.report.runs import Run

NO_RUNS = "- runs: none of"  # in a page that shows nothing of ours


def page(title: str, sections: Iterable[str]) -> str:
    """A page in Markdown; empty sections are left out."""
    return "\n\n".join([f"# {title}", *(section for section in sections if section)]) + "\n"


def title(grid: Grid) -> str:
    """The item, and what the paper's table or figure shows."""
    text = grid.report.get("title")
    return f"{grid.item}: {text}" if text else grid.item


def provenance(grid: Grid) -> str:
    """Command, runs found, commits, seeds, hardware and time, as a list."""
    command = shlex.join(["fedsign", "-m", f"+experiment={grid.item}", *grid.overrides])
    lines = [f"- command: `{command}`", found(grid)]
    if any(setting.changed for setting in grid.settings):
        lines.append(f"- changed from the paper's setting: {shlex.join(grid.overrides)}; agreement is not judged")
    return "\n".join([*lines, *_of_runs(grid.runs)])


def found(grid: Grid) -> str:
    """How many of the grid's runs there are."""
    if not grid.found:
        return f"{NO_RUNS} {grid.size}: not run"
    return f"- runs: {grid.found} of {grid.size}" + (
        f", {grid.others} of them under other seeds" if grid.others else ""
    )


def caption(metrics: Sequence[Metric]) -> str:
    """What the numbers are, in words."""
    words = list(dict.fromkeys(one.words for one in metrics))
    text = "; ".join(words)
    return f"{text[:1].upper()}{text[1:]}: mean ± standard deviation over seeds (number of seeds)."


def statements(published: Sequence[Published]) -> str:
    """What the paper says in words, as a list."""
    rows = [row for row in published if row.statement]
    if not rows:
        return ""
    return "\n".join(["## What the paper says", "", *(f"- {_said(row)}" for row in rows)])


def numbers(cells: Sequence[Cell]) -> str:
    """The numbers that the paper gives beside a figure, and ours."""
    if not cells:
        return ""
    rows = [
        (
            labels.label(list(cell.keys), cell.settings[0].config),
            cell.metric.title,
            f"{cell.ours_text} {cell.mark}" if cell.compared else cell.ours_text,
            cell.paper_text,
            cell.difference_text,
        )
        for cell in cells
    ]
    return "## Numbers of the paper\n\n" + markdown(("", "metric", "ours", "paper", "difference"), rows)


def _said(row: Published) -> str:
    who = ", ".join(text for text in row.keys.values())
    number = f"{row.metric} {row.printed}" if row.metric else ""
    text = "; ".join(part for part in (number, row.statement) if part)
    return f"{who}: {text}" if who else text


def _of_runs(runs: Sequence[Run]) -> list[str]:
    """What is told of the runs; what a summary lacks is left out."""
    if not runs:
        return []
    summaries = [run.summary for run in runs]

    def told(*path: str) -> str:
        values = {str(value) for s in summaries if (value := _get(s, path)) is not None}
        return ", ".join(sorted(values, key=lambda text: (len(text), text)))

    seconds = sum(s.get("wall_seconds") or 0 for s in summaries)
    lines = {
        "commit": told("git_commit"),
        "seeds": told("seed"),
        "hardware": told("hardware", "device"),
        "workers": told("hardware", "workers"),
        "threads of each": told("hardware", "threads"),
        "torch": told("versions", "torch"),
        "wall time of the runs": f"{duration(seconds)} in all",
    }
    return [f"- {name}: {text}" for name, text in lines.items() if text]


def _get(node: Any, path: Sequence[str]) -> Any:
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
