"""The command ``fedsign-report``: the finished runs of a preset as a table and a figure beside the paper's numbers."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedsign import presets
from fedsign.errors import ConfigError, FedsignError

if TYPE_CHECKING:
    import pandas as pd

    from fedsign.report.runs import Run


def main() -> None:
    """Entry point. Exit status: 0, 2 for an unknown item or one without finished runs."""
    parser = argparse.ArgumentParser(
        prog="fedsign-report",
        description="Finished runs of a preset as a table (csv, md) and a figure (png) beside the paper's own numbers.",
        epilog="example: fedsign -m +experiment=quickstart && fedsign-report quickstart",
    )
    parser.add_argument("item", nargs="?", help="<paper>/<table or figure>, as in +experiment=")
    parser.add_argument("--all", action="store_true", help="every preset that has finished runs")
    parser.add_argument("--runs", type=Path, default=Path("outputs"), help="where the runs are (default: outputs)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where to write (default: results)")
    arguments = parser.parse_args()
    if arguments.all == (arguments.item is not None):
        parser.error("name one item, or --all")
    try:
        items = presets.names() if arguments.all else [presets.known(arguments.item)]
        written = [item for item in items if write(item, arguments.runs, arguments.results)]
        if not written:
            names = arguments.item or "any preset"
            raise ConfigError(
                f"{arguments.runs}: has no finished run of {names}; fedsign -m +experiment=ITEM makes them"
            )
    except FedsignError as error:
        print(f"fedsign-report: error: {error}", file=sys.stderr)
        sys.exit(2)


def write(item: str, runs_folder: Path, results: Path) -> bool:
    """Write ``<results>/<item>.{csv,md,png}`` and print the table; False if no run is finished."""
    from fedsign.report import reference, runs, table
    from fedsign.report.figure import accuracy_against_uplink

    folders = sorted(path.parent for path in (runs_folder / item).glob("*/summary.json"))
    finished = [run for folder in folders if (run := runs.read(folder)) is not None]
    if not finished:
        return False
    groups = runs.groups(finished)
    target = table.target_accuracy(groups)
    comparison = table.comparison(groups, target)
    base = results / item
    base.parent.mkdir(parents=True, exist_ok=True)
    comparison.to_csv(base.with_suffix(".csv"))
    accuracy_against_uplink(groups, target, base.with_suffix(".png"))
    sections = [f"# {item}", provenance(finished), markdown(table.readable(comparison, target).reset_index())]
    published = results / "reference" / f"{item}.csv"
    if published.exists():
        sections += ["## Beside the paper", markdown(reference.readable(reference.beside(groups, published)))]
    text = "\n\n".join([*sections, f"![accuracy against uplink bits]({base.name}.png)"]) + "\n"
    base.with_suffix(".md").write_text(text)
    print(text)
    print(f"written  {base}.csv .md .png")
    return True


def provenance(finished: Sequence[Run]) -> str:
    """Command, commit, seeds and hardware, as a list."""
    summaries = [run.summary for run in finished]
    overrides = [o for o in summaries[0]["overrides"] if all(o in s["overrides"] for s in summaries)]

    def told(values: Iterable[object]) -> str:
        return ", ".join(sorted({str(value) for value in values}))

    return "\n".join(
        [
            f"- command: `fedsign -m {shlex.join(overrides)}`",
            f"- commit: {told(s['git_commit'] for s in summaries)}",
            f"- seeds: {told(s['seed'] for s in summaries)}",
            f"- hardware: {told(s['hardware']['device'] for s in summaries)}, "
            f"workers {told(s['hardware']['workers'] for s in summaries)}, "
            f"threads of each {told(s['hardware']['threads'] for s in summaries)}",
            f"- torch: {told(s['versions']['torch'] for s in summaries)}",
            f"- wall time of the runs: {sum(s['wall_seconds'] for s in summaries):.0f} s in all",
        ]
    )


def markdown(table: pd.DataFrame) -> str:
    """A data frame as a Markdown table."""
    head = [str(column) for column in table.columns]
    lines = [head, ["---"] * len(head), *([str(value) for value in row] for row in table.itertuples(index=False))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
