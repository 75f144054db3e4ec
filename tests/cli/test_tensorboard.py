"""`residual train --tensorboard` and `residual tensorboard`."""

from __future__ import annotations

import shutil

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from residual.runs.folder import RunFolder
from tests.cli.conftest import SIX


def steps(folder, tag="loss/validation"):
    board = EventAccumulator(str(folder)).Reload()
    return [event.step for event in board.Scalars(tag)]


def test_a_run_with_events(say, here):
    said = say(*SIX, "--tensorboard", "--out", "run")
    assert (said.code, said.err) == (0, "")
    assert steps(here / "run" / "tensorboard") == [3, 6]


def test_a_run_that_goes_on_with_events(say, unfinished):
    said = say("train", "--resume=run", "--tensorboard")
    assert (said.code, said.err) == (0, "")
    assert steps(unfinished / "tensorboard") == [3, 6]
    assert RunFolder(unfinished).result() is not None


def test_a_folder_that_cannot_be_written_is_one_line_and_the_run_goes_on(say, unfinished):
    (unfinished / "tensorboard").write_text("a file")
    said = say("train", "--resume=run", "--tensorboard")
    assert said.code == 0
    (line,) = said.err.splitlines()
    assert line.startswith(
        "warning: nothing more is written for TensorBoard, the training goes on without: cannot write"
    )
    assert RunFolder(unfinished).result() is not None


def test_runs_of_long_ago(say, finished, here):
    shutil.copytree(finished, here / "it's another")
    assert say("tensorboard", "run").out == "events of 1 run: tensorboard --logdir run/tensorboard\n"
    said = say("tensorboard", "run", "it's another", "--out", "all of them")
    assert (said.code, said.err) == (0, "")
    assert said.out == "events of 2 runs: tensorboard --logdir 'all of them'\n"
    for folder in ("run/tensorboard", "all of them/run", "all of them/it's another"):
        assert steps(here / folder) == [3, 6]


def test_what_cannot_be_converted(refused, finished, here):
    (here / "other").mkdir()
    shutil.copytree(finished, here / "other" / "run")
    refused(2, ["tensorboard", "run", "other/run", "--out", "all"], "two runs are named run")
    refused(2, ["tensorboard", "nosuch"], "no such run")
    refused(5, ["tensorboard", "run", "--out", "run/run.json"], "cannot write")
    (finished / "run.json").write_text('{"format": 1}')
    refused(4, ["tensorboard", "run", "--out", "all"], "run.json is damaged")


@pytest.mark.parametrize("word", ["tensorboard", "--tensorboard"])
def test_help_speaks_of_it(say, word):
    assert word in say(*("tensorboard", "--help") if word == "tensorboard" else ("train", "--help")).out
