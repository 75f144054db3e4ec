"""Whether the other processes of a run are alive, and what ended the first one that is not.

A thread beats: it writes to a store that all can read how far its process has come, and reads the same of the others.
Whoever ends with an error leaves it there as the *cause*, and the first one stays. A process that waits for others
which give no sign of life for the timeout names them as the cause; one whose main thread hangs in a call that does
not come back is ended by this thread.

Steady clocks of one's own are all that counts, so no clock that jumps can end a run.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from residual.errors import Elsewhere, ResidualError, lacks_memory

BEAT = 1.0
"""Seconds between two beats; a tenth of the timeout, where that is less."""
GRACE, LONG_GRACE = 5.0, 30.0
"""Seconds after which a process that knows the cause is ended: one that waits for others, and one that works."""
_CAUSE = "cause"


class Store(Protocol):
    """A table of texts that all processes see; torch's TCPStore is one. A lost connection is a RuntimeError."""

    def set(self, key: str, value: str, /) -> None: ...

    def get(self, key: str, /) -> bytes: ...

    def check(self, keys: list[str], /) -> bool: ...

    def multi_get(self, keys: list[str], /) -> list[bytes]: ...

    def compare_set(self, key: str, expected_value: str, desired_value: str, /) -> bytes: ...


@dataclass
class Seen:
    """What was last read of a rank, and since when it has been so, by our own steady clock."""

    beats: int = -1
    arrivals: int = 0
    signs: int = 0
    step: int = 0
    beat_at: float = 0.0
    moved_at: float = 0.0


