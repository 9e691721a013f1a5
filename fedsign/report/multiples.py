"""Lines as a figure for a paper: a panel each, one legend, shared axes, and the names of what was not run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedsign.report.figure import COLOURS, MARKERS, STYLE, logarithmic
from fedsign.report.lines import Line

WIDTH = 7.0  # inches: the text of a page
MOST_COLUMNS = 4
MARKS = 6  # of a curve
GREY = "#777777"


def draw(
    lines: Sequence[Line], x: str, y: str, scales: str, path: Path, columns: int | None = None, joined: bool = True
) -> Figure:
    """Draw lines and write them as PNG and PDF.

    Args:
        lines: of all panels, in order; those without points are named as not run.
        x, y: how the axes are called.
        scales: of the axes, as ``linear-log``: x linear and y logarithmic.
        path: of the PNG; the PDF is beside it.
        columns: of panels; None: as many as fit.
        joined: curves with a band; else points with error bars.
    """
    panels = list(dict.fromkeys(line.panel for line in lines))
    across = columns or _across(len(panels))
    down = -(-len(panels) // across)
    looks = _looks(lines)
    run = {line.name for line in lines if not line.missing}  # somewhere
    width = min(WIDTH, 4.6) if len(panels) == 1 else WIDTH
    each = 2.7 if across == 1 else max(1.5, 0.72 * width / across)
    with plt.rc_context(STYLE | {"font.size": 9 if across < 4 else 8}):
        figure, grid = plt.subplots(
            down, across, figsize=(width, each * down + 0.7), sharex=True, sharey=True, squeeze=False,
            layout="constrained",
        )  # fmt: skip
        for axes, panel in zip(grid.flat, panels, strict=False):
            own = [line for line in lines if line.panel == panel]
            _panel(axes, own, looks, joined)
            _title(axes, panel, [line.name for line in own if line.missing and line.name in run], width / across)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes in grid.flat[len(panels) - across : len(panels)]:
            axes.tick_params(labelbottom=True)  # a column may end above the last row
        _scale(grid.flat[0], lines, scales)
        if y.endswith("(%)"):
            low, high = grid.flat[0].get_ylim()
            grid.flat[0].set_ylim(max(low, 0), min(high, 100.5))
        figure.supxlabel(x, fontsize="medium")
        figure.supylabel(y, fontsize="medium")
        _legend(figure, lines, looks, joined, width)
        figure.savefig(path)
        figure.savefig(path.with_suffix(".pdf"))
        plt.close(figure)
    return figure


def _across(panels: int) -> int:
    """Columns of panels: rows as even as they can be."""
    down = -(-panels // MOST_COLUMNS)
    return -(-panels // down)


def _looks(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """Colour and marker by name: of a scale where the names are numbers, else of the palette."""
    looks = {}
    names = list(dict.fromkeys(line.name for line in lines))
    ordered = all(line.rank is not None for line in lines) and len(names) > 3
    ranks = {line.name: line.rank for line in lines}
    for i, name in enumerate(names):
        colour = plt.get_cmap("viridis")(0.92 * (ranks[name] or 0)) if ordered else COLOURS[i % len(COLOURS)]
        style = "-" if ordered else ("-", (0, (4, 1.5)), (0, (1, 1)))[i // len(COLOURS) % 3]
        looks[name] = {"color": colour, "marker": MARKERS[i % len(MARKERS)], "linestyle": style}
    return looks


def _panel(axes: Axes, lines: Sequence[Line], looks: dict[str, dict[str, Any]], joined: bool) -> None:
    for line in lines:
        if line.missing:
            continue
        look = looks[line.name] | {"linewidth": 1.1, "markersize": 3}
        if joined:
            axes.plot(line.x, line.mean, markevery=max(1, len(line.x) // MARKS), **look)
            if not np.isnan(line.std).all():
                low, high = line.mean - line.std, line.mean + line.std
                axes.fill_between(line.x, low, high, color=look["color"], alpha=0.18, linewidth=0)
        else:
            axes.errorbar(line.x, line.mean, yerr=np.nan_to_num(line.std), capsize=2, elinewidth=0.8, **look)
    axes.grid(visible=True, which="major")
    axes.set_axisbelow(True)


def _title(axes: Axes, title: str, missing: Sequence[str], width: float) -> None:
    """The title, and below it in small grey what was run elsewhere but not here."""
    note = textwrap.wrap(f"not run: {', '.join(missing)}", max(20, int(width * 20))) if missing else []
    axes.annotate(
        "\n".join(note), (0.5, 1), xycoords="axes fraction", xytext=(0, 2), textcoords="offset points", ha="center",
        va="bottom", fontsize=6, color=GREY,
    )  # fmt: skip
    axes.set_title(title, fontsize="medium", pad=4 + 7.5 * len(note))


def _scale(axes: Axes, lines: Sequence[Line], scales: str) -> None:
    """The scales of the shared axes; zero stays on a logarithmic x axis."""
    x, _, y = scales.partition("-")
    along = np.concatenate([line.x for line in lines if not line.missing] or [np.array([1.0])])
    if x == "log" and along.dtype.kind in "fiu":
        positive = along[along > 0]
        if len(positive) == len(along):
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=positive.min() if len(positive) else 1.0)
    if y == "log":
        logarithmic(axes)


def _legend(
    figure: Figure, lines: Sequence[Line], looks: dict[str, dict[str, Any]], joined: bool, width: float
) -> None:
    if len(looks) < 2:
        return
    handles, colours = [], []
    for name, look in looks.items():
        run = any(line.name == name and not line.missing for line in lines)
        shown = look if run else {"linestyle": "none"}
        handles.append(
            Line2D([], [], markersize=3.5, linewidth=1.2, label=name if run else f"{name} (not run)", **shown)
        )
        colours.append("black" if run else GREY)
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = max(1, min(len(handles), int(width / (0.075 * longest + 0.45))))
    legend = figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=2, fontsize="small")
    for text, colour in zip(legend.get_texts(), colours, strict=True):
        text.set_color(colour)
