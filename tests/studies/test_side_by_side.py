"""The runs of a study shared by several processes: each trained once, waited for, taken up from the dead."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time

import pytest

from residual.errors import Elsewhere, InUse, NonFiniteError, StorageError, UsageError
from residual.files import new_folder
from residual.locks import lock
from residual.runs.folder import LOCK, RunFolder
from residual.studies import side_by_side
from residual.studies.seeds import study_seeds
from residual.studies.side_by_side import Job, train_all
from residual.training.progress import Silent
from residual.training.train import resume, train
from tests.conftest import subprocess_environment

pytestmark = pytest.mark.usefixtures("warm")

TINY = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.limit": 120,
    "batch_size": 40,
    "steps": 6,
    "compute.threads": 1,
    "compute.precision": "float32",
}
LONG = {**TINY, "steps": 40, "evaluation.every_epochs": 10, "checkpoint.every_steps": 5}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(side_by_side, "WAIT", 0.05)


def test_a_run_at_work_elsewhere_is_passed_over_and_waited_for(tmp_path, caplog):
    out = tmp_path / "study"
    study_seeds("digits", [0], set=TINY, out=out)
    order = []

    class Told(Silent):
        def __init__(self, seed):
            self.seed = seed

        def began(self, plan):
            order.append(self.seed)

        def ended(self, *rest):
            threading.Timer(0.3, let_go.set).start()

    holding, let_go = threading.Event(), threading.Event()

    def hold():
        with lock(out / "seed-0" / LOCK, "the run"):
            holding.set()
            let_go.wait(60)

    elsewhere = threading.Thread(target=hold)
    elsewhere.start()
    assert holding.wait(60)
    with caplog.at_level("INFO", logger="residual"):
        study = study_seeds("digits", [0, 1], set=TINY, out=out, listener=Told)
    assert let_go.is_set(), "what is at work elsewhere is waited for"
    elsewhere.join()
    assert order == [1], "what is at work elsewhere is not begun here"
    assert [run.name for run in study.runs] == ["seed-0", "seed-1"], "in the order that was asked for"
    assert caplog.text.count("seed 0 is at work in process") == 1


def test_who_comes_second_in_beginning_a_run_takes_the_next_one(tmp_path):
    place = tmp_path / "seed-0"

    def other_was_faster():
        train("digits", set=TINY, out=place)
        return train("digits", set=TINY, out=place)

    tried: list[int] = []

    def second():
        tried.append(len(tried))
        return resume(place) if place.exists() else other_was_faster()

    found = train_all([Job(place, "seed 0", second)])
    assert tried == [0, 1]
    assert found[0].result() is not None


def test_two_that_make_one_folder_at_the_same_moment(tmp_path):
    place = tmp_path / "run"
    new_folder(place, {"a": b"first"})
    with pytest.raises(InUse, match="something stands there already"):
        new_folder(place, {"a": b"second"})
    assert (place / "a").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("error", [UsageError("bad", "here"), StorageError("full", "here")])
def test_what_a_training_raises_goes_out(tmp_path, error):
    def fail():
        raise error

    with pytest.raises(type(error)):
        train_all([Job(tmp_path / "seed-0", "seed 0", fail)])


def test_an_arm_that_diverged_on_rank_0_alone_ends_no_process(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29400")
    told = ("the statistics became not finite at step 3", "run", "lower the rate")

    def heard(code):
        def fail():
            raise Elsewhere(*told, code)

        return Job(tmp_path / "seed-0", "seed 0", fail)

    other = RunFolder(tmp_path / "seed-1")
    first, second = side_by_side.end_all([heard(7), Job(other.path, "seed 1", lambda: other)])
    assert isinstance(first, NonFiniteError)
    assert str(first) == str(NonFiniteError(*told))
    assert second is other
    with pytest.raises(Elsewhere):
        side_by_side.end_all([heard(6)])


@pytest.mark.slow
def test_of_two_processes_one_is_killed_and_every_run_is_trained_once(tmp_path):
    settings = [text for path, value in LONG.items() for text in ("--set", f"{path}={value}")]
    words = ["study", "seeds", "digits", "--seeds", "3", "--out", "study", "--log", "plain", *settings]
    program = [sys.executable, "-m", "residual", *words]
    environment = subprocess_environment({"OMP_NUM_THREADS": "1"})
    crew = [
        subprocess.Popen(
            program, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    doomed = crew[0]
    deadline = time.monotonic() + 120
    while not (place := _run_of(doomed.pid, tmp_path)):
        assert time.monotonic() < deadline, "the first process never began a run"
        time.sleep(0.02)
    while not any((place / "checkpoints").glob("step-*")):
        assert time.monotonic() < deadline, "the first process never saved"
        time.sleep(0.02)
    doomed.send_signal(signal.SIGKILL)
    doomed.communicate(timeout=60)
    said = [process.communicate(timeout=240) for process in crew[1:]]
    assert [process.returncode for process in crew[1:]] == [0], said
    events = [
        [entry["event"] for entry in RunFolder(tmp_path / "study" / f"seed-{seed}").sessions()] for seed in range(3)
    ]
    assert sum(each.count("finished") for each in events) == 3, "nothing is trained to its end twice"
    assert sorted(len(each) for each in events) == [2, 2, 3], "and only the dead one's run has a second sitting"
    study = json.loads((tmp_path / "study" / "study.json").read_text())
    assert study["seeds"] == [0, 1, 2]
    alone = study_seeds("digits", [0, 1, 2], set=LONG, out=tmp_path / "alone")
    assert study["final"] == alone.as_dict()["final"], "and the figures are those of one process alone"


def _run_of(process, folder):
    """The run that a process is at work on."""
    for path in folder.glob("study/seed-*/*.holder"):
        with contextlib.suppress(FileNotFoundError):  # it may go while one looks
            if f"process {process} on " in path.read_text():
                return path.parent
    return None


def test_a_run_goes_on_on_another_device_of_its_kind(tmp_path):
    run = train("digits", set=TINY | {"compute.device": "cpu"}, out=tmp_path / "run")
    before = (run.path / "run.json").read_bytes()
    assert resume(run.path, set={"compute.device": "auto"}).result() is not None
    with pytest.raises(UsageError, match="the run differs"):
        resume(run.path, set={"compute.device": "cuda:1"})
    assert (run.path / "run.json").read_bytes() == before
