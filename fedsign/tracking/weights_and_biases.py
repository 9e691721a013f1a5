"""One W&B run per job, accuracy against uplink bits. Never asks: offline unless the user is logged in."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from fedsign.config import Config

SUMMARISED = (
    "best_accuracy",
    "final_accuracy",
    "uplink_bits",
    "uplink_bits_formula",
    "downlink_bits",
    "rounds",
)


class WandbRun:
    """A W&B run whose x axis is ``uplink_bits``."""

    def __init__(self, config: Config, folder: Path):
        """Start the run, or go on with the one that an interrupted job of this folder started."""
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        tracking = config.tracking
        identity = f"{config.fingerprint} {folder.resolve()}"
        self._run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=config.experiment,
            name=folder.name,
            id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            config=config.resolved,
            dir=str(folder),
            mode=_mode(tracking.mode),
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._run.define_metric("uplink_bits")
        self._run.define_metric("*", step_metric="uplink_bits")

    def log(self, row: dict[str, Any]) -> None:
        """Log a row of metrics.csv at the step of its round; empty columns are left out."""
        self._run.log({k: v for k, v in row.items() if v is not None}, step=int(row["round"]))

    def finish(self, summary: dict[str, Any], failed: bool) -> None:
        """Close the run; always called."""
        for key in SUMMARISED:
            if summary.get(key) is not None:
                self._run.summary[key] = summary[key]
        self._run.finish(exit_code=1 if failed else 0)


def _mode(mode: str) -> Any:
    """``auto`` is what WANDB_MODE says, else online for a user with a key and offline for anyone else."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"
