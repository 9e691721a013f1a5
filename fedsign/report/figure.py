"""Accuracy against uplink bits, as a figure for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from fedsign.report.runs import Run

# Okabe & Ito's palette: told apart in every common colour blindness, and in grey by the markers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE: dict[Any, Any] = {
    "font.family": "serif",
    "font.serif": ["STIXGeneral"],
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "grid.linewidth": 0.4,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "savefig.dpi": 300,
}


def accuracy_against_uplink(groups: dict[str, list[Run]], target: float | None, path: Path) -> None:
    """Draw test accuracy, or the consensus problem's distance to the optimum, against uplink bits (log axis).

    Args:
        groups: label to runs that differ in the seed alone; the mean is drawn, with its range over seeds.
        target: an accuracy to mark, or None.
        path: of the PNG.
    """
    metric = "test_accuracy" if _has(groups, "test_accuracy") else "distance"
    scale = 100 if metric == "test_accuracy" else 1
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 3.2), layout="constrained")
        for i, (label, runs) in enumerate(groups.items()):
            bits, values = _curves(runs, metric)
            colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
            axes.plot(
                bits, scale * values.mean(axis=0), color=colour, marker=marker, markersize=4, linewidth=1.3,
                markevery=_marks(bits), label=label,
            )  # fmt: skip
            if len(runs) > 1:
                axes.fill_between(
                    bits,
                    scale * values.min(axis=0),
                    scale * values.max(axis=0),
                    color=colour,
                    alpha=0.18,
                    linewidth=0,
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("uplink bits, all clients, cumulative")
        axes.set_ylabel("test accuracy (%)" if scale == 100 else "distance to the optimum")
        if scale == 1:
            logarithmic(axes)
        if target is not None and scale == 100:
            axes.axhline(100 * target, color="#888888", linewidth=0.7, linestyle=(0, (4, 3)), zorder=0)
            axes.annotate(
                f"{100 * target:g} %", (0, 100 * target), xycoords=("axes fraction", "data"), xytext=(2, 2),
                textcoords="offset points", fontsize=7, color="#666666",
            )  # fmt: skip
        axes.grid(visible=True, which="major")
        axes.set_axisbelow(True)
        axes.legend(loc="best", handlelength=1.8)
        figure.savefig(path)
        plt.close(figure)


def logarithmic(axes: Axes) -> None:
    """Make the y axis of what is drawn logarithmic, with ticks between the powers of ten where it spans few."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 100 * low:  # powers of ten alone would leave one or two
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _curves(runs: Sequence[Run], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Uplink bits [rounds] and the metric [runs, rounds], over the rounds that all runs have."""
    tables = [run.metrics.set_index("round") for run in runs]
    common = tables[0].index
    for table in tables[1:]:
        common = common.intersection(table.index)
    bits = pd.concat([table.loc[common, "uplink_bits"] for table in tables], axis=1).mean(axis=1)
    return bits.to_numpy(), np.stack([table.loc[common, metric].to_numpy() for table in tables])


def _marks(bits: np.ndarray) -> list[int]:
    """About eight markers, evenly spaced on the log axis, the last point included."""
    wanted = np.geomspace(bits[0], bits[-1], 8)
    return sorted({int(np.argmin(np.abs(np.log(bits) - np.log(w)))) for w in wanted})


def _has(groups: dict[str, list[Run]], column: str) -> bool:
    return all(run.metrics[column].notna().any() for runs in groups.values() for run in runs)
