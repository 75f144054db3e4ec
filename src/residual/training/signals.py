"""SIGINT, SIGTERM and SIGHUP set a flag that the loop reads at every step; a later one does what it did before.

Of the command line that is to end the process at once, elsewhere what the caller's own handler does: KeyboardInterrupt
in a notebook, which keeps its variables. Ending at once is harmless, since whatever is on disk under a final name is
whole, but costs the last save. So one that follows too soon is the same one again: schedulers and terminals signal
every process of a job, and a launcher such as torchrun hands on to its processes what it gets itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import Any

from residual.errors import Interrupted

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
HEEDED: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""SIGHUP is the end of a terminal or of its connection; Windows has none, and SIGBREAK for Ctrl-Break."""
AGAIN, AGAIN_TYPED = 10.0, 2.0
"""Seconds after the first signal from which on another one is meant: launchers hand theirs on in milliseconds, and a
busy machine or a peer that ended first may take seconds; nobody types Ctrl-C twice by mistake 2 s apart."""
_TYPED = {signal.SIGINT, getattr(signal, "SIGBREAK", signal.SIGINT)}

_active: list[Signals] = []
_command: ContextVar[bool] = ContextVar("command", default=False)


@contextmanager
def own_process() -> Iterator[None]:
    """A context in which the process is a command of ours, so that a second signal may end it at once."""
    before = _command.set(True)
    try:
        yield
    finally:
        _command.reset(before)


def is_command() -> bool:
    """Whether this is a command of ours, and not the program of someone else."""
    return _command.get()


def stop() -> None:
    """Have the training of this process save its state and end, as after Ctrl-C: `residual.stop`.

    From a listener, or from another thread; the call that trains raises `Interrupted`, and `residual.resume` goes on.
    Where nothing trains, nothing happens.
    """
    for one in [*_active]:
        if one.number is None:
            one.number, one._since, one.asked = signal.SIGINT, time.monotonic(), True


class Signals:
    """A context in which the first signal is remembered in `number`."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.asked = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return self.number is not None

    def name(self, number: int) -> str:
        """What has stopped the work: a signal by its name, or who asked for the same by `stop`."""
        return "residual.stop()" if self.asked else signal.Signals(number).name

    def heed(
        self,
        meanwhile: str = "while the images were checked",
        where: object = "data",
        remedy: str = "give the command again, it goes on where it was",
    ) -> None:
        """Stop what comes before the first step, where there is nothing to save yet.

        Raises:
            Interrupted: a signal came.
        """
        if self.number is not None:
            raise Interrupted(f"stopped by {self.name(self.number)} {meanwhile}", where, remedy, self.number)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.number is None:
            self.number, self._since = number, now
        elif now - self._since >= (AGAIN_TYPED if number in _TYPED else AGAIN):
            if not _command.get():
                self.__exit__()
                signal.raise_signal(number)
                return
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a progress bar hides the cursor
            os._exit(128 + number)

    def __enter__(self) -> Signals:
        _active.append(self)
        # Python lets only the main thread receive signals; elsewhere the caller keeps its own handling.
        if threading.current_thread() is threading.main_thread():
            for number in HEEDED:
                before = signal.getsignal(number)
                if before is None or (number.name == "SIGHUP" and before == signal.SIG_IGN):
                    continue  # a program around Python has it, and could not have it back; or nohup has asked for it
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self in _active:
            _active.remove(self)
