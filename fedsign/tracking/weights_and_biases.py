"""One W&B run per job, accuracy against uplink bits. Never asks: offline unless the user is logged in."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedsign.config import Config
from fedsign.errors import warn
from fedsign.tracking.offline import last_step

FINISH_TIMEOUT = 120.0  # seconds for what is left to upload; the rest stays on disk for `wandb sync`

SUMMARISED = (
    "status", "method", "seed", "cohort", "parameters", "rounds", "best_accuracy", "final_accuracy", "uplink_bits",
    "uplink_bits_formula", "downlink_bits", "wall_seconds", "git_commit",
)  # fmt: skip


class WandbRun:
    """A W&B run whose x axis is ``uplink_bits``.

    Whatever fails in W&B costs a warning and what it would have shown, never the run.
    """

    def __init__(self, config: Config, folder: Path, rows: Sequence[dict[str, Any]]):
        """Start the run, or go on with the one that an interrupted job of this folder started.

        Args:
            config: of the run.
            folder: the run directory.
            rows: of metrics.csv so far; those that W&B has not got are logged.
        """
        self._run: Any = None
        self._logged = 0  # the last round that W&B has
        identity = hashlib.sha256(f"{config.fingerprint} {folder.resolve()}".encode()).hexdigest()[:16]
        with self._or_without():
            self._start(config, folder, identity)
        for row in rows:
            self.log({name: value for name, value in row.items() if value != ""})

    def _start(self, config: Config, folder: Path, identity: str) -> None:
        import wandb

        logging.getLogger("wandb").setLevel(logging.ERROR)
        tracking = config.tracking
        mode = _mode(tracking.mode)
        self._run = wandb.init(
            project=tracking.project,
            entity=tracking.entity,
            group=config.experiment,
            name=folder.name,
            id=identity,
            config=config.resolved,
            dir=str(folder),
            mode=mode,
            resume="allow",
            settings=wandb.Settings(
                silent=True, console="off", finish_timeout=FINISH_TIMEOUT, finish_timeout_raises=True
            ),
        )
        self._run.define_metric("uplink_bits")
        self._run.define_metric("*", step_metric="uplink_bits")
        self._logged = max(self._run.step - 1, last_step(folder, identity) if mode == "offline" else 0)

    def log(self, row: dict[str, Any]) -> None:
        """Log a row of metrics.csv at the step of its round, once; empty columns are left out."""
        t = int(row["round"])
        if self._run is None or t <= self._logged:
            return
        with self._or_without():
            self._run.log({name: _number(value) for name, value in row.items() if value is not None}, step=t)
            self._logged = t

    def finish(self, summary: dict[str, Any], failed: bool) -> None:
        """Close the run; always called, and only the first time counts."""
        if self._run is None:
            return
        with self._or_without():
            for key in SUMMARISED:
                if summary.get(key) is not None:
                    self._run.summary[key] = summary[key]
            self._run.finish(exit_code=1 if failed else 0)
            self._run = None

    @contextlib.contextmanager
    def _or_without(self) -> Iterator[None]:
        """Do the block; where W&B fails in it, go on without W&B."""
        try:
            yield
        except Exception as error:
            self._run = None
            lines = str(error).splitlines() or ["no reason given"]
            warn(f"W&B failed ({type(error).__name__}: {lines[0]}); metrics.csv has everything")
            with contextlib.suppress(Exception, SystemExit):  # what is left of it must not speak at the exit
                import wandb

                wandb.teardown()


def _mode(mode: str) -> Any:
    """``auto`` is what WANDB_MODE says, else online for a user with a key and offline for anyone else."""
    if mode != "auto":
        return mode
    if os.environ.get("WANDB_MODE"):
        return os.environ["WANDB_MODE"]
    import wandb

    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def _number(value: Any) -> Any:
    """A value that was read from metrics.csv as the number it is."""
    if not isinstance(value, str):
        return value
    number = float(value)
    return int(value) if value.isdecimal() else number
