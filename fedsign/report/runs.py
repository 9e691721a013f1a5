"""Finished run directories as data frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fedsign.config import NOT_THE_EXPERIMENT, flat
from fedsign.tracking.run_directory import ENDED, read_summary

SEED = "seed"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        path: its directory.
        config: dotted key to value, without ``hydra``.
        summary: as in ``summary.json``.
        metrics: as in ``metrics.csv``.
    """

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]
    metrics: pd.DataFrame

    @property
    def algorithm(self) -> str:
        """Name of the method."""
        return str(self.config["algorithm.name"])

    def column(self, name: str) -> pd.Series[float] | None:
        """The numbers of a column of metrics.csv, without empty cells; None if there are none."""
        if name not in self.metrics:
            return None
        values = self.metrics[name].dropna()
        return values if len(values) else None

    def first(self, column: str, accuracy: float) -> float:
        """The value of a column when a test accuracy was first reached; NaN if it never was."""
        reached = self.metrics[self.metrics["test_accuracy"] >= accuracy]
        return float(reached[column].iloc[0]) if len(reached) else math.nan


def read(path: Path) -> Run | None:
    """Read a run directory; None if the run is not finished."""
    summary = read_summary(path)
    if summary.get("status") not in ENDED:
        return None
    config = yaml.safe_load((path / "config.yaml").read_text())
    config.pop("hydra", None)
    return Run(path, flat(config), summary, pd.read_csv(path / "metrics.csv"))


def groups(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in nothing but the seed, under a label that tells them from the others.

    The label is the method's name and those keys that vary among the runs of that method.
    """
    labelled: dict[str, list[Run]] = {}
    for run in runs:
        same = [other for other in runs if other.algorithm == run.algorithm]
        keys = sorted({key for other in same for key in other.config if _tells(key)})
        varying = [key for key in keys if len({repr(other.config.get(key)) for other in same}) > 1]
        details = [f"{key.removeprefix('algorithm.')}={_short(run.config.get(key))}" for key in varying]
        labelled.setdefault(" ".join([run.summary["method"], *details]), []).append(run)
    return labelled


def _tells(key: str) -> bool:
    return key != SEED and key.split(".")[0] not in (*NOT_THE_EXPERIMENT, "hydra") and not key.endswith("_target_")


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
