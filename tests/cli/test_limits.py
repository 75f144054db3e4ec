"""Little memory, few files, a machine that slept, a library that is broken: the run is whole, or one line says why."""

from __future__ import annotations

import os
import signal
import time

import pytest

from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from tests.cli.conftest import LONG, SIX, Said, only_error
from tests.cli.test_machine import shim
from tests.cli.test_output import shell


def test_few_open_files_suffice(here, six):
    said = shell('ulimit -n 64; "$@"', *SIX, "--out", "run")
    assert (said.code, said.err) == (0, "")
    assert timeless(RunFolder(here / "run").records()) == timeless(RunFolder(six).records())


@pytest.mark.parametrize("kilobytes", [100_000, 500_000, 650_000])
def test_little_memory_is_one_line_and_leaves_no_half_of_anything(here, kilobytes):
    said = shell(f'ulimit -v {kilobytes}; "$@"', *SIX, "--out", "run")
    if said.code == 0:
        pytest.skip("this build of torch needs less")
    assert said.code == 6, said
    only_error(said)
    if (here / "run").exists():
        run = RunFolder(here / "run")
        assert run.result() is None
        run.newest_checkpoint()


def test_a_clock_that_jumps_while_the_machine_sleeps(say, here, six, monkeypatch):
    """An hour passes within every tenth call; monotonic clocks of some systems count a suspension so."""
    real, asked = time.monotonic, iter(range(10**9))
    monkeypatch.setattr(time, "monotonic", lambda: real() + 3600 * (next(asked) // 10))
    said = say(*SIX, "--out", "run")
    assert (said.code, said.err) == (0, "")
    run = RunFolder(here / "run")
    assert timeless(run.records()) == timeless(RunFolder(six).records())
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (run.path, six)]
    assert weights[0] == weights[1]


def test_a_process_that_is_suspended_goes_on(start, here):
    process = start(*LONG, "--out", "run")
    run = RunFolder(here / "run")
    process.wait_for(run.steps)
    process.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    before = run.steps()[0]
    time.sleep(0.7)
    assert run.steps()[0] == before
    process.process.send_signal(signal.SIGCONT)
    process.wait_for(lambda: run.steps()[0] > before + 2)
    process.process.send_signal(signal.SIGTERM)
    said = process.end()
    assert said.code == 143
    assert "all of it saved" in only_error(said)
    assert run.newest_checkpoint() is not None


BROKEN = {
    "absent": "raise ModuleNotFoundError(\"No module named 'matplotlib'\", name='matplotlib')",
    "built for another numpy": "raise AttributeError('_ARRAY_API not found')",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_training_needs_neither_matplotlib_nor_tensorboard(residual_cli, here, text, pictures):
    absent = BROKEN["absent"].replace("matplotlib", "tensorboard")
    lacking = {"matplotlib/__init__.py": text, "tensorboard/__init__.py": absent}
    said: Said = shim(residual_cli, here, lacking, *SIX, "--tensorboard", "--out", "run")
    assert said.code == 0
    first, line = said.err.splitlines()
    assert first.startswith("warning: nothing more is written for TensorBoard, the training goes on without: ")
    assert line.startswith("warning: the curves were not drawn: ")
    assert os.listdir(here / "run").count("tensorboard") == 0
    assert "pip install tensorboard" in first
    assert "finished: step 6" in said.out
    assert RunFolder(here / "run").result() is not None
    assert not (here / "run" / "curves.png").exists()


def test_training_needs_no_drawing_back_end(residual_cli, here, pictures):
    done = residual_cli(*SIX, "--out", "run", env={"MPLBACKEND": "nonsense", "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0
    assert [line.startswith("warning: the curves were not drawn: ") for line in done.stderr.splitlines()] in (
        [],
        [True],
    )
    assert RunFolder(here / "run").result() is not None


def test_an_interrupted_command_ends_with_130_and_one_line(say, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("residual.runs.folder.find_run", interrupted)
    said = say("curves", "some")
    assert said.code == 130
    assert said.err.startswith("error: stopped by SIGINT (residual): ")
    assert len(said.err.splitlines()) == 1
