"""Tables as text: Markdown for a page, LaTeX (booktabs) for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedsign.report import labels
from fedsign.report.cells import AGREES, DIFFERS, UNJUDGED, Cell

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "α": r"$\alpha$", "β": r"$\beta$",
    "γ": r"$\gamma$", "σ": r"$\sigma$", "₁": r"$_1$", "₂": r"$_2$", "∞": r"$\infty$", "²": r"$^2$", "√": r"$\surd$",
    "−": r"$-$", AGREES: r"$\checkmark$", DIFFERS: r"$\times$", UNJUDGED: "--",
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Cells as a table.

    Attributes:
        head: of the columns that name a row.
        columns: heads of the others.
        rows: what names a row, and its cells; None where the grid has none.
    """

    head: list[str]
    columns: list[str]
    rows: list[tuple[list[str], list[Cell | None]]]


def layout(cells: Sequence[Cell], row_keys: Sequence[str], column_keys: Sequence[str]) -> Layout:
    """Cells by rows and columns; several metrics are columns where no key is, else rows."""
    several = len({cell.metric.name for cell in cells}) > 1
    rows: dict[tuple[str, ...], dict[str, Cell]] = {}
    columns: dict[str, None] = {}
    for cell in cells:
        config = cell.settings[0].config
        name = labels.parts(row_keys, config)
        column = labels.label(column_keys, config) if column_keys else cell.metric.title
        if several and column_keys:
            name.append(cell.metric.title)
        columns.setdefault(column)
        rows.setdefault(tuple(name), {})[column] = cell
    head = [labels.head(key) for key in row_keys] + (["metric"] if several and column_keys else [])
    kept = [i for i in range(len(head)) if any(name[i] for name in rows)]
    return Layout(
        [head[i] for i in kept],
        list(columns),
        [([name[i] for i in kept], [found.get(column) for column in columns]) for name, found in rows.items()],
    )


def markdown_cells(table: Layout) -> str:
    """The table in Markdown: ours with its mark, below it the paper's number and the difference."""
    lines = [[*name, *map(_markdown_cell, cells)] for name, cells in table.rows]
    return markdown([*table.head, *table.columns], lines)


def _markdown_cell(cell: Cell | None) -> str:
    if cell is None:
        return ""
    ours = _ours(cell)
    if cell.paper is None:
        return ours
    difference = f" ({cell.difference_text})" if cell.difference_text else ""
    return f"{ours}<br>paper {cell.paper_text}{difference}"


def _ours(cell: Cell | None) -> str:
    """Ours with its mark, where there is a number of the paper to agree with."""
    if cell is None:
        return ""
    return f"{cell.ours_text} {cell.mark}" if cell.compared else cell.ours_text


def markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [list(map(str, head)), ["---"] * len(head), *(list(map(str, row)) for row in rows)]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines)


def latex(table: Layout, caption: str) -> str:
    """The table in LaTeX: a line with ours, below it one with the paper's numbers."""
    columns = "l" * len(table.head) + "r" * len(table.columns)
    lines = [
        "% needs \\usepackage{booktabs,amssymb}",
        "\\begin{table}",
        "\\centering",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        _line([*table.head, *table.columns]),
        "\\midrule",
    ]
    for name, cells in table.rows:
        lines.append(_line([*name, *(_ours(cell) for cell in cells)]))
        if any(cell is not None and cell.paper for cell in cells):
            blank = [""] * (len(name) - 1)
            lines.append(_line([*blank, "paper", *(cell.paper_text if cell else "" for cell in cells)]))
    lines += ["\\bottomrule", "\\end{tabular}", f"\\caption{{{escape(caption)}}}", "\\end{table}", ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text as LaTeX takes it."""
    return "".join(LATEX.get(character, character) for character in text)


def _line(texts: Sequence[str]) -> str:
    return " & ".join(map(escape, texts)) + r" \\"
