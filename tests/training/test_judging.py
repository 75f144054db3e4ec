"""An evaluation whose loss is not finite ends a run, although every number of its state is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import residual
from residual.errors import NonFiniteError
from residual.training.opening import open_session, stored_compute, stored_recipe
from residual.training.progress import Silent
from residual.training.signals import Signals
from residual.training.step import LAG, Guard
from residual.training.train import train

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
