"""A training given to a launcher such as torchrun: several processes, begun for one run and gone at its end.

Whoever calls stays what it was, one process; it hears the records of the run as if it trained itself, and an error of
the processes is raised here as it was raised there. A signal is handed on, and the run is saved. Should the caller be
killed, the processes notice, save the run and end (`job.py`); who trains the run next waits until they have.
"""

from __future__ import annotations

import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from residual.errors import (
    DataError,
    EnvironmentFault,
    Interrupted,
    InUse,
    ModelError,
    NonFiniteError,
    OutOfMemory,
    ResidualError,
    StorageError,
    UsageError,
)
from residual.files import Facts, read_regular, readable, replace_file, storage
from residual.runs.folder import RUN, RunFolder
from residual.training.holding import LEASE, held
from residual.training.job import MOST_BYTES, answer_of
from residual.training.progress import Listener
from residual.training.recipe import Override, Recipe
from residual.training.signals import Signals
from residual.training.train import resume, train

PATIENCE = 90.0
"""Seconds that processes have to save a run and end, before they are killed."""
Ended = Callable[[], None]
"""Raises what ends a training from outside; called now and then while other processes train."""
_EXAMPLE = "as in 'torchrun --nproc-per-node 2'"
_KINDS: dict[int, type[ResidualError]] = {
    2: UsageError,
    3: DataError,
    4: ModelError,
    5: StorageError,
    6: EnvironmentFault,
    7: NonFiniteError,
}


@dataclass(frozen=True)
class Order:
    """A run to be trained to its end, or gone on with where `out` holds it.

    `own` are settings of this call alone, `compute.*`, `checkpoint.*` and `data.path`; `command` is stored as the one
    that repeats the run.
    """

    recipe: Recipe
    changes: Sequence[Override]
    own: Sequence[Override]
    out: Path
    command: str


Trainer = Callable[[Order, Listener, Ended], RunFolder]
"""Carries an order out, and raises what `train` and `resume` raise."""


def train_here(order: Order, listener: Listener, ended: Ended) -> RunFolder:
    """Train in this process; its listener is what ends it."""
    if (order.out / RUN).is_file():
        _await_free(order.out, ended)  # of a worker that was given up, whose machine may be gone or only slow
        return resume(order.out, set=order.own, override_safe=True, listener=listener)
    changes = [*order.changes, *order.own]
    return train(order.recipe, set=changes, out=order.out, listener=listener, command=order.command)


def parse_launcher(text: str) -> tuple[str, ...]:
    """The words of a launcher's command line, as `torchrun --nproc-per-node 2`.

    Raises:
        UsageError: they are no command, or it is not installed.
        EnvironmentFault: this is Windows, whose torch has no libuv, which the meeting place of its launcher asks for.
    """
    if sys.platform == "win32":
        what = "several processes need Linux or macOS: torchrun does not start on Windows"
        raise EnvironmentFault(what, "--launch", "leave it out, or use WSL 2")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text[:80]!r} is no command: {error}", "--launch", _EXAMPLE) from None
    if not words:
        raise UsageError("no launcher is named", "--launch", _EXAMPLE)
    if words[0] == "torchrun":  # that of this very Python
        return (sys.executable, "-m", "torch.distributed.run", *words[1:])
    if shutil.which(words[0]) is None:
        raise UsageError(f"{words[0][:80]!r} is not installed", "--launch", _EXAMPLE)
    return tuple(words)


