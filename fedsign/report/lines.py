"""What a figure of a preset draws: curves over the rounds, or a metric against a key, with deviations over seeds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fedsign.errors import ConfigError
from fedsign.report import labels
from fedsign.report.grid import Grid, Setting, grouped, is_number, one_setting
from fedsign.report.metrics import metric
from fedsign.report.runs import Run

DOWNLINK = 0.1  # what a bit down costs beside a bit up, in `total_bits`


@dataclass(frozen=True)
class Line:
    """A curve, or a line of points.

    Attributes:
        panel, name: where it is drawn, and how it is called.
        rank: of its value among those that are numbers, in [0, 1]; None where curves are told by names.
        x, mean, std: [points]; x are texts where they are categories; std is NaN for one seed.
        n: [points] number of seeds.
    """

    panel: str
    name: str
    rank: float | None
    x: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    n: np.ndarray

    @property
    def missing(self) -> bool:
        """Whether there is nothing to draw."""
        return len(self.x) == 0


def curves(grid: Grid) -> list[Line]:
    """y against x over the rounds, a line per panel and curve, over the rounds that all its seeds have."""
    report = grid.report
    return [
        _curve(panel, name, rank, list(one_setting(grid, settings).runs.values()), report["x"], report["y"])
        for panel, name, rank, settings in _parts(grid)
    ]


def points(grid: Grid) -> list[Line]:
    """The first metric against the key x, a line per panel and curve; where x was not run there is no point."""
    report = grid.report
    one = metric(report["metrics"][0])
    lines = []
    for panel, name, rank, settings in _parts(grid):
        found: list[tuple[Any, list[float]]] = []
        for (x,), same in grouped(settings, [report["x"]]).items():
            measured = [one.of(run) for run in one_setting(grid, same).runs.values()]
            values = [value for value in measured if value is not None and not np.isnan(value)]
            if values:
                found.append((x if is_number(x) else labels.label([report["x"]], same[0].config), values))
        lines.append(
            Line(
                panel,
                name,
                rank,
                np.array([x for x, _ in found]),
                np.array([np.mean(values) for _, values in found]),
                np.array([np.std(values, ddof=1) if len(values) > 1 else np.nan for _, values in found]),
                np.array([len(values) for _, values in found]),
            )
        )
    return lines


def frame(lines: Sequence[Line], x: str, y: str) -> pd.DataFrame:
    """What is drawn, in long form: panel, curve, x, mean, std and n."""
    parts = [
        pd.DataFrame({"panel": one.panel, "curve": one.name, x: one.x, y: one.mean, "std": one.std, "n": one.n})
        for one in lines
        if not one.missing
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["panel", "curve", x, y, "std", "n"])


def _parts(grid: Grid) -> list[tuple[str, str, float | None, list[Setting]]]:
    """Panel, curve, its rank and its settings, for every line in the sweep's order."""
    report = grid.report
    keys = report["curves"]
    values = sorted(grid.groups(keys)) if len(keys) == 1 and all(is_number(v) for (v,) in grid.groups(keys)) else []
    out = []
    for panel in _in_order(grid, report["panels"]):
        for value, settings in grouped(panel, keys).items():
            rank = values.index(value) / max(1, len(values) - 1) if values else None
            name = settings[0].label(keys) or grid.item
            out.append((panel[0].label(report["panels"]), name, rank, settings))
    return out


def _in_order(grid: Grid, keys: Sequence[str]) -> list[list[Setting]]:
    """The settings of every panel, by the first key, then by the second."""
    orders = [[value for (value,) in grid.groups([key])] for key in keys]
    groups = grid.groups(keys)
    return [groups[values] for values in itertools.product(*orders) if values in groups]


def _curve(panel: str, name: str, rank: float | None, runs: Sequence[Run], x: str, y: str) -> Line:
    tables = [_xy(run, x, y) for run in runs if run.column(y) is not None]
    if not tables:
        nothing = np.array([])
        return Line(panel, name, rank, nothing, nothing, nothing, nothing)
    common = tables[0].index
    for table in tables[1:]:
        common = common.intersection(table.index)
    values = np.stack([table.loc[common, "y"].to_numpy() for table in tables])
    along = np.mean([table.loc[common, "x"].to_numpy() for table in tables], axis=0)
    std = values.std(axis=0, ddof=1) if len(tables) > 1 else np.full(len(common), np.nan)
    return Line(panel, name, rank, along, values.mean(axis=0), std, np.full(len(common), len(tables)))


def _xy(run: Run, x: str, y: str) -> pd.DataFrame:
    """Columns x and y by round, accuracies in per cent. Raises ConfigError for an unknown x."""
    table = run.metrics.set_index("round", drop=False)
    if x == "total_bits":
        along = table["uplink_bits"] + DOWNLINK * table["downlink_bits"]
    elif x in table:
        along = table[x]
    else:
        raise ConfigError(f"report.x={x}: must be a column of metrics.csv or total_bits")
    return pd.DataFrame({"x": along, "y": table[y] * (100 if y.endswith("accuracy") else 1)}).dropna()
