"""Our numbers beside the paper's, one cell at a time, and when the two agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from fedsign.errors import ConfigError, DataError
from fedsign.report import labels
from fedsign.report.grid import Grid, Setting, one_setting
from fedsign.report.metrics import LOSS, Metric, metric
from fedsign.report.reference import Published

POINTS, SHARE = 1.0, 0.1  # how far apart two numbers that agree may be: accuracies in points, others as a share
AGREES, DIFFERS, UNJUDGED = "✓", "✗", "–"
RULE = (
    f"{AGREES} agrees: the difference is at most {POINTS:g} point of accuracy ({SHARE:.0%} of the paper's value for "
    "rounds, bits and the like), or at most twice √(ours² + paper's²) of the deviations over seeds; "
    f"{DIFFERS} does not; {UNJUDGED} cannot be compared."
)
BASELINE = "FedAvg"


@dataclass
class Cell:
    """A metric of a setting.

    Attributes:
        keys: what tells it from others, to their values.
        settings: that it is about; one, but for a metric that is summed over several.
        metric: what is read off a run.
        values: of the runs that measured it, accuracies in per cent; NaN where a target was not reached.
        paper: the paper's number, if it has one.
    """

    keys: dict[str, Any]
    settings: list[Setting]
    metric: Metric
    values: list[float] = field(default_factory=list)
    paper: Published | None = None

    @property
    def n(self) -> int:
        """Number of values."""
        return len(self.values)

    @property
    def ours(self) -> float:
        """Mean over seeds; NaN where a seed has not reached the target, or there is none."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def std(self) -> float:
        """Deviation over seeds (n - 1); NaN below two."""
        return float(np.std(self.values, ddof=1)) if self.n > 1 else math.nan

    @property
    def missed(self) -> int:
        """Number of seeds that did not reach the target."""
        return sum(math.isnan(value) for value in self.values)

    @property
    def difference(self) -> float:
        """Ours less the paper's; NaN where one has none."""
        return self.ours - self.paper.value if self.paper else math.nan

    @property
    def changed(self) -> bool:
        """Whether what ran is not what the paper has, because of overrides."""
        return any(setting.changed for setting in self.settings)

    @property
    def mark(self) -> str:
        """Whether the two agree."""
        if not self.values or self.paper is None or self.changed:
            return UNJUDGED
        if self.missed or math.isnan(self.paper.value):
            return AGREES if self.missed == self.n and math.isnan(self.paper.value) else DIFFERS
        margin = POINTS if self.metric.unit == "percent" else SHARE * abs(self.paper.value)
        deviations = 2 * math.hypot(_or_zero(self.std), _or_zero(self.paper.std))
        return AGREES if abs(self.difference) <= max(margin, deviations) * (1 + 1e-9) else DIFFERS

    @property
    def compared(self) -> bool:
        """Whether there are both numbers."""
        return bool(self.values) and self.paper is not None

    @property
    def ours_text(self) -> str:
        """Mean ± deviation (seeds), or why there is none."""
        if not self.values:
            return "not measured" if any(setting.runs for setting in self.settings) else "not run"
        if self.missed:
            return "not reached" + (f" by {self.missed} of {self.n}" if self.missed < self.n else f" ({self.n})")
        return f"{self.metric.text(self.ours, self.std)} ({self.n})"

    @property
    def paper_text(self) -> str:
        """The paper's number as printed."""
        if self.paper is None:
            return ""
        if self.metric.unit == "bits" and not math.isnan(self.paper.value):
            return self.metric.text(self.paper.value, self.paper.std)
        return self.paper.printed

    @property
    def difference_text(self) -> str:
        """The difference with its sign; of bits in per cent."""
        if math.isnan(self.difference):
            return ""
        assert self.paper is not None
        if self.metric.unit == "bits":
            return f"{self.difference / self.paper.value:+.0%}"
        return f"{self.difference:+.2f}" if self.metric.unit == "percent" else f"{self.difference:+.4g}"


