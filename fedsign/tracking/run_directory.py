"""The run directory: what exactly ran, and whether it is new, half done or finished."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from fedsign.config import Config, differing_keys, fingerprint
from fedsign.durable import replacing, write_text
from fedsign.errors import ConfigError

Status = Literal["new", "unfinished", "finished"]

CONFIG_HEADER = "# A run of fedsign. Again: fedsign --config-dir THIS_FOLDER --config-name config [output=ELSEWHERE]\n"
ENDED = ("finished", "stopped")  # statuses of a run that is not to be run again
RUNS = Path("outputs")  # where runs are that are given no other place
FAILURE = "error.txt"  # the traceback of a job of a sweep that crashed
# Written under `hydra:` of a run's config.yaml, so that the file alone runs again with the same behaviour.
HYDRA = {
    "run": {"dir": "${output}"},
    "output_subdir": None,
    "job": {"chdir": False},
    "hydra_logging": {"root": None},
    "job_logging": {"root": None},
}


class RunDirectory:
    """A folder that belongs to one resolved config."""

    def __init__(self, config: Config):
        """Claim the folder for a config; nothing is written yet.

        Raises:
            ConfigError: it cannot be written, or holds a run of a different config.
        """
        self.path = config.output
        self._config = config
        self._check_writable()
        self.status: Status = self._look()
        if config.dry_run and self.status == "finished":
            raise ConfigError(f"output={self.path}: holds a finished run, whose summary a dry run would replace")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Within, no other process works here; if one does, wait for it to end and look what it left.

        A finished run and a dry run need no lock.

        Raises:
            ConfigError: the other process left a run of a different config.
        """
        if self.status == "finished" or self._config.dry_run:
            yield
            return
        (self.path / "checkpoint").mkdir(exist_ok=True)
        with (self.path / "checkpoint" / "lock").open("a") as file:  # closing it, or dying, unlocks
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):  # else the file system has no locks
                    print(f"{self.path}: waiting for another process that is at work here", file=sys.stderr, flush=True)
                    fcntl.lockf(file, fcntl.LOCK_EX)
                    self.status = self._look()
            yield

    def twin(self) -> Path | None:
        """A finished run of the same config that another item of a paper has made, where this one is new."""
        config = self._config
        name = f"*-{config.fingerprint[:8]}"
        given = not self.path.match(name)  # a place of its own is wanted
        if given or self.status != "new" or config.resume == "never" or config.dry_run:
            return None
        for path in sorted(RUNS.rglob(name)):
            summary = read_summary(path)
            if summary.get("status") in ENDED and summary.get("fingerprint") == config.fingerprint:
                return path
        return None

    def _look(self) -> Status:
        theirs = self._stored_config()
        if theirs is not None and fingerprint(theirs) != self._config.fingerprint:
            keys = differing_keys(self._config.resolved, theirs)
            raise ConfigError(
                f"output={self.path}: holds a run of a different config ({', '.join(keys[:4])}"
                f"{', ...' if len(keys) > 4 else ''}); choose another output"
            )
        if self._config.resume == "never" and not self._config.dry_run:
            return "new"
        if self.summary().get("status") in ENDED:
            return "finished"
        return "unfinished" if (self.path / "metrics.csv").exists() else "new"

    def _check_writable(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"output={self.path}: cannot be created ({error.strerror})") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise ConfigError(f"output={self.path}: is not writable")

    def _stored_config(self) -> dict[str, Any] | None:
        file = self.path / "config.yaml"
        if not file.exists():
            return None
        try:
            stored = yaml.safe_load(file.read_text())
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"output={self.path}: its config.yaml cannot be read ({str(error).splitlines()[0]})"
            ) from None
        if not isinstance(stored, dict):
            raise ConfigError(f"output={self.path}: its config.yaml is not a config; choose another output")
        stored.pop("hydra", None)
        return stored

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says, or nothing."""
        return read_summary(self.path)

    def write_config(self) -> None:
        """Write ``config.yaml``; what an earlier run left of its end is removed."""
        for name in ("summary.json", "model.npz", FAILURE):
            (self.path / name).unlink(missing_ok=True)
        body = yaml.safe_dump(self._config.resolved | {"hydra": HYDRA}, sort_keys=False, allow_unicode=True)
        write_text(self.path / "config.yaml", CONFIG_HEADER + body)

    def write_model(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Write ``model.npz``, an array per tensor."""
        with replacing(self.path / "model.npz") as file:
            np.savez(file, **tensors)  # type: ignore[arg-type]  # the stubs mistake the arrays for `allow_pickle`

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write ``summary.json``."""
        write_text(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")


def read_summary(path: Path) -> dict[str, Any]:
    """The ``summary.json`` of a run directory; empty if there is none that can be read."""
    try:
        summary = json.loads((path / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def remove_if_empty(folder: Path) -> None:
    """Undo what Hydra created for a run that never began."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