class Watch:
    """The signs of life of one process, and its eye on the others."""

    def __init__(self, store: Store, rank: int, world: int, timeout: float) -> None:
        self._store, self._rank, self._world, self.timeout = store, rank, world, timeout
        now = time.monotonic()
        self.seen = [Seen(beat_at=now, moved_at=now) for _ in range(world)]
        self.cause: Elsewhere | None = None
        self.step = 0
        self._beats, self._arrivals, self._signs = 0, 0, 0
        self._waiting_since: float | None = None
        self._known_since: float | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="residual-watch")
        self._beat()

    @property
    def beat(self) -> float:
        return min(BEAT, self.timeout / 10)

    # -- of the main thread ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to beat; every process must have made its watch by now."""
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()

    def moved(self, step: int | None = None) -> None:
        self._signs += 1
        self.step = self.step if step is None else step

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Around a call that waits for the other processes.

        Raises:
            Elsewhere: another process has ended, or is gone.
        """
        if self.cause is not None:
            raise self.cause
        self._arrivals += 1
        self._waiting_since = time.monotonic()
        try:
            yield
        except RuntimeError as error:  # what torch raises when a connection breaks
            raise self._why(error) from None
        finally:
            self._waiting_since = None

    def fail(self, error: Exception) -> tuple[Elsewhere, bool]:
        """Leave what ended this process as the cause; the first cause there is, and whether it is this one."""
        if isinstance(error, ResidualError):
            what = error.what if error.of_all else f"rank {self._rank}: {error.what}"
            cause = self._claim(what, error.where, error.remedy, error.exit_code)
        else:
            what = f"rank {self._rank}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            cause = self._claim(what, "", "see what it said", 6 if lacks_memory(error) else 1)
        return cause, cause.what == what

    def _why(self, error: RuntimeError) -> Elsewhere:
        """Why a meeting broke: the cause that was left, or the rank whose beats have stopped."""
        began, patience = time.monotonic(), max(2.0, 4 * self.beat)
        while time.monotonic() - began < 3 * patience:
            time.sleep(self.beat / 4)
            if self.cause is not None:
                return self.cause
            now = time.monotonic()
            longest, rank = max((now - seen.beat_at, rank) for rank, seen in enumerate(self.seen) if rank != self._rank)
            if longest > patience:
                return self._claim(*self._gone(rank), 6)
        text = " ".join(str(error).split())[:200]
        return self._claim(f"the processes lost each other at step {self.step}: {text}", "network", _GO_ON, 6)

    def _gone(self, rank: int) -> tuple[str, str, str]:
        what = f"rank {rank} of {self._world} is gone, last heard of after step {self.seen[rank].step}"
        return what, "its process or its machine", f"see what it said last; {_GO_ON}"

    def _claim(self, what: str, where: str, remedy: str, code: int) -> Elsewhere:
        mine = json.dumps({"what": what, "where": where, "remedy": remedy, "code": code})
        found = mine
        with suppress(RuntimeError):  # a store that is gone has no older cause
            found = self._store.compare_set(_CAUSE, "", mine).decode()
        self.cause = _read(found)
        return self.cause

    # -- of the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        reached = True
        while not self._done.wait(self.beat):
            try:
                if reached:
                    self._beat()
                    self._look()
            except RuntimeError:  # the store is kept by rank 0 or by its launcher
                reached = False
                if self.cause is None and not self._done.is_set():
                    self.cause = Elsewhere("rank 0 cannot be reached any more", "its process or its machine", _GO_ON, 6)
            if self.cause is not None:
                self._end_if_stuck(self.cause)

    def _beat(self) -> None:
        self._beats += 1
        text = f"{self._beats} {self._arrivals} {self._signs} {self.step}"
        self._store.set(f"beat/{self._rank}", text)

    def _look(self) -> None:
        if self.cause is None and self._store.check([_CAUSE]):
            self.cause = _read(self._store.get(_CAUSE).decode())
            return
        now = time.monotonic()
        for seen, text in zip(self.seen, self._store.multi_get([f"beat/{r}" for r in range(self._world)]), strict=True):
            beats, arrivals, signs, step = map(int, text.split())
            if beats != seen.beats:
                seen.beats, seen.beat_at = beats, now
            if (arrivals, signs, step) != (seen.arrivals, seen.signs, seen.step):
                seen.arrivals, seen.signs, seen.step, seen.moved_at = arrivals, signs, step, now
        # A GPU's queue may hold the meeting that a dead rank never came to, while the host waits elsewhere.
        still = now - self.seen[self._rank].moved_at > self.timeout
        gone = [rank for rank, seen in enumerate(self.seen) if now - seen.beat_at > self.timeout]
        if self.cause is None and still and gone:
            self._claim(*self._gone(gone[0]), 6)
        since = self._waiting_since
        if self.cause is None and since is not None and now - since > self.timeout:
            self._name_the_late(now)

    def _name_the_late(self, now: float) -> None:
        for rank, seen in enumerate(self.seen):
            if seen.arrivals < self._arrivals and now - seen.moved_at > self.timeout:
                if now - seen.beat_at > 5 * self.beat:
                    self._claim(*self._gone(rank), 6)
                else:
                    what = f"rank {rank} of {self._world} hangs: for {self.timeout:g} s it has done nothing"
                    remedy = f"look at its machine, or raise the timeout; {_GO_ON}"
                    self._claim(f"{what} since step {seen.step}", "processes.timeout", remedy, 6)
                return

    def _end_if_stuck(self, cause: Elsewhere) -> None:
        """End the process where the main thread does not come back to hear the cause."""
        now = time.monotonic()
        if self._known_since is None:
            self._known_since = now
        if now - self._known_since > (GRACE if self._waiting_since is not None else LONG_GRACE):
            # Whatever is on disk under a final name is whole.
            with suppress(OSError):
                os.write(2, f"error: {cause}\n".encode(errors="backslashreplace"))
            sys.stdout.flush()
            os._exit(cause.exit_code)


_GO_ON = "the last checkpoint is whole, go on with --resume"


def _read(text: str) -> Elsewhere:
    facts = json.loads(text)
    return Elsewhere(facts["what"], facts["where"], facts["remedy"], int(facts["code"]))