def table_cells(grid: Grid, published: Sequence[Published]) -> list[Cell]:
    """A cell for every combination of rows and columns and every metric of the preset.

    Raises:
        ConfigError: the preset's rows and columns do not tell its settings apart; an unknown metric.
        DataError: a number of the paper belongs to none of the cells, or to several.
    """
    report = grid.report
    keys = [*report["rows"], *report["columns"]]
    wanted = [metric(name) for name in report["metrics"]]
    cells = [
        _cell(grid, dict(zip(keys, values, strict=True)), settings, one)
        for values, settings in grid.groups(keys).items()
        for one in wanted
    ]
    for row in published:
        settings = matching(grid, row) if row.metric else []
        homes = [c for c in cells if c.metric.name == row.metric and any(s in c.settings for s in settings)]
        if settings and not homes:
            raise DataError(f"{row.where}: {row.metric} is not among report.metrics: {', '.join(report['metrics'])}")
        if len(homes) > 1:
            raise DataError(f"{row.where}: belongs to {len(homes)} cells of the table; more keys are needed")
        for cell in homes:
            if cell.paper is not None:
                raise DataError(f"{row.where}: the same cell as {cell.paper.where}")
            cell.paper = row
    return cells


def text_cells(grid: Grid, published: Sequence[Published]) -> list[Cell]:
    """A cell for every number that the paper gives beside a figure. Raises DataError, ConfigError."""
    cells = []
    for row in published:
        if not row.metric or not (settings := matching(grid, row)):
            continue
        keys = {key: settings[0].value(key) for key in row.keys}
        try:
            cells.append(_cell(grid, keys, settings, metric(row.metric)))
        except ConfigError as error:
            raise DataError(f"{row.where}: {error}") from None
        cells[-1].paper = row
    return cells


def matching(grid: Grid, row: Published) -> list[Setting]:
    """The settings that a row of the paper is about; none for one that is not run here, as its statement says.

    Raises:
        DataError: there is none, though nothing was changed in the grid.
    """
    found = [s for s in grid.settings if row.describes(s.config | {labels.METHOD: labels.method(s.config)})]
    if not found and not row.statement and not grid.overrides:
        raise DataError(f"{row.where}: no job of {grid.item} has {_told(row.keys)}")
    return found


def frame(cells: Sequence[Cell]) -> pd.DataFrame:
    """Long form: keys, metric, ours, std, n, paper, paper_std, difference and agreement; empty where there is none."""
    words = {AGREES: "agrees", DIFFERS: "differs", UNJUDGED: ""}
    rows = [
        {key: labels.plain(value) if value is not None else None for key, value in cell.keys.items()}
        | {
            "metric": cell.metric.name,
            "ours": cell.ours,
            "std": cell.std,
            "n": cell.n,
            "paper": cell.paper.value if cell.paper else math.nan,
            "paper_std": cell.paper.std if cell.paper else math.nan,
            "difference": cell.difference,
            "agreement": words[cell.mark],
        }
        for cell in cells
    ]
    return pd.DataFrame(rows)


def _cell(grid: Grid, keys: dict[str, Any], settings: list[Setting], one: Metric) -> Cell:
    if one.name == LOSS:
        return Cell(keys, settings, one, _losses(grid, settings))
    runs = one_setting(grid, settings).runs
    values = [one.of(runs[seed]) for seed in sorted(runs)]
    return Cell(keys, settings, one, [value for value in values if value is not None])


def _losses(grid: Grid, settings: Sequence[Setting]) -> list[float]:
    """For every seed that all settings and baselines have: best accuracies less the baselines', summed, in points."""
    best = metric(LOSS).of
    pairs = [(setting, _baseline(grid, setting)) for setting in settings]
    seeds = set.intersection(*(setting.runs.keys() & (base.runs.keys() if base else set()) for setting, base in pairs))
    sums = []
    for seed in sorted(seeds):
        values = [(best(setting.runs[seed]), best(base.runs[seed])) for setting, base in pairs if base]
        sums.append(sum(a - b for a, b in values if a is not None and b is not None))
    return sums


def _baseline(grid: Grid, setting: Setting) -> Setting | None:
    """FedAvg in the same setting."""

    def rest(one: Setting) -> list[str]:
        return [o for o in one.overrides if not o.startswith("method=")]

    same = (s for s in grid.settings if labels.method(s.config) == BASELINE and rest(s) == rest(setting))
    return next(same, None)


def _told(keys: dict[str, str]) -> str:
    return ", ".join(f"{key}={text}" for key, text in keys.items())


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
