"""Training as a notebook does it: values as Python has them, listeners of one's own, a stop from outside."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import residual
from residual.errors import Interrupted, UsageError

TINY: dict[str, Any] = {
    "network": "resnet-8",
    "steps": 4,
    "data": {"limit": 80, "validation": 0.25, "augment": {"shift": 1}},
    "compute": {"precision": "float32", "threads": 1},
}


def test_a_run_is_used_as_it_is_given_and_says_what_it_was_asked(tmp_path: Path) -> None:
    run = residual.train("digits", set=TINY, batch_size=8, out=tmp_path / "run")
    changed = run.facts()["changed"]
    assert (changed["batch_size"], changed["data.augment.shift"], changed["network.name"]) == (8, 1, "resnet-8")
    recipe = run.facts()["recipe"]
    assert recipe["optimiser"] == residual.RECIPES["digits"].optimiser.model_dump(mode="json")
    report = residual.evaluate(run)
    assert repr(report).startswith(f"<Report of {run.path}: 359 test images, ")
    assert len(repr(report)) < 200 + len(str(run.path))
    assert residual.resume(run).path == run.path
    made = residual.report(run, out=tmp_path / "page.html")
    assert len(repr(made)) < 200 + len(str(tmp_path))
    with pytest.raises(UsageError, match="given twice"):
        residual.train("digits", set={**TINY, "batch_size": 16}, batch_size=8, out=tmp_path / "other")


def test_the_flags_of_the_command_line_are_taken_by_name(tmp_path: Path) -> None:
    flags: dict[str, Any] = {"network": "resnet-8", "seed": 3, "device": "cpu"}
    settings = {"steps": 2, "data.limit": 80, "compute.precision": "float32", "compute.threads": 1}
    named = residual.train("digits", set=settings, batch_size=8, out=tmp_path / "a", **flags)
    paths = {"network.name": "resnet-8", "seed": 3, "compute.device": "cpu"}
    listed = residual.train("digits", set={**paths, **settings}, batch_size=8, out=tmp_path / "b")
    assert named.facts()["recipe"] == listed.facts()["recipe"]
    assert named.facts()["changed"] == listed.facts()["changed"]
    with pytest.raises(UsageError, match="given twice"):
        residual.train("digits", set={"seed": 1}, seed=3, out=tmp_path / "c")
    with pytest.raises(residual.DataError, match="no such folder"):
        residual.train("photos", data=tmp_path / "nowhere" / "fast", epochs=1, out=tmp_path / "d")


def test_a_listener_without_all_methods_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    class Part:
        def began(self, plan: dict[str, Any]) -> None: ...

        def stepped(self, step: int, images: int) -> None: ...

    with pytest.raises(UsageError, match="no method recorded and no method saved and no method ended"):
        residual.train("digits", set=TINY, out=tmp_path / "run", listener=Part())  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("thread", [False, True])
def test_a_listener_stops_the_run_which_goes_on_as_if_left_alone(tmp_path: Path, thread: bool) -> None:
    class Stops(residual.Silent):
        def stepped(self, step: int, images: int) -> None:
            if step == 2:
                residual.stop()

    def begin() -> None:
        residual.train("digits", set=TINY, batch_size=8, out=tmp_path / "run", listener=Stops())

    caught: list[BaseException] = []

    def work() -> None:
        try:
            begin()
        except Interrupted as error:
            caught.append(error)

    if thread:  # where no signal could be heard
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    else:
        work()
    (error,) = caught
    assert "stopped by residual.stop() at step 2 of 4, all of it saved" in str(error)
    assert f"residual.resume({str(tmp_path / 'run')!r}) goes on" in str(error), "no command is known to a program"
    run = residual.find_run(tmp_path / "run")
    assert run.steps()[0] == 2
    ended = residual.resume(run)
    whole = residual.train("digits", set=TINY, batch_size=8, out=tmp_path / "whole")
    weights = [(one.path / "model" / "model.safetensors").read_bytes() for one in (ended, whole)]
    assert weights[0] == weights[1]
    residual.stop()  # where nothing trains, nothing happens


def test_of_a_notebook_the_call_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = ["python", "-m", "ipykernel_launcher", "-f", "kernel.json"]
    monkeypatch.setattr(sys, "orig_argv", kernel)
    run = residual.train("digits", set={**TINY, "steps": 1}, batch_size=8, out=tmp_path / "run")
    command = run.facts()["command"]
    assert command.startswith("residual.train('digits', set={'network.name': 'resnet-8', 'steps': 1, ")
    assert command.endswith(f"out={str(tmp_path / 'run')!r}, batch_size=8)")


def test_the_same_call_begins_a_run_and_goes_on_with_it(tmp_path: Path) -> None:
    class Stops(residual.Silent):
        def stepped(self, step: int, images: int) -> None:
            residual.stop()

    def call(**changes: Any) -> residual.RunFolder:
        listener = changes.pop("listener", None)
        asked = {**TINY, **changes}
        return residual.train(
            "digits", set=asked, batch_size=8, out=tmp_path / "run", or_resume=True, listener=listener
        )

    with pytest.raises(Interrupted, match="step 1 of 4"):
        call(listener=Stops())
    run = call()
    assert [entry["event"] for entry in run.sessions()] == ["began", "interrupted", "began", "finished"]
    before = (run.path / "result.json").read_bytes()
    assert call().path == run.path
    assert (run.path / "result.json").read_bytes() == before, "a finished run comes back as it is"
    with pytest.raises(UsageError, match=r"the run differs: seed"):
        call(seed=3)
    with pytest.raises(UsageError, match=r"the run differs: .*steps"):
        residual.train(out=tmp_path / "run", or_resume=True)
    with pytest.raises(UsageError, match="this call may go on with a run, which must then be found"):
        residual.train("digits", set=TINY, or_resume=True)
