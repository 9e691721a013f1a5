"""The table of a comparison: accuracy and uplink, mean and deviation over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fedsign.report.runs import Run
from fedsign.tracking.progress import bits_text

BASELINE = "fedavg"
SHARE_OF_BEST = 0.95  # of the baseline's best accuracy: the target where the config names none


def target_accuracy(groups: dict[str, list[Run]]) -> float | None:
    """The accuracy to which uplink is counted: the config's, else 95 % of the baseline's best, else of the best.

    None where the config names none and there is nothing to compare.
    """
    runs = [run for group in groups.values() for run in group]
    given = [run.config.get("report.target_accuracy") for run in runs]
    if (first := next((target for target in given if target), None)) is not None:
        return float(first)
    if len(groups) == 1:
        return None
    baseline = [run for run in runs if run.algorithm == BASELINE] or runs
    return math.floor(SHARE_OF_BEST * max(run.summary["best_accuracy"] for run in baseline) * 1000) / 1000


def comparison(groups: dict[str, list[Run]], target: float | None) -> pd.DataFrame:
    """One row per group of runs.

    Columns: ``runs`` (seeds), ``final_accuracy``, ``best_accuracy`` and their ``_std``, ``uplink_bits`` of a run in
    all, ``bits_per_parameter`` (a client's uplink in a round), ``bits_to_target``, and ``ratio``: the baseline's bits
    to the target over these. A group in which a run misses the target has no number there; the last two columns need a
    target, and the last one a baseline.
    """
    rows = {label: _row(runs, target) for label, runs in groups.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "method"
    baseline = [label for label, runs in groups.items() if runs[0].algorithm == BASELINE]
    if target is not None and baseline:
        table["ratio"] = table.loc[baseline, "bits_to_target"].min() / table["bits_to_target"]
    return table


def _row(runs: Sequence[Run], target: float | None) -> dict[str, float]:
    row: dict[str, float] = {"runs": len(runs)}
    for key in ("final_accuracy", "best_accuracy"):
        values = np.array([run.summary[key] for run in runs])
        row[key] = values.mean()
        row[f"{key}_std"] = values.std(ddof=1) if len(runs) > 1 else math.nan
    row["uplink_bits"] = _mean([run.summary["uplink_bits"] for run in runs])
    row["bits_per_parameter"] = _mean([_bits_per_parameter(run) for run in runs])
    if target is not None:
        row["bits_to_target"] = _mean([run.first("uplink_bits", target) for run in runs])
    return row


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _bits_per_parameter(run: Run) -> float:
    sent = run.summary["rounds"] * run.summary["cohort"] * run.summary["parameters"]
    return run.summary["uplink_bits"] / sent


def readable(table: pd.DataFrame, target: float | None) -> pd.DataFrame:
    """The comparison with numbers as a person reads them."""
    out = pd.DataFrame(index=table.index)
    if table["runs"].max() > 1:
        out["seeds"] = table["runs"].astype(int).astype(str)
    for key, title in (("final_accuracy", "final"), ("best_accuracy", "best")):
        out[f"{title} accuracy"] = [
            f"{100 * mean:.2f} %" + ("" if math.isnan(std) else f" ± {100 * std:.2f}")
            for mean, std in zip(table[key], table[f"{key}_std"], strict=True)
        ]
    out["bits/parameter"] = [f"{bits:.3f}" for bits in table["bits_per_parameter"]]
    out["total uplink"] = [bits_text(bits) for bits in table["uplink_bits"]]
    if target is not None:
        out[f"uplink to {100 * target:g} %"] = [
            "not reached" if math.isnan(bits) else bits_text(bits) for bits in table["bits_to_target"]
        ]
    if "ratio" in table:
        out["ratio to FedAvg"] = ["" if math.isnan(ratio) else f"{ratio:.1f}x" for ratio in table["ratio"]]
    return out