class Launched:
    """A `Trainer` whose trainings are jobs of a launcher.

    Args:
        words: the launcher and its options, as `parse_launcher` gives them.
        folder: where a job and what its processes say is written; every machine of the job must see it.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._words, self._folder = tuple(words), folder

    def __call__(self, order: Order, listener: Listener, ended: Ended) -> RunFolder:
        out = order.out
        begun = (out / RUN).is_file()
        if begun:
            _await_free(out, ended)
            if (run := RunFolder.open(out)).result() is not None:
                return run
        with storage(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        path = (self._folder / f"job-{out.name}.json").absolute()
        said = path.with_suffix(".log")
        facts = {
            "recipe": order.recipe.model_dump(mode="json"),
            "changes": [list(change) for change in order.changes],
            "own": [list(change) for change in order.own],
            "out": str(out.absolute()),
            "begun": begun,
            "command": order.command,
        }
        with _paper(path, facts):
            code, number = self._run([*self._words, "-m", "residual.training.job", str(path)], said, listener, ended)
            answer = _answer(answer_of(path))
        if answer is not None and answer["code"]:
            raise _error(answer)
        if answer is None and number is not None:
            name = signal.Signals(number).name
            raise Interrupted(f"stopped by {name} before the run began", out, "give the command again", number)
        if answer is None:
            what = f"the processes of {out.name} ended with exit code {code} and left no answer"
            raise EnvironmentFault(what, said, "see there what they said; the same command goes on")
        with suppress(OSError):
            said.unlink()
        return RunFolder.open(out)

    def _run(self, command: list[str], said: Path, listener: Listener, ended: Ended) -> tuple[int, int | None]:
        """Start the processes and hear them to their end; their exit code, and the signal that was handed on."""
        # The address of a ledger may hold a password, and is none of the processes' business.
        environment = {name: value for name, value in os.environ.items() if name != "RESIDUAL_STORAGE"}
        environment.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
        environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", f"{PATIENCE - 5:.0f}")  # torchrun kills after 30 s
        with storage(said):
            errors = said.open("ab")
        with errors, Signals() as signals, _begun(command, environment, errors) as job:
            lines, told, silent = _lines_of(job), False, False
            while not silent or job.poll() is None:  # a launcher may outlive what it says, as it waits for machines
                if signals and not told:
                    told = True
                    job.terminate()
                ended()
                try:
                    line = lines.get(timeout=0.2)
                except queue.Empty:
                    continue
                if line is None:
                    silent = True
                else:
                    _tell(line, listener)
            listener.ended()
            return job.wait(), signals.number


@contextmanager
def _paper(path: Path, facts: Facts) -> Iterator[None]:
    """The file of a job, there for as long as its processes are."""
    with storage(path):
        answer_of(path).unlink(missing_ok=True)
    replace_file(path, readable(facts))
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
            answer_of(path).unlink(missing_ok=True)


@contextmanager
def _begun(command: list[str], environment: dict[str, str], errors: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """The launcher's process, in a session of its own; at the end of the block neither it nor its children are left."""
    job = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C at a terminal is ours to hand on
    )
    try:
        yield job
    finally:
        if job.poll() is None:
            job.terminate()
            with suppress(subprocess.TimeoutExpired):
                job.wait(PATIENCE)
        if job.stdin is not None:
            job.stdin.close()  # processes that outlive their launcher take it as the end
        if job.poll() is None:
            job.kill()
            job.wait()


def _lines_of(job: subprocess.Popen[str]) -> queue.Queue[str | None]:
    """The lines of a process as they come, then None."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert job.stdout is not None
        with job.stdout as said:
            for line in said:
                lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True, name="residual-job").start()
    return lines


def _tell(line: str, listener: Listener) -> None:
    """Hand a record on; what a launcher says of its own is no record."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        return
    if isinstance(record, dict) and isinstance(record.get("kind"), str):
        if record["kind"] == "plan":
            listener.began(record)
        else:
            listener.recorded(record)


def _answer(path: Path) -> Facts | None:
    if not path.is_file():
        return None
    found: Facts = json.loads(read_regular(path, MOST_BYTES))
    return found


def _error(answer: Facts) -> ResidualError:
    """The error of an answer, as it was raised in the processes."""
    parts = (answer["what"], answer["where"], answer["remedy"])
    if answer["memory"]:
        return OutOfMemory(*parts)
    if answer.get("held"):
        return InUse(*parts)
    if answer["code"] > 128:
        return Interrupted(*parts, answer["code"] - 128)
    return _KINDS.get(answer["code"], EnvironmentFault)(*parts)


def _await_free(out: Path, ended: Ended) -> None:
    """Wait until no process holds the run: those of a dead worker save it and end, and so does the lock of a machine.

    Raises:
        InUse: it is still held.
        Interrupted: a signal came.
    """
    with Signals() as signals:

        def heed() -> None:
            ended()
            signals.heed(f"while another process held the run {out.name}", out)

        with held(RunFolder(out), LEASE, heed):
            pass
