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
