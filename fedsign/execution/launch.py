"""Start the ranks of one machine: the process forks after the data are loaded, so that they lie in memory once."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import torch
from torch import distributed

from fedsign.errors import FedsignError
from fedsign.execution.ranks import LONGEST_WAIT, LostRankError, Ranks
from fedsign.execution.shared_memory import SharedMemory
from fedsign.interrupt import Interrupted

T = TypeVar("T")

PATIENCE = 5.0  # seconds that the ranks are given to end by themselves
TO_MEET = 10.0  # seconds that the ranks have to find each other
PR_SET_PDEATHSIG = 1
LEFT_ALONE = 3  # exit status of a rank that could not go on because another was gone


def launch(workers: int, body: Callable[[Ranks], T]) -> T:
    """Run ``body(ranks)`` in this process as rank 0 and in `workers` - 1 forked ones.

    Returns:
        What the body returned in this process.

    Raises:
        LostRankError: another rank died; the remaining ones are ended.
        FedsignError: the body failed in another rank.
    """
    if workers == 1:
        return body(Ranks())
    if torch.get_num_threads() > 1:
        raise RuntimeError("ranks are forked from a process of one thread; call torch.set_num_threads(1) at its start")
    shared = SharedMemory(workers)
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryDirectory(prefix="fedsign-") as folder:
        children = _Children()
        parent = os.getpid()
        for rank in range(1, workers):
            if (pid := os.fork()) == 0:
                _child(Ranks(rank, workers, shared=shared), body, Path(folder), parent)
            children.alive[pid] = rank
        children.folder = Path(folder)
        try:
            children.watch()
            try:
                return _joined(Ranks(0, workers, shared=shared), body, Path(folder))
            finally:
                children.told = True
        except LostRankError as error:
            children.unwatch()
            raise children.why() or error from None
        finally:
            children.unwatch()
            if distributed.is_initialized():
                distributed.destroy_process_group()
            children.end()
            shared.close()


def _joined(ranks: Ranks, body: Callable[[Ranks], T], folder: Path) -> T:
    """Run the body as a member of the group."""
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    store = distributed.FileStore(str(folder / "store"), ranks.size)  # type: ignore[attr-defined]
    try:
        distributed.init_process_group(
            "gloo", store=store, rank=ranks.rank, world_size=ranks.size, timeout=timedelta(seconds=TO_MEET)
        )
        group: Any = distributed.new_group(timeout=LONGEST_WAIT)
    except RuntimeError as error:
        raise LostRankError("a process of this run did not start") from error
    return body(replace(ranks, group=group))


def _child(ranks: Ranks, body: Callable[[Ranks], Any], folder: Path, parent: int) -> NoReturn:
    """The life of a forked rank. It ends here, whatever happens, and never returns into its parent's code."""
    status = 1
    try:
        _die_with(parent)
        _joined(ranks, body, folder)
        status = 0
    except Interrupted:
        status = 0
    except LostRankError:
        status = LEFT_ALONE  # another is the cause
    except FedsignError as error:
        (folder / f"error_{ranks.rank}").write_text(str(error))
    except BaseException as error:
        traceback.print_exc()
        (folder / f"error_{ranks.rank}").write_text(f"{type(error).__name__}: {error}")
    finally:
        sys.stderr.flush()
        os._exit(status)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends, where it can."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


class _Children:
    """The forked ranks.

    Attributes:
        alive: process id to rank.
        failed: rank to how it ended, of those that ended badly.
        told: whether LostRankError was raised, or no longer needs to be.
    """

    def __init__(self) -> None:
        self.alive: dict[int, int] = {}
        self.failed: dict[int, int] = {}
        self.folder = Path()
        self.told = False
        self._before: Any = None

    def watch(self) -> None:
        """Have a rank that ends badly raise LostRankError here at once, also in the middle of training."""
        if threading.current_thread() is threading.main_thread():  # handlers can be set nowhere else
            self._before = signal.signal(signal.SIGCHLD, self._look)

    def unwatch(self) -> None:
        """Undo `watch`."""
        if self._before is not None:
            signal.signal(signal.SIGCHLD, self._before)
            self._before = None

    def _look(self, number: int, frame: FrameType | None) -> None:
        self._reap()
        if self.failed and not self.told:  # once: what follows is the end
            self.told = True
            raise LostRankError("a process of this run is gone")

    def _reap(self) -> None:
        for pid in list(self.alive):
            try:
                ended, status = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # a signal came in between, and its handler was here before
                continue
            if ended and (code := os.waitstatus_to_exitcode(status)):
                self.failed[self.alive[pid]] = code
            if ended:
                del self.alive[pid]

    def why(self) -> FedsignError | None:
        """What the rank that failed said, or how it ended."""
        deadline = time.monotonic() + PATIENCE
        while not self._causes() and self.alive and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.01)
        for rank, code in self._causes():
            said = self.folder / f"error_{rank}"
            if said.exists():
                return FedsignError(said.read_text())
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
            return LostRankError(f"worker {rank} ended {how}; the same command goes on from the last checkpoint")
        return None

    def _causes(self) -> list[tuple[int, int]]:
        return [(rank, code) for rank, code in sorted(self.failed.items()) if code != LEFT_ALONE]

    def end(self) -> None:
        """Wait for the ranks that are ending; end the others."""
        deadline = time.monotonic() + (0 if self.failed or sys.exc_info()[0] else PATIENCE)
        while self.alive and time.monotonic() < deadline:
            self._reap()
            time.sleep(0.002)
        for pid in self.alive:
            os.kill(pid, signal.SIGKILL)
        for pid in list(self.alive):
            os.waitpid(pid, 0)
            del self.alive[pid]
