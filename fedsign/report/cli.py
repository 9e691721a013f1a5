"""The command ``fedsign-report``: an item of a paper from finished runs, the paper's own numbers beside ours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fedsign import cli, presets
from fedsign.errors import ConfigError, FedsignError

if TYPE_CHECKING:
    from fedsign.report.grid import Index


def main() -> None:
    """Entry point. Exit status: 0, also where nothing was run; 1 if an item of --all failed; 2 for a wrong input."""
    parser = argparse.ArgumentParser(
        prog="fedsign-report",
        description="Finished runs of a preset as a table or figure beside the paper's own numbers.",
        epilog="example: fedsign -m +experiment=quickstart && fedsign-report quickstart",
    )
    parser.add_argument("item", nargs="?", help="<paper>/<table, figure or grid>, as in +experiment=")
    parser.add_argument("overrides", nargs="*", help="as given to fedsign -m beside the experiment: rounds=500 ...")
    parser.add_argument("--all", action="store_true", help="every preset that has finished runs or needs none")
    parser.add_argument(
        "--runs", type=Path, action="append", help="a folder with runs at any depth; may be repeated (default: outputs)"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="where to write (default: results)")
    arguments = parser.parse_intermixed_args()
    if arguments.all == (arguments.item is not None):
        parser.error("name one item, or --all")
    cli.register_resolvers()
    with cli.reported(arguments.overrides, "fedsign-report"):
        from fedsign.report.grid import Index

        if not arguments.all:
            presets.known(arguments.item)
        index = Index.of(arguments.runs or [Path("outputs")])
        if arguments.all:
            sys.exit(_all(index, arguments.results))
        print(_one(arguments.item, arguments.overrides, index, arguments.results))


def _one(item: str, overrides: list[str], index: Index, results: Path) -> str:
    """The page of an item, and where it was written."""
    from fedsign.report import grid, items

    found = grid.find(item, overrides, index)
    page = items.write(found, results)
    note = "" if found.runs else f"\nnone of its runs is finished; they are made by: fedsign -m +experiment={item}"
    return f"{page}\nwritten  {results / item}.*{note}"


def _all(index: Index, results: Path) -> int:
    """Every item of which there are runs; the exit status."""
    from fedsign.report import grid, items

    status = 0
    for item in presets.names():
        try:
            found = grid.find(item, [], index)
            if found.runs:
                items.write(found, results)
                print(f"{item}: {found.found} of {found.jobs} runs")
        except FedsignError as error:
            print(f"fedsign-report: error: {item}: {error}", file=sys.stderr)
            status = 1
    return status
