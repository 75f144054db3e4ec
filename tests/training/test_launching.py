"""A training as a job of a launcher: the same run, its errors, its end when whoever asked for it is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from campaigns.launching import TORCHRUN
from campaigns.running import fingerprint, unlike
from residual.errors import (
    EnvironmentFault,
    Interrupted,
    InUse,
    NonFiniteError,
    OutOfMemory,
    ResidualError,
    StorageError,
    UsageError,
)
from residual.locks import lock
from residual.runs.folder import LOCK, RunFolder
from residual.training import launching
from residual.training.job import _end_with_reader
from residual.training.launching import Launched, Order, parse_launcher, train_here
from residual.training.progress import Silent
from residual.training.recipes import RECIPES
from residual.training.signals import Signals
from residual.training.train import resume
from tests.conftest import subprocess_environment

pytestmark = pytest.mark.usefixtures("warm")

CHANGES: list[tuple[str, Any]] = [
    ("network.name", "resnet-8"),
    ("network.widths", [4, 8, 16]),
    ("data.limit", 200),
    ("batch_size", 24),
    ("steps", 12),
    ("evaluation.every_epochs", 1),
]
OWN: list[tuple[str, Any]] = [("checkpoint.every_steps", 2), ("compute.threads", 1), ("compute.precision", "float32")]
FAILING = (sys.executable, "-c", "import sys; sys.exit('no such partition')")


class Told(Silent):
    def __init__(self) -> None:
        self.plans, self.records, self.ends = 0, 0, 0

    def began(self, plan: Any) -> None:
        self.plans += 1

    def recorded(self, record: Any) -> None:
        self.records += 1

    def ended(self) -> None:
        self.ends += 1


def nothing() -> None: ...


@pytest.mark.slow
def test_two_processes_train_a_job_as_they_train_a_run(tmp_path: Path) -> None:
    told = Told()
    job = Launched((*TORCHRUN, "--nproc-per-node", "2"), tmp_path / "jobs")
    run = job(Order(RECIPES["digits"], CHANGES, OWN, tmp_path / "job", "residual tune"), told, nothing)
    result, alone = run.result(), RunFolder(tmp_path / "alone")
    assert result is not None
    assert result["processes"] == [2]
    assert (told.plans, told.ends) == (1, 1)
    assert told.records == len(run.records())
    train_here(Order(RECIPES["digits"], CHANGES, OWN, alone.path, "residual tune"), Silent(), nothing)
    whole = alone.result()
    assert whole is not None
    assert result["final"]["validation"]["loss"] == pytest.approx(whole["final"]["validation"]["loss"], rel=0.02)
    assert run.facts()["recipe"] == alone.facts()["recipe"]
    assert list((tmp_path / "jobs").iterdir()) == [], "a job that ended well leaves nothing beside its run"
    # What ended already is not begun again.
    again = Launched(FAILING, tmp_path / "jobs")(Order(RECIPES["digits"], CHANGES, OWN, run.path, ""), told, nothing)
    assert again.result() == result


def test_a_job_whose_asker_is_killed_saves_its_run_and_another_goes_on(tmp_path: Path) -> None:
    out, long = tmp_path / "run", list({**dict(CHANGES), "steps": 3000}.items())
    program = (
        "import sys; from tests.training.test_launching import *\n"
        "print(flush=True); Launched((sys.executable,), Path(sys.argv[1]))"
        "(Order(RECIPES['digits'], json.loads(sys.argv[3]), OWN, Path(sys.argv[2]), ''), Silent(), nothing)"
    )
    words = [sys.executable, "-c", program, str(tmp_path / "jobs"), str(out), json.dumps(long)]
    asker = subprocess.Popen(words, env=subprocess_environment(), stdout=subprocess.PIPE)
    run = RunFolder(out)
    until = time.monotonic() + 60
    while not (run.path / "checkpoints").is_dir() or not run.steps():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(asker.pid, signal.SIGKILL)
    asker.communicate()
    launching._await_free(out, nothing)
    saved = run.steps()[0]
    assert 0 < saved < 3000
    assert [entry["event"] for entry in run.sessions()] == ["began", "interrupted"]

    class Seen(Exception):
        pass

    class First(Told):
        def recorded(self, record: Any) -> None:
            raise Seen

    with pytest.raises(Seen):  # as a worker ends a training that is not worth its time
        Launched((sys.executable,), tmp_path / "jobs")(Order(RECIPES["digits"], long, OWN, out, ""), First(), nothing)
    assert run.steps()[0] > saved
    with lock(out / LOCK, "the run"):
        pass  # nobody holds it any more


def test_a_job_equals_a_training_here(tmp_path: Path) -> None:
    for name, trainer in (("job", Launched((sys.executable,), tmp_path / "jobs")), ("here", train_here)):
        trainer(Order(RECIPES["digits"], CHANGES, OWN, tmp_path / name, "residual tune"), Silent(), nothing)
    assert unlike(fingerprint(tmp_path / "here"), tmp_path / "job") == []


@contextmanager
def held_elsewhere(out: Path, seconds: float) -> Iterator[None]:
    """A run whose lock is let go after some time."""
    holding, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock(out / LOCK, "the run"):
            holding.set()
            let_go.wait(seconds)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)
    try:
        yield
    finally:
        let_go.set()
        holder.join()


def test_a_run_that_is_held_yet_is_waited_for_where_its_holder_may_be_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Order(RECIPES["digits"], CHANGES, OWN, tmp_path / "run", "residual tune")
    run = train_here(order, Silent(), nothing)
    (run.path / "result.json").unlink()
    with held_elsewhere(run.path, 1.5):
        with pytest.raises(InUse, match="in use by another process"):
            resume(run.path)  # a person is told at once
        train_here(order, Silent(), nothing)  # as a worker takes it up
    (run.path / "result.json").unlink()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with held_elsewhere(run.path, 1.5):
        resume(run.path)  # as torchrun begins it again
    assert [entry["event"] for entry in run.sessions()] == ["began", "finished"] * 3

    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    with held_elsewhere(run.path, 60), pytest.raises(Enough):
        launching._await_free(run.path, enough)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ([("schedule.peak", -1.0)], UsageError, "schedule.peak"),
        ([("schedule.peak", 1000.0)], NonFiniteError, "not finite"),
    ],
)
def test_an_error_of_the_processes_is_raised_as_it_was_there(
    changes: Any, error: type[ResidualError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words) as found:
        Launched((sys.executable,), tmp_path)(
            Order(RECIPES["digits"], [*CHANGES, *changes], OWN, tmp_path / "run", ""), Silent(), nothing
        )
    with pytest.raises(error) as here:
        train_here(Order(RECIPES["digits"], [*CHANGES, *changes], OWN, tmp_path / "here", ""), Silent(), nothing)
    assert str(found.value) == str(here.value).replace(str(tmp_path / "here"), str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("code", "memory", "kind"),
    [
        (5, False, StorageError),
        (6, False, EnvironmentFault),
        (6, True, OutOfMemory),
        (5, False, InUse),
        (129, False, Interrupted),
    ],
)
def test_answers_become_errors_again(code: int, memory: bool, kind: type[ResidualError]) -> None:
    held = kind is InUse
    answer = {"what": "it ended", "where": "there", "remedy": "begin again", "code": code, "memory": memory}
    error = launching._error(answer | {"held": held})
    assert type(error) is kind
    assert error.exit_code == code
    assert str(error) == "it ended (there): begin again"


def test_processes_that_leave_no_answer_are_said_to_and_what_they_said_is_kept(tmp_path: Path) -> None:
    with pytest.raises(
        EnvironmentFault, match="the processes of run ended with exit code 1 and left no answer"
    ) as found:
        Launched(FAILING, tmp_path)(Order(RECIPES["digits"], CHANGES, OWN, tmp_path / "run", ""), Silent(), nothing)
    assert Path(found.value.where).read_text().strip() == "no such partition"


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no launcher"), ("torchrun '", "is no command"), ("no-such-launcher -n 2", "not installed")],
)
def test_what_is_no_launcher_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_launcher(text)


def test_torchrun_is_that_of_this_python() -> None:
    assert parse_launcher("torchrun --nproc-per-node 2") == (*TORCHRUN, "--nproc-per-node", "2")
    assert parse_launcher(f"{sys.executable} -v") == (sys.executable, "-v")


def test_on_windows_no_launcher_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(EnvironmentFault, match=r"need Linux or macOS: .* \(--launch\): leave it out"):
        parse_launcher("torchrun --nproc-per-node 2")


def test_the_end_of_the_reader_is_a_signal_that_can_be_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(pid: int, number: int) -> None:
        raise AssertionError("on Windows os.kill ends a process at once")

    monkeypatch.setattr(os, "kill", at_once)
    monkeypatch.setattr(os, "read", lambda descriptor, count: b"")
    with Signals() as signals:
        _end_with_reader()
        assert signals.number == signal.SIGTERM
