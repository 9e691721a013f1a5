"""An item of a paper from its finished runs: table or figure, and the page around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fedsign.errors import ConfigError
from fedsign.report import cells as numbers
from fedsign.report import computed, document, labels, lines, multiples, reference, render, runs, table
from fedsign.report.figure import accuracy_against_uplink
from fedsign.report.grid import Grid
from fedsign.report.metrics import metric
from fedsign.report.reference import Published

NOTE = ".note.md"  # what was written by hand on an item's agreement with the paper


def write(grid: Grid, results: Path) -> str:
    """Write an item's files below `results`; returns its page.

    Where none of the grid's runs is there, a page that tells of some is kept: they were made elsewhere. What was
    written by hand in ``<item>.note.md`` beside it ends the page.

    Args:
        grid: of the item.
        results: also has the papers' numbers, ``reference/<paper>/<item>.csv``.

    Raises:
        ConfigError: an unknown kind; the preset's keys do not tell its settings apart.
        DataError: a file of the paper's numbers that does not fit.
    """
    kind = grid.report["kind"]
    if kind not in KINDS:
        raise ConfigError(f"report.kind={kind}: must be one of {', '.join(KINDS)}")
    path = reference.path_of(grid.item, results)
    base = results / grid.item
    base.parent.mkdir(parents=True, exist_ok=True)
    page = KINDS[kind](grid, reference.read(path) if path else [], base)
    note = base.with_suffix(NOTE)
    if note.exists() and (grid.runs or is_computed(grid)):
        page += f"\n## Agreement and its limits\n\n{note.read_text(encoding='utf-8')}"
    file = base.with_suffix(".md")
    if grid.runs or is_computed(grid) or not file.exists() or document.NO_RUNS in file.read_text(encoding="utf-8"):
        file.write_text(page, encoding="utf-8")
    return page


def is_computed(grid: Grid) -> bool:
    """Whether an item needs no runs."""
    return grid.report["kind"] in computed.KINDS


def _computed(grid: Grid, published: Sequence[Published], base: Path) -> str:
    """What needs no runs."""
    return computed.write(grid.item, grid.jobs, published, base)


def _comparison(grid: Grid, published: Sequence[Published], base: Path) -> str:
    """What a sweep shows."""
    if not grid.runs:
        return document.page(document.title(grid), [document.provenance(grid), document.statements(published)])
    groups = runs.groups(grid.runs)
    target = table.target_accuracy(groups)
    comparison = table.comparison(groups, target)
    comparison.to_csv(base.with_suffix(".csv"))
    accuracy_against_uplink(groups, target, base.with_suffix(".png"))
    shown = table.readable(comparison, target).reset_index()
    sections = [
        document.provenance(grid),
        render.markdown(list(shown.columns), shown.to_numpy().tolist()),
        document.numbers(numbers.text_cells(grid, published)),
        document.statements(published),
        f"![accuracy against uplink bits]({base.name}.png)",
    ]
    return document.page(document.title(grid), sections)


def _table(grid: Grid, published: Sequence[Published], base: Path) -> str:
    """A metric, rows by columns."""
    report = grid.report
    cells = numbers.table_cells(grid, published)
    laid = render.layout(cells, report["rows"], report["columns"])
    caption = document.caption([metric(name) for name in report["metrics"]])
    rule = numbers.RULE if any(cell.compared for cell in cells) else ""
    title = report.get("title") or grid.item
    if grid.runs:
        numbers.frame(cells).to_csv(base.with_suffix(".csv"), index=False)
        base.with_suffix(".tex").write_text(render.latex(laid, f"{title}. {caption} {rule}".strip()), encoding="utf-8")
    sections = [
        document.provenance(grid),
        caption,
        render.markdown_cells(laid),
        rule,
        document.statements(published),
    ]
    return document.page(document.title(grid), sections)


def _curves(grid: Grid, published: Sequence[Published], base: Path) -> str:
    """y against x over the rounds."""
    report = grid.report
    return _figure(grid, published, base, lines.curves(grid), report["x"], report["y"], "", joined=True)


def _points(grid: Grid, published: Sequence[Published], base: Path) -> str:
    """A metric against a key."""
    one = metric(grid.report["metrics"][0])
    caption = document.caption([one])
    return _figure(grid, published, base, lines.points(grid), grid.report["x"], one.title, caption, joined=False)


def _figure(
    grid: Grid,
    published: Sequence[Published],
    base: Path,
    drawn: Sequence[lines.Line],
    x: str,
    y: str,
    caption: str,
    joined: bool,
) -> str:
    sections = [document.provenance(grid)]
    if any(not line.missing for line in drawn):
        lines.frame(drawn, x, y).to_csv(base.with_suffix(".csv"), index=False)
        multiples.draw(
            drawn,
            labels.axis(x),
            labels.axis(y) if joined else y,
            grid.report["scales"],
            base.with_suffix(".png"),
            _panel_columns(grid),
            joined,
        )
        said = caption or f"{labels.axis(y)} against {labels.axis(x)}: mean over seeds, band ± standard deviation."
        sections += [f"![{grid.report.get('title') or grid.item}]({base.name}.png)", said, _not_run(drawn)]
    cells = numbers.text_cells(grid, published)
    sections += [
        document.numbers(cells),
        numbers.RULE if any(cell.compared for cell in cells) else "",
        document.statements(published),
    ]
    return document.page(document.title(grid), sections)


def _not_run(drawn: Sequence[lines.Line]) -> str:
    missing = [f"{line.name} ({line.panel})" if line.panel else line.name for line in drawn if line.missing]
    return f"Not run: {'; '.join(missing)}." if missing else ""


def _panel_columns(grid: Grid) -> int | None:
    """With two keys a row of panels for each value of the first; None: as they fit."""
    keys = grid.report["panels"]
    if len(keys) != 2:
        return None
    first, second = (len(grid.groups([key])) for key in keys)
    return second if first * second == len(grid.groups(keys)) and second <= multiples.MOST_COLUMNS else None


KINDS: dict[str, Callable[[Grid, Sequence[Published], Path], str]] = {
    "comparison": _comparison,
    "table": _table,
    "curves": _curves,
    "points": _points,
    **dict.fromkeys(computed.KINDS, _computed),
}
