"""An evaluation whose loss is not finite ends a run, although every number of its state is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

import residual
from campaigns.running import fingerprint
from residual.data.batches import stretches
from residual.errors import Interrupted, NonFiniteError, UsageError
from residual.runs.records import timeless
from residual.training.extending import extend
from residual.training.opening import open_session, stored_compute, stored_recipe
from residual.training.progress import Silent
from residual.training.signals import Signals
from residual.training.step import LAG, Guard
from residual.training.train import resume, train

TINY = {"steps": 2, "network.name": "resnet-8", "network.widths": [4, 8, 16], "data.limit": 100, "batch_size": 20}


def test_a_loss_that_is_not_finite_is_named_with_its_split_and_step(tmp_path: Path) -> None:
    run = residual.train("digits", set=TINY, out=tmp_path / "run")
    facts = run.facts()
    session = open_session(run, stored_recipe(run, facts), stored_compute(run, facts), Silent(), Signals())
    with torch.no_grad():
        session.state.classifier.network.classifier.weight.fill_(torch.finfo(torch.float32).max)
    session.journal.evaluated = 0
    before = run.records()
    with pytest.raises(NonFiniteError, match="the loss of the validation images is not finite at step 2 "):
        session.evaluate()
    assert session.records is not None
    session.records.close()
    assert run.records() == before


def test_flags_that_a_gpu_still_holds_are_read_before_running_figures_are_written(tmp_path, monkeypatch):
    read = Guard.read

    def late(self, *every):  # what a step asks for on a GPU; all others ask for everything
        read(self, LAG) if every else read(self)

    monkeypatch.setattr(Guard, "read", late)
    small = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "data.limit": 120, "batch_size": 40}
    wild = {"steps": 9, "schedule.peak": 1000.0, "compute.threads": 1, "compute.precision": "float32"}
    with pytest.raises(NonFiniteError, match="is not finite at step"):
        train("digits", set=small | wild, out=tmp_path / "run")


def test_an_extension_after_a_signal_in_the_last_evaluation_is_that_of_a_run_left_alone(tmp_path: Path) -> None:
    plateau = {"kind": "plateau", "rate": 0.05, "patience": 1, "threshold": 0.9}
    settings = TINY | {"steps": 12, "schedule": plateau, "evaluation.best": "loss", "compute.threads": 1}
    settings |= {"compute.precision": "float32", "evaluation.every_epochs": 3}

    class Last(Silent):
        def stepped(self, step: int, images: int) -> None:
            if step == 12:
                signal.raise_signal(signal.SIGINT)

    alone = train("digits", set=settings, out=tmp_path / "alone")
    with pytest.raises(Interrupted):
        train("digits", set=settings, out=tmp_path / "cut", listener=Last())
    cut = resume(tmp_path / "cut")
    assert fingerprint(cut.path) == fingerprint(alone.path)
    longer = [extend(run.path, "16steps", out=tmp_path / f"longer-{run.name}") for run in (alone, cut)]
    one, other = (timeless(run.records()) for run in longer)
    assert one == other
    assert len({record["rate"] for record in alone.records() + one if record["kind"] == "train"}) > 1


def test_statistics_over_one_image_more_than_a_batch(tmp_path: Path) -> None:
    settings = {"network.name": "resnet-18", "network.stem": "7x7", "network.widths": [4, 4, 4, 4], "steps": 1}
    settings |= {"data.limit": 100, "batch_size": 16, "evaluation.precise_statistics": 65, "compute.threads": 1}
    assert train("digits", set=settings, out=tmp_path / "run").result() is not None


@pytest.mark.parametrize(
    "changes",
    [{"batch_size": 1}, {"batch_size": 16, "optimiser.accumulate": 16}, {"batch_size": 16, "network.norm_group": 5}],
)
def test_batch_normalisation_of_a_single_value_is_one_line(changes: dict[str, object], tmp_path: Path) -> None:
    settings = {"network.name": "resnet-18", "network.stem": "7x7", "network.widths": [4, 4, 4, 4], "steps": 1}
    with pytest.raises(UsageError, match=r"batch_size|norm_group"):
        train("digits", set=settings | {"data.limit": 100, "compute.threads": 1} | changes, out=tmp_path / "run")


def test_the_last_validation_of_a_run_that_patience_ends_counts_once(tmp_path: Path) -> None:
    plateau = {"kind": "plateau", "rate": 1e-6, "patience": 3, "watch": "validation"}
    settings = TINY | {"steps": 40, "schedule": plateau, "evaluation.patience": 2, "compute.precision": "float32"}
    run = train("digits", set=settings | {"evaluation.every_epochs": 0.5}, out=tmp_path / "run")
    events = [(record["name"], record["step"]) for record in run.records() if record["kind"] == "event"]
    assert events[0][0] == "stopped-early", "before three validations without a better one"
    assert len(events) == 1, "the same one a second time is none"


@pytest.mark.parametrize("every", [0.1, 0.2, 0.3, 0.7, 1.0, 2.0, 1e6])
def test_validations_are_where_their_share_of_an_epoch_ends(every: float) -> None:
    steps = 60  # of ten an epoch
    due = [
        step
        for step in range(1, steps + 1)
        if stretches(step * 18, 180, every) > stretches((step - 1) * 18, 180, every)
    ]
    assert due == [step for step in range(1, steps + 1) if round(step * 10) % round(every * 100) == 0]
