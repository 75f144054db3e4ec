"""Files decoded in processes of their own, with limits of time and memory: no file can stop or fill the program.

Memory is limited where the system can (not on Windows, and on macOS only in part); time is kept everywhere.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from residual.data.checking import nothing
from residual.data.workers import automatic, start_module

MEMORY = 2 << 30  # bytes of address space of a process that decodes
SECONDS = 30.0  # for one file
_TICK = 0.2
_STARTING = 120.0  # seconds a process may take until it is ready

Task = tuple[str, Path, int, int | None]  # name, file, offset, size


class _Child:
    """One process at work; whoever asks waits, and a watch ends what takes too long."""

    def __init__(self, memory: int, seconds: float) -> None:
        self.memory, self.seconds = memory, seconds
        self.process: subprocess.Popen[bytes] | None = None
        self.until, self.late = float("inf"), False

    def ask(self, task: Task) -> dict[str, Any]:
        name, file, offset, size = task
        line = json.dumps({"name": name, "file": str(file), "offset": offset, "size": size}).encode() + b"\n"
        code = 0
        for _ in range(2):  # a process may have died of something else than this file
            answer = self._try(line)
            try:
                return dict(json.loads(answer))
            except ValueError:
                code = self.end()
            if self.late:
                return {"fault": f"decoding takes longer than {self.seconds:g} s", "kind": "too slow"}
        return {"fault": f"the process that decodes it ended with {code}", "kind": "crashes the decoder"}

    def _try(self, line: bytes) -> bytes:
        fresh = self.process is None
        process = self.process = self.process or start_module("residual.data.examiner", str(self.memory))
        self.late, answer = False, b""
        assert process.stdin is not None  # both are pipes
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            if fresh:
                self.until = time.monotonic() + _STARTING
                process.stdout.readline()
            self.until = time.monotonic() + self.seconds
            process.stdin.write(line)
            process.stdin.flush()
            answer = process.stdout.readline()
        self.until = float("inf")
        return answer

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


def examine_all(
    tasks: Sequence[Task],
    processes: int = 0,
    heed: Callable[[], None] = nothing,
    memory: int = MEMORY,
    seconds: float = SECONDS,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the task, what was found), as they are done.

    Args:
        processes: how many at a time; 0 is automatic.
        heed: called several times a second; may raise to stop.
    """
    count = max(1, min(processes or automatic(), len(tasks)))
    children = [_Child(memory, seconds) for _ in range(count)]
    asked: queue.SimpleQueue[int] = queue.SimpleQueue()
    answered: queue.SimpleQueue[tuple[int, dict[str, Any] | BaseException]] = queue.SimpleQueue()
    stopped = threading.Event()
    for number in range(len(tasks)):
        asked.put(number)

    def work(child: _Child) -> None:
        while not stopped.is_set():
            try:
                number = asked.get_nowait()
            except queue.Empty:
                return
            try:
                answered.put((number, child.ask(tasks[number])))
            except BaseException as error:
                answered.put((number, error))
                return

    threads = [threading.Thread(target=work, args=(child,), daemon=True) for child in children]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(tasks)):
            while True:
                heed()
                for child in children:
                    if time.monotonic() > child.until and child.process is not None:
                        child.late, child.until = True, float("inf")
                        child.process.kill()
                with contextlib.suppress(queue.Empty):
                    number, found = answered.get(timeout=_TICK)
                    break
            if isinstance(found, BaseException):
                raise found
            yield number, found
    finally:
        stopped.set()
        for child in children:
            if child.process is not None:
                child.process.kill()
        for thread in threads:
            thread.join()
        for child in children:
            child.end()
