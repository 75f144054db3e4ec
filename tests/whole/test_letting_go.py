"""Who trains or looks often in one process does not gather images and networks: they go when the last user goes.

With the collector of reference cycles asleep, what a cycle holds would stay; with it awake, a worker of a study held
the images of its last ten trainings (1.5 GB of CIFAR-10), since the collector counts objects and not bytes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import residual
from residual.data.batches import Batches
from residual.data.source import Dataset
from residual.errors import NonFiniteError
from residual.models import ResidualNetwork
from residual.training.session import Session
from residual.tuning.study import Wish, tune

SHORT = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "batch_size": 16, "steps": 4}


@pytest.fixture(autouse=True)
def _asleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path))
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def left() -> dict[str, int]:
    """How many of each kind are in memory."""
    kinds = (Dataset, Batches, Session, ResidualNetwork, torch.optim.Optimizer)
    found = [type(one) for one in gc.get_objects()]  # asking the object itself would wake torch's lazy ones
    return {kind.__name__: sum(issubclass(one, kind) for one in found) for kind in kinds}


def _run(tmp_path: Path) -> Path:
    return residual.train("digits", set=SHORT, out=tmp_path / "run").path


def _fails(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError):
        residual.train("digits", set=SHORT | {"network.norm": None, "schedule.peak": 1000, "steps": 40})


def _tune(tmp_path: Path) -> None:
    tune("few", Wish(recipe="digits", set=(*SHORT.items(),), sampler="random", population=2, generations=1))


WAYS: dict[str, Callable[[Path], object]] = {
    "train": _run,
    "a training that fails": _fails,
    "resume": lambda path: residual.resume(_run(path)),
    "extend": lambda path: residual.extend(_run(path), "8steps"),
    "evaluate": lambda path: residual.evaluate(_run(path)).as_dict(),
    "find_lr": lambda path: residual.find_lr("digits", set=SHORT | {"steps": 40}, steps=20).as_dict(),
    "tune": _tune,
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_stays_in_memory(way: str, tmp_path: Path) -> None:
    before = left()
    found = WAYS[way](tmp_path)
    del found
    assert left() == before


def test_what_is_kept_is_seen(tmp_path: Path) -> None:
    """The count above does count: a network that is held on to is in it."""
    before = left()
    held = residual.load(_run(tmp_path))
    assert left()["ResidualNetwork"] == before["ResidualNetwork"] + 1
    del held
