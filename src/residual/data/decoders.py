"""Processes that decode images, for machines whose threads get in each other's way; `data.workers = "processes"`.

Each process is asked by a thread of its own and answers through a pipe: no shared memory is needed, which containers
keep small, and a process that dies takes nothing with it. It is started anew, once for an image. None is forked and
none imports the user's program, so it matters neither which threads there are nor how the program begins. A process
that rests for a minute is ended; it comes back when it is asked again.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from residual.data.workers import start_module
from residual.errors import EnvironmentFault, log

STARTING: Final = 120.0  # seconds that a process may take until it is ready
SECONDS: Final = 60.0  # for one image
REST: Final = 60.0  # seconds after which a process that nobody asks is ended
_TICK: Final = 0.5
_PIPE: Final = 1 << 20

Order = tuple[str, list[Any]]  # what the image is called in an error; the line of `decoder`


class _Died(Exception):
    """A process ended before it answered; `code` as subprocess gives it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Child:
    """One process, started when it is first asked."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.until, self.asked, self.late = float("inf"), time.monotonic(), False

    def answer(self, lines: Sequence[bytes], rows: Sequence[NDArray[np.uint8]], found: list[bool]) -> None:
        """Fill the rows in their order, and note for each whether it could be filled.

        Raises:
            _Died: the process is gone; what was noted until then stands.
        """
        process = self._ready()
        assert isinstance(process.stdout, io.BufferedReader)
        try:
            self._send(process, lines[0])
            for number, row in enumerate(rows):
                if number + 1 < len(lines):  # it has something to do while this answer is read
                    self._send(process, lines[number + 1])
                self.until = time.monotonic() + SECONDS
                mark = process.stdout.read(1)
                view = row.data.cast("B")
                if mark not in (b"\0", b"\1") or (mark == b"\1" and process.stdout.readinto(view) != len(view)):
                    raise _Died(self.end())
                found.append(mark == b"\1")
        except OSError:
            raise _Died(self.end()) from None
        finally:
            self.until, self.asked = float("inf"), time.monotonic()

    def _send(self, process: subprocess.Popen[bytes], line: bytes) -> None:
        assert process.stdin is not None
        process.stdin.write(line)
        process.stdin.flush()

    def _ready(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            self.late, self.until = False, time.monotonic() + STARTING
            self.process = start_module("residual.data.decoder")
            assert self.process.stdout is not None
            _widen(self.process.stdout.fileno())
            if self.process.stdout.read(1) != b"\2":
                code = self.end()
                what = f"a process that decodes images cannot start: it ended with {code}"
                raise EnvironmentFault(what, "data.workers", "raise the limits of memory, or set data.workers=threads")
        return self.process

    def end(self) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return process.wait()


def _widen(pipe: int) -> None:
    """Let a whole image fit into the pipe, where the system can."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)


class Decoders:
    """As many processes as are asked for at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.free: list[_Child] = []
        self.busy: set[_Child] = set()
        self.watched = False

    def decode(self, orders: Sequence[Order], rows: Sequence[NDArray[np.uint8]]) -> list[bool]:
        """Fill the rows; False for every image that could not be made.

        Raises:
            EnvironmentFault: a process died of one image twice, or none can be started.
        """
        lines = [json.dumps(order).encode() + b"\n" for _, order in orders]
        found: list[bool] = []
        died_at = -1
        child = self._take()
        try:
            while len(found) < len(orders):
                try:
                    child.answer(lines[len(found) :], rows[len(found) :], found)
                except _Died as death:
                    place = len(found)
                    name, words = orders[place][0], self._words(child, death.code)
                    if died_at == place:
                        what = f"the process that decodes it {words}, twice"
                        remedy = "give the program more memory, or look at the file with `residual data check`"
                        raise EnvironmentFault(what, name, remedy) from None
                    died_at = place
                    log.warning("a process that decodes images %s (%s); another takes its place", words, name)
        finally:
            self._give(child)
        return found

    def _words(self, child: _Child, code: int) -> str:
        if child.late:
            return f"took longer than {SECONDS:g} s"
        return "was killed, as the system does when memory runs out" if code == -9 else f"ended with {code}"

    def _take(self) -> _Child:
        with self.lock:
            if not self.watched:
                self.watched = True
                threading.Thread(target=self._watch, name="residual-decoders", daemon=True).start()
            child = self.free.pop() if self.free else _Child()
            self.busy.add(child)
            return child

    def _give(self, child: _Child) -> None:
        with self.lock:
            self.busy.discard(child)
            self.free.append(child)

    def _watch(self) -> None:
        """End what takes too long, and what rests; itself, when there is nothing left to watch."""
        while True:
            time.sleep(_TICK)
            with self.lock:
                now = time.monotonic()
                for child in self.busy:
                    if child.process is not None and now > child.until:
                        child.late, child.until = True, float("inf")
                        child.process.kill()
                for child in [c for c in self.free if now - c.asked > REST]:
                    self.free.remove(child)
                    child.end()
                if not self.busy and not self.free:
                    self.watched = False
                    return

    def end(self) -> None:
        """End all that rest."""
        with self.lock:
            for child in self.free:
                child.end()
            self.free.clear()

    def forget(self) -> None:
        """In a forked child: the processes are its parent's, and none of its own to wait for."""
        self.lock = threading.Lock()
        for child in (*self.free, *self.busy):
            if child.process is not None:
                child.process.returncode = 0
        self.free.clear()


@lru_cache
def decoders() -> Decoders:
    """The processes of this program."""
    found = Decoders()
    atexit.register(found.end)
    return found


def _forget() -> None:
    if decoders.cache_info().currsize:
        decoders().forget()
    decoders.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
