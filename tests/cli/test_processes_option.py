"""`residual train --processes`: the command becomes torch's launcher, with the same words."""

from __future__ import annotations

import json
import sys

import pytest

from residual.cli.processes import _words
from tests.cli.conftest import SIX


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["train", "--processes", "2", "--out", "x"], ["train", "--out", "x"]),
        (["train", "--processes=2", "--log", "json"], ["train", "--progress", "json"]),
        (["train", "digits", "--log=plain", "--processes", "4"], ["train", "digits", "--progress=plain"]),
    ],
)
def test_the_words_are_the_same_but_for_two(given, found):
    assert _words(given) == found


def test_what_cannot_begin_is_told_before_anything(refused, monkeypatch):
    refused(2, ["train", "--processes", "2", "--out", "x"], "in place of itself", "--processes")
    refused(2, ["train", "--processes", "0", "--out", "x"], "0 processes")
    monkeypatch.setattr("residual.cli.processes._program", True)
    refused(2, ["train", "--processes", "2"], "the same run", "--out runs/NAME")
    monkeypatch.setattr("sys.platform", "win32")
    refused(6, ["train", "--processes", "2", "--out", "x"], "WSL 2")
    monkeypatch.undo()


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun does not start on Windows")
def test_two_processes_train_one_run(start, here):
    said = start(*SIX, "--processes", 2, "--out", "two").end(timeout=180)
    assert said.code == 0, said.err
    facts = json.loads((here / "two" / "run.json").read_text())
    assert facts["chosen"]["processes"] == 2
    assert facts["command"].startswith(
        "torchrun --nnodes 1 --nproc-per-node 2 -m residual train digits --progress plain"
    )
    assert (here / "two" / "result.json").is_file()
