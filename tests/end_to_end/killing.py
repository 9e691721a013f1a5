"""Runs that are killed: a process that has imported everything once forks a child for every run, and kills it.

As a script, the process that forks: a line of JSON per run comes in, a line goes out.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EVENTS = ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir", "shutil.rmtree")  # of Python's audit hooks


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: exit status of the child; -9 if it was killed.
        seconds: of its life.
        events: how often it opened, renamed, removed or synced a file under its output folder.
        err: what it printed to stderr.
    """

    status: int
    seconds: float
    events: int
    err: str


class Killer:
    """``Killer().run(resolved_config, after=0.1)``: the child and all that it started get SIGKILL after 0.1 s."""

    def __init__(self) -> None:
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(
        self, config: dict[str, Any], after: float | None = None, at: int | None = None, worker: bool = False
    ) -> Outcome:
        """Run a config, to its end or until it is killed: after so many seconds, or in its `at`-th file event.

        With `worker`, only one of the processes that it has started is.
        """
        assert self._process.stdin and self._process.stdout
        print(json.dumps([config, after, at, worker]), file=self._process.stdin, flush=True)
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process that forks."""
        self._process.communicate()


def _child(config: dict[str, Any], at: int | None, counted: Path) -> int:
    """Run a config in this process; its events are counted in the size of a file."""
    from fedsign import job

    counter = counted.open("ab", buffering=0)
    output, busy = config["output"], []

    def event(name: str, arguments: tuple[Any, ...]) -> None:
        if name in EVENTS and not busy and str(arguments[0]).startswith(output):
            count()

    def count() -> None:
        busy.append(True)
        counter.write(b".")
        if counter.tell() == at:
            os.killpg(0, signal.SIGKILL)
        busy.pop()

    def synced(descriptor: int, fsync: Any = os.fsync) -> None:
        count()
        fsync(descriptor)

    sys.addaudithook(event)
    os.fsync = synced
    try:
        job.run(config)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


def _kill(child: int, worker: bool) -> None:
    """Kill a run with all its processes, or one of those that it has started, if there is one."""
    if not worker:
        os.killpg(child, signal.SIGKILL)
    elif started := Path(f"/proc/{child}/task/{child}/children").read_text().split():
        os.kill(int(started[-1]), signal.SIGKILL)


def _serve() -> None:
    import torch

    import fedsign.execution.setup
    import fedsign.simulator  # noqa: F401
    from fedsign.config import Config

    torch.set_num_threads(1)
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    err, counted = folder / f"killing-{os.getpid()}.err", folder / f"killing-{os.getpid()}.events"
    for line in sys.stdin:
        config, after, at, worker = json.loads(line)
        Config(config)  # imports what it names
        for path in (err, counted):
            path.write_bytes(b"")
        started = time.monotonic()
        if (child := os.fork()) == 0:
            os.setsid()
            log = os.open(err, os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1), os.dup2(log, 2)
            sys.stdout, sys.stderr = (
                io.TextIOWrapper(io.FileIO(n, "w", closefd=False), write_through=True) for n in (1, 2)
            )
            os._exit(_child(config, at, counted))
        timer = threading.Timer(after, _kill, (child, worker)) if after is not None else None
        if timer:
            timer.start()
        _, status = os.waitpid(child, 0)
        seconds = time.monotonic() - started
        if timer:
            timer.cancel()
        outcome = Outcome(os.waitstatus_to_exitcode(status), seconds, counted.stat().st_size, err.read_text())
        print(json.dumps(vars(outcome)), flush=True)
    for path in (err, counted):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    _serve()
