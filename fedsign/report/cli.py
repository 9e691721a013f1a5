"""The command ``fedsign-report``: an item of a paper from finished runs, the paper's own numbers beside ours."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fedsign import cli, presets
from fedsign.errors import FedsignError

if TYPE_CHECKING:
    from fedsign.report.grid import Grid, Index


SELECT = "select="  # an argument of --best, given like an override


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
        "--best", action="store_true", help="the best setting of a grid on the validation split; on test: select=test"
    )
    parser.add_argument(
        "--runs", type=Path, action="append", help="a folder with runs at any depth; may be repeated (default: outputs)"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="where to write (default: results)")
    arguments = parser.parse_intermixed_args()
    if arguments.all == (arguments.item is not None):
        parser.error("name one item, or --all")
    if arguments.all and arguments.best:
        parser.error("--best takes one item")
    cli.register_resolvers()
    with cli.reported(arguments.overrides, "fedsign-report"):
        from fedsign.report.grid import Index

        if not arguments.all:
            presets.known(arguments.item)
        index = Index.of(arguments.runs or [Path("outputs")])
        if arguments.all:
            sys.exit(_all(index, arguments.results))
        write = _best if arguments.best else _one
        print(write(arguments.item, arguments.overrides, index, arguments.results))


def _one(item: str, overrides: list[str], index: Index, results: Path) -> str:
    """Write an item; its page, and where that is."""
    from fedsign.report import grid, items

    found = grid.find(item, overrides, index)
    page = items.write(found, results)
    return f"{page}\n{_where(found, results / f'{item}.*')}"


def _best(item: str, arguments: list[str], index: Index, results: Path) -> str:
    """Write the best settings of a grid; the page, and where that is."""
    from fedsign.report import best, grid

    select = next((a.removeprefix(SELECT) for a in arguments if a.startswith(SELECT)), "validation")
    found = grid.find(item, [a for a in arguments if not a.startswith(SELECT)], index)
    picks = best.picks(found, select)
    page = best.page(found, picks, select)
    path = results / f"{item}_best.md"
    if found.runs:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
        best.frame(found, picks).to_csv(path.with_suffix(".csv"), index=False)
    return f"{page}\n{_where(found, path.with_suffix('.*'))}"


def _where(found: Grid, path: Path) -> str:
    from fedsign.report import items

    if found.runs or items.is_computed(found):
        return f"written  {path}"
    command = shlex.join(["fedsign", "-m", f"+experiment={found.item}", *found.overrides])
    return f"none of its runs is finished; they are made by: {command}"


def _all(index: Index, results: Path) -> int:
    """Write every item of which there are runs, or that needs none; the exit status."""
    from fedsign.report import grid, items

    status = 0
    for item in presets.names():
        try:
            found = grid.find(item, [], index)
            if found.runs or items.is_computed(found):
                items.write(found, results)
                print(f"{item}: " + (f"{found.found} of {found.size} runs" if found.runs else "computed"), flush=True)
        except FedsignError as error:
            print(f"fedsign-report: error: {item}: {error}", file=sys.stderr)
            status = 1
    return status
