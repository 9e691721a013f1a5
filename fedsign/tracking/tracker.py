"""Metrics out: always to CSV, and to W&B if asked."""

from __future__ import annotations

from typing import Any

from fedsign.config import Config
from fedsign.tracking.table import Table

# Accuracies whose first rounds are recorded.
TARGETS = [*(percent / 100 for percent in range(5, 100, 5)), 0.96, 0.97, 0.98, 0.99]


class Tracker:
    """Collects rows; closing it is the caller's duty, whatever happens."""

    def __init__(self, config: Config, rounds_done: int):
        """Open the tables, keeping the rows of the rounds that a checkpoint has done.

        Raises:
            FedsignError: one of those rows is not there.
            OSError: they cannot be written.
        """
        config.output.mkdir(parents=True, exist_ok=True)
        self._metrics = Table(config.output / "metrics.csv", rounds_done, config.eval.every)
        self._cohorts = Table(config.output / "cohorts.csv", rounds_done)
        self._targets = sorted({*TARGETS, *([config.stop.accuracy] if config.stop.accuracy else [])})
        self._wandb = None
        if config.tracking.name == "wandb":
            from fedsign.tracking.weights_and_biases import WandbRun

            self._wandb = WandbRun(config, config.output, self._metrics.rows)

    def metrics(self, row: dict[str, Any]) -> None:
        """An evaluated round."""
        self._metrics.append(row)
        if self._wandb is not None:
            self._wandb.log(row)

    def cohort(self, t: int, clients: list[int]) -> None:
        """Who trained in a round."""
        self._cohorts.append({"round": t, "clients": " ".join(map(str, clients))})

    def sync(self) -> None:
        """Bring the rows to the disk: a checkpoint may then say that their rounds are done. Raises OSError."""
        self._metrics.sync()
        self._cohorts.sync()

    def summary(self) -> dict[str, Any]:
        """Best and final accuracy, totals, and the first round and bits at which each target was reached."""
        rows = self._metrics.rows
        summary: dict[str, Any] = {}
        if not rows:
            return summary
        last = rows[-1]
        summary |= {"rounds": int(last["round"])}
        summary |= {k: int(last[k]) for k in ("uplink_bits", "uplink_bits_formula", "downlink_bits")}
        for key in ("objective", "distance"):
            if key in last:
                summary[f"final_{key}"] = float(last[key])
        scored = [(float(row["test_accuracy"]), row) for row in rows if row["test_accuracy"] not in (None, "")]
        if not scored:
            return summary
        best, best_row = max(scored, key=lambda pair: pair[0])
        summary |= {
            "best_accuracy": best,
            "best_round": int(best_row["round"]),
            "final_accuracy": scored[-1][0],
        }
        validated = [
            (float(row["validation_accuracy"]), accuracy) for accuracy, row in scored if "validation_accuracy" in row
        ]
        if validated:
            best, accuracy = max(validated, key=lambda pair: pair[0])
            summary |= {"best_validation_accuracy": best, "accuracy_at_best_validation": accuracy}
        summary["targets"] = {
            f"{target:g}": {"round": int(row["round"]), "uplink_bits": int(row["uplink_bits"])}
            for target in self._targets
            if (row := next((row for accuracy, row in scored if accuracy >= target), None)) is not None
        }
        return summary

    def close(self, summary: dict[str, Any], failed: bool) -> None:
        """Finish the W&B run."""
        if self._wandb is not None:
            self._wandb.finish(summary, failed)
