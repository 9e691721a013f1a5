"""What is read off a finished run, by name: the accuracies, rounds and bits that the papers' tables hold."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fedsign.errors import ConfigError
from fedsign.report.runs import Run
from fedsign.tracking.progress import bits_text

Unit = Literal["percent", "rounds", "bits", "number"]
LOSS = "accuracy_loss"  # the one metric of several settings together; see `cells.py`
TRAIN_BAND = 0.01  # width of the band of training accuracies, as FedSMU's Table 7 has it
ALLOWED = (
    "best_accuracy, final_accuracy, best_NAME_accuracy, final_NAME_accuracy, rounds_to_A, bits_to_A, "
    "accuracy_at_round_N, accuracy_at_train_A, accuracy_loss, mean_mu_index, final_objective, final_distance"
)


@dataclass(frozen=True)
class Metric:
    """A number of a run.

    Attributes:
        name: as in ``report.metrics`` and in the files of the papers' numbers.
        title: for a head of a column or an axis.
        words: what it is, for a caption.
        unit: accuracies are in per cent.
        of: its value for a run; NaN where a target was not reached, None where the run did not measure it.
    """

    name: str
    title: str
    words: str
    unit: Unit
    of: Callable[[Run], float | None]

    def text(self, value: float, std: float = math.nan) -> str:
        """A value as it is read, with its deviation where there is one."""
        if self.unit == "bits":
            return bits_text(value) + ("" if math.isnan(std) else f" ± {bits_text(std)}")
        form = {"percent": ".2f", "rounds": ".4g" if value < 1000 else ".0f"}.get(self.unit, ".4g")
        return f"{value:{form}}" + ("" if math.isnan(std) else f" ± {std:{form}}")


def metric(name: str) -> Metric:
    """The metric of a name. Raises ConfigError."""
    patterns: tuple[tuple[str, Callable[..., Metric]], ...] = (
        (r"(best|final)_(?:(\w+)_)?accuracy", _accuracy),
        (r"(rounds|bits)_to_([\d.]+)", _to),
        (r"accuracy_at_round_(\d+)", _at_round),
        (r"accuracy_at_train_([\d.]+)", _at_train),
        (r"final_(objective|distance)", _final),
        (r"mean_mu_index", _mu_index),
        (LOSS, _loss),
    )
    for pattern, make in patterns:
        if match := re.fullmatch(pattern, name):
            return make(name, *match.groups())
    raise ConfigError(f"report.metrics={name}: no such metric; allowed: {ALLOWED}")


def _accuracy(name: str, which: str, model: str | None) -> Metric:
    column = f"{model or 'test'}_accuracy"
    what = {None: "test accuracy", "test": "test accuracy", "validation": "validation accuracy"}.get(
        model, f"test accuracy of the {model} model"
    )
    short = "accuracy" if model is None else f"{model} accuracy"
    words = f"the best {what} over the evaluated rounds" if which == "best" else f"the {what} after the last round"

    def of(run: Run) -> float | None:
        values = run.column(column)
        if values is None:
            return None
        return 100 * float(values.max() if which == "best" else values.iloc[-1])

    return Metric(name, f"{which} {short} (%)", f"{words}, in per cent", "percent", of)


def _to(name: str, what: str, target: str) -> Metric:
    accuracy = float(target)
    column = {"rounds": "round", "bits": "uplink_bits"}[what]
    said = {"rounds": "rounds", "bits": "uplink bits of all clients"}[what]
    return Metric(
        name,
        f"{what} to {100 * accuracy:g} %",
        f"{said} until a test accuracy of {100 * accuracy:g} % is first reached",
        "rounds" if what == "rounds" else "bits",
        lambda run: run.first(column, accuracy),
    )


def _at_round(name: str, number: str) -> Metric:
    def of(run: Run) -> float | None:
        values = run.metrics.loc[run.metrics["round"] == int(number), "test_accuracy"].dropna()
        return 100 * float(values.iloc[0]) if len(values) else None

    words = f"the test accuracy after {number} rounds, in per cent"
    return Metric(name, f"accuracy after {number} rounds (%)", words, "percent", of)


def _at_train(name: str, target: str) -> Metric:
    low = float(target)

    def of(run: Run) -> float | None:
        train = run.column("global_train_accuracy")
        if train is None:
            return None
        tolerance = 1e-9  # of sums like 0.6 + 0.01
        inside = train[(train >= low - tolerance) & (train <= low + TRAIN_BAND + tolerance)].index
        return 100 * float(run.metrics.loc[inside, "test_accuracy"].mean())

    band = f"{100 * low:g} to {100 * (low + TRAIN_BAND):g} %"
    words = f"the mean test accuracy over the evaluations with a training accuracy of {band}, in per cent"
    return Metric(name, f"test accuracy at {100 * low:g} % training accuracy", words, "percent", of)


def _final(name: str, what: str) -> Metric:
    words = {"objective": "the objective", "distance": "the distance to the optimum"}[what]

    def of(run: Run) -> float | None:
        values = run.column(what)
        return None if values is None else float(values.iloc[-1])

    return Metric(name, f"final {what}", f"{words} after the last round", "number", of)


def _mu_index(name: str) -> Metric:
    def of(run: Run) -> float | None:
        values = run.column("mu_index")
        return None if values is None else float(values.mean())

    return Metric(
        name, "magnitude uniformity", "the mean magnitude-uniformity index of the cohorts' updates", "number", of
    )


def _loss(name: str) -> Metric:
    words = "the best test accuracy less that of FedAvg, summed over the settings, in points"
    best = metric("best_accuracy")
    return Metric(name, "accuracy loss", words, "percent", best.of)
