"""The best setting of every method in a grid: picked on the validation split, or, if asked, on test data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fedsign.errors import ConfigError
from fedsign.report import document, labels, render
from fedsign.report.grid import Grid, Setting
from fedsign.report.runs import Run

TUNED = ("algorithm.", "local.")  # keys under these are what a grid is about; it is searched for every value of others
COLUMNS = {"validation": "validation_accuracy", "test": "test_accuracy"}


@dataclass(frozen=True)
class Pick:
    """The best setting of a method.

    Attributes:
        keys: what it is the best for.
        settings: to choose from.
        run: how many of them were run.
        chosen: the best; None where nothing was run.
        picked_by, test: of its seeds, the accuracy it was picked by, and the test accuracy at that round, in per cent.
    """

    keys: tuple[Any, ...]
    settings: list[Setting]
    run: int
    chosen: Setting | None
    picked_by: list[float]
    test: list[float]


def picks(grid: Grid, select: str) -> list[Pick]:
    """The best setting for every method and every value of the keys in ``report.rows`` that are not tuned.

    Args:
        grid: of a preset.
        select: ``validation`` or ``test``: the accuracy whose best over the rounds, mean over seeds, decides.

    Raises:
        ConfigError: `select` is neither; it is ``validation``, and there is no such split.
    """
    if select not in COLUMNS:
        raise ConfigError(f"select={select}: must be one of {', '.join(COLUMNS)}")
    for setting in grid.settings:
        if select == "validation" and not setting.config.get("dataset.validation"):
            raise ConfigError(
                f"dataset.validation={setting.config.get('dataset.validation')}: must be above 0 to pick on a "
                "validation split; select=test picks on test data, as the papers do"
            )
    return [_pick(values, settings, COLUMNS[select]) for values, settings in grid.groups(_keys(grid)).items()]


def frame(grid: Grid, found: Sequence[Pick]) -> pd.DataFrame:
    """A row per pick: its keys, the overrides, both accuracies with deviation, seeds, and settings run."""
    rows = []
    for pick in found:
        row: dict[str, object] = dict(zip(_keys(grid), pick.keys, strict=True))
        row["overrides"] = shlex.join(pick.chosen.overrides) if pick.chosen else ""
        row |= {"picked_by": _mean(pick.picked_by), "picked_by_std": _std(pick.picked_by)}
        row |= {"test": _mean(pick.test), "test_std": _std(pick.test), "n": len(pick.test)}
        rows.append(row | {"settings_run": pick.run, "settings": len(pick.settings)})
    return pd.DataFrame(rows)


def page(grid: Grid, found: Sequence[Pick], select: str) -> str:
    """The picks as a page in Markdown."""
    how = {
        "validation": "Selected on the validation split: the highest validation accuracy over the evaluated rounds, "
        "mean over seeds. Beside it the test accuracy at that round.",
        "test": "Selected on test data, as the papers do: the highest test accuracy over the evaluated rounds, mean "
        "over seeds. It is biased upwards.",
    }[select]
    keys = _keys(grid)
    shown = dict.fromkeys([f"{select} accuracy (%)", "test accuracy (%)"])
    head = [*map(labels.head, keys), "best setting", *shown, "settings run"]
    rows = []
    for pick in found:
        accuracies = [_text(pick.picked_by), _text(pick.test)][: len(shown)] if pick.chosen else [""] * len(shown)
        told = [*labels.parts(keys, pick.settings[0].config), _told(pick), *accuracies]
        rows.append([*told, f"{pick.run} of {len(pick.settings)}"])
    commands = [
        f"- `{shlex.join(['fedsign', '-m', f'+experiment={grid.item}', *pick.chosen.overrides])}`"
        for pick in found
        if pick.chosen
    ]
    again = "\n".join(["The best settings again:", "", *commands]) if commands else ""
    sections = [document.provenance(grid), how, render.markdown(head, rows), again]
    return document.page(f"{document.title(grid)}, best settings", sections)


def _keys(grid: Grid) -> list[str]:
    kept = [key for key in grid.report["rows"] if not key.startswith(TUNED)]
    return kept if labels.METHOD in kept else [*kept, labels.METHOD]


def _pick(values: tuple[Any, ...], settings: list[Setting], column: str) -> Pick:
    scores = {i: _scores(setting, column) for i, setting in enumerate(settings)}
    scored = {i: pairs for i, pairs in scores.items() if pairs}
    if not scored:
        return Pick(values, settings, 0, None, [], [])
    best = max(scored, key=lambda i: float(np.mean([picked_by for picked_by, _ in scored[i]])))
    picked_by, test = (list(column) for column in zip(*scored[best], strict=True))
    return Pick(values, settings, len(scored), settings[best], picked_by, test)


def _scores(setting: Setting, column: str) -> list[tuple[float, float]]:
    """For every seed the best of a column, and the test accuracy in the same round, in per cent."""
    return [pair for run in setting.runs.values() if (pair := _score(run, column)) is not None]


def _score(run: Run, column: str) -> tuple[float, float] | None:
    values = run.column(column)
    if values is None:
        return None
    best = run.metrics[run.metrics[column] == values.max()].iloc[0]
    return 100 * float(best[column]), 100 * float(best["test_accuracy"])


def _told(pick: Pick) -> str:
    """What tells the chosen setting from those that it was chosen from."""
    if pick.chosen is None:
        return "not run"
    shared = set.intersection(*(set(setting.overrides) for setting in pick.settings))
    return ", ".join(o for o in pick.chosen.overrides if o not in shared) or "the only one"


def _text(values: Sequence[float]) -> str:
    deviation = f" ± {_std(values):.2f}" if len(values) > 1 else ""
    return f"{_mean(values):.2f}{deviation} ({len(values)})"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _std(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
