"""Ctrl-C and SIGTERM end a round, not a file."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SAME = 1.0  # seconds in which a second signal is taken for the first: a terminal and a parent may both send it


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop by a signal; what it has saved is whole."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """Within the block SIGINT and SIGTERM raise `Interrupted`; while `held`, the first is only remembered.

    Attributes:
        received: the number of the first signal, None before.
    """

    received: int | None = None
    _parent: int | None

    def __init__(self, pass_on: bool = False):
        """With `pass_on`, while there are child processes, the first signal is handed to them and remembered."""
        self._pass_on, self._held, self._parent = pass_on, False, None

    def __enter__(self) -> Interrupts:
        self.received, self._before = None, dict[int, Any]()
        if threading.current_thread() is threading.main_thread():  # handlers can be set nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._pass_on and self.received is not None and isinstance(error, Exception):
            raise Interrupted(self.received) from None  # whatever a child that had to stop led to

    def remember(self) -> None:
        """From now on, in a child process and outside of any block, the first signal is only remembered."""
        if self._parent is None:
            self.__enter__()
            self._parent = os.getppid()

    @property
    def orphaned(self) -> bool:
        """Whether the process that gave this one its jobs has died."""
        return self._parent not in (None, os.getppid())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within, whoever asks `received` decides when to stop; at the latest the end raises `Interrupted`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._at = number, time.monotonic()
            remembering = self._parent is not None and not self.orphaned
            if self._held or remembering or self._passed_on(number):
                return
        elif time.monotonic() - self._at < SAME:
            return
        raise Interrupted(number)

    def _passed_on(self, number: int) -> bool:
        children = multiprocessing.active_children() if self._pass_on else []
        for child in children:
            if child.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, number)
        return bool(children)
