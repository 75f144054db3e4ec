"""One command that begins a run, or goes on with it where it was begun: `--or-resume`."""

from __future__ import annotations

import threading

from residual.runs.folder import RunFolder
from residual.training import train as train_module

TINY = (
    "--set",
    "network=resnet-8",
    "--set",
    "steps=2",
    "--set",
    "compute.precision=float32",
    "--set",
    "data.limit=100",
)


def test_the_same_command_begins_and_goes_on(say, here):
    words = ("train", "digits", *TINY, "--out", "run", "--or-resume")
    assert say(*words).code == 0
    run = RunFolder(here / "run")
    before = run.sessions()
    said = say(*words)
    assert said.code == 0
    assert "it was finished already, nothing was trained" in said.out
    assert run.sessions() == before
    said = say(*words, "--seed", "1")
    assert said.code == 2
    assert "the run differs: seed" in said.err
    said = say("train", "digits", *TINY, "--out", "run")
    assert (said.code, "a run stands there already" in said.err) == (2, True)


def test_it_needs_a_place_and_excludes_resume(say, here):
    assert "this call may go on with a run, which must then be found (--out)" in say("train", *TINY, "--or-resume").err
    assert "--or-resume is for a run at --out" in say("train", "--resume", "x", "--or-resume").err


def test_a_run_that_is_held_yet_is_waited_for(say, here, monkeypatch):
    """As after a machine has died, whose lock a file server keeps for a while."""
    words = ("train", "digits", *TINY, "--out", "run", "--or-resume")
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_result", lambda self, result: None)
        assert say(*words).code == 0
    monkeypatch.setattr(train_module, "LEASE", 30.0)
    holding, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with RunFolder(here / "run").hold():
            holding.set()
            let_go.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)
    assert "in use by another process" in say("train", "--resume", "run").err, "who asks for this run is told at once"
    threading.Timer(1.0, let_go.set).start()
    said = say(*words)
    holder.join()
    assert (said.code, RunFolder(here / "run").result() is not None) == (0, True), said.err
