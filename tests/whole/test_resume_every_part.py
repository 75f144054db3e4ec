"""Every part of the training state, interrupted in the middle and gone on with, ends where a run left alone ends."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from campaigns.running import fingerprint
from residual.errors import Interrupted, UsageError
from residual.runs.folder import RunFolder
from residual.training.progress import Silent
from residual.training.train import resume, train

TINY = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 8],
    "batch_size": 32,
    "steps": 9,
    "data.limit": 160,
    "evaluation.every_epochs": 0.4,
    "compute.threads": 1,
    "compute.precision": "float32",
    "checkpoint.every_seconds": None,
}
PLATEAU = {"schedule.kind": "plateau", "schedule.patience": 1, "schedule.threshold": 0.9}
HOLD = {
    **{"schedule.kind": "steps", "schedule.rate": 0.05, "schedule.drops": [7]},
    **{"schedule.hold.rate": 0.01, "schedule.hold.until_error": 0.88, "schedule.hold.window": 3},
}
PARTS: dict[str, dict[str, Any]] = {
    "hold": HOLD,
    "best and patience": {"evaluation.best": "balanced", "evaluation.patience": 2},
    "best of averaged weights": {
        "evaluation.best": "loss",
        "optimiser.average": 0.9,
        "evaluation.precise_statistics": 64,
    },
    "patience": {"evaluation.patience": 2},
    "adam": {"optimiser.kind": "adam", "optimiser.nesterov": False},
    "adamw": {"optimiser.kind": "adamw", "optimiser.nesterov": False},
    "averaged weights": {"optimiser.average": 0.9},
    "averaged weights, precise statistics": {"optimiser.average": 0.9, "evaluation.precise_statistics": 100},
    "precise statistics": {"evaluation.precise_statistics": 64},
    "plateau": PLATEAU,
    "plateau of training": {**PLATEAU, "schedule.watch": "training", "data.validation": 0.0},
    "groups": {"network.norm_group": 8},
    "accumulation and clipping": {"optimiser.accumulate": 3, "optimiser.clip": 0.5},
    "mixing": {"data.augment.mixup": 0.4, "data.augment.cutmix": 1.0, "loss.label_smoothing": 0.1},
    "sizes, holes, TrivialAugment": {
        "data.augment.sizes": [[0.4, 8], [0.7, 16]],
        "data.augment.cutout": 6,
        "data.augment.erase": 0.3,
        "data.augment.trivial": True,
    },
    "dihedral, turned": {"data.augment.dihedral": True, "data.augment.rotate": 20},
    "units skipped by chance": {"network.stochastic_depth": 0.3},
    "mirror by turns": {"data.augment.mirror": True, "data.augment.mirror_by": "turns"},
    "float16, its loss scaled": {"compute.precision": "float16"},
    "computed again": {"compute.recompute": True},
    "balanced classes": {"data.sampling": "balanced", "loss.class_weights": {"3": 2.5, "8": 0.5}},
}

STARTS: dict[str, dict[str, Any]] = {
    "weights": {},
    "frozen, statistics measured anew": {"start.freeze": "stage-1", "evaluation.precise_statistics": 48},
    "unfrozen in the middle": {"start.freeze": "head-only", "start.unfreeze": [0.3, 0.5, 0.6]},
    "unfrozen as it is cut": {"start.freeze": "stage-2", "start.unfreeze": [0.44], "optimiser.kind": "adamw"},
    "rates apart, averaged, in parts": {
        "start.rate_divisor": 2.6,
        "start.freeze": "stem",
        "optimiser.average": 0.9,
        "optimiser.accumulate": 3,
        "optimiser.clip": 0.5,
    },
    "statistics kept": {"start.statistics": "kept"},
    "computed again": {"compute.recompute": True, "start.freeze": "stage-1", "start.unfreeze": [0.5]},
    "classes and images of each": {"data.limit": None, "data.classes": "7,8,9", "data.per_class": 30, "data.draw": 2},
}


class Interrupting(Silent):
    """Sends the signal of Ctrl-C once `step` steps are done."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, step: int, images: int) -> None:
        if step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("name", PARTS)
def test_an_interrupted_run_ends_like_one_left_alone(name: str, tmp_path: Path) -> None:
    settings = TINY | PARTS[name]
    alone = train("digits", set=settings, out=tmp_path / "alone")
    records = alone.records()
    if name.startswith("plateau"):
        assert [r["name"] for r in records if r["kind"] == "event"][:1] == ["plateau-1"]
        assert len({r["rate"] for r in records if r["kind"] == "train"}) > 1
    if name == "hold":
        (event,) = (r for r in records if r["kind"] == "event")
        assert (event["name"], event["step"]) == ("training-error-below", 6)  # its window spans the interruption
        assert {r["step"]: r["rate"] for r in records if r["kind"] == "train"} == pytest.approx(
            {2: 0.01, 4: 0.01, 6: 0.01, 8: 0.005, 9: 0.005}
        )
    if "patience" in name:
        (event,) = (r for r in records if r["kind"] == "event")
        assert event["name"] == "stopped-early"
        assert 4 < event["step"] < 9
    with pytest.raises(Interrupted):
        train("digits", set=settings, out=tmp_path / "cut", listener=Interrupting(4))
    assert RunFolder.open(tmp_path / "cut").steps()[0] == 4
    resume(tmp_path / "cut")
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "alone")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("digits", set=TINY | {"steps": 3}, out=tmp_path_factory.mktemp("weights") / "run").path


@pytest.mark.parametrize("name", STARTS)
def test_a_run_from_trained_weights_goes_on_without_them(name: str, trained: Path, tmp_path: Path) -> None:
    settings = TINY | {"optimiser.nesterov": False} | STARTS[name]
    alone = train("digits", set=settings, start_from=trained, out=tmp_path / "alone")
    weights = Path(shutil.copytree(trained, tmp_path / "weights"))
    with pytest.raises(Interrupted):
        train("digits", set=settings, start_from=weights, out=tmp_path / "cut", listener=Interrupting(4))
    shutil.rmtree(weights)
    resume(tmp_path / "cut")
    assert fingerprint(tmp_path / "cut") == fingerprint(alone.path)


def test_a_plateau_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images are held out"):
        train("digits", set=TINY | PLATEAU | {"data.validation": 0.0}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_computed_again_is_the_same(tmp_path: Path) -> None:
    spared = train("digits", set=TINY | PARTS["computed again"], out=tmp_path / "spared")
    plain = train("digits", set=TINY, out=tmp_path / "plain")
    assert fingerprint(spared.path) == fingerprint(plain.path)


@pytest.mark.parametrize("name", ["averaged weights", "precise statistics", "groups", "mixing", "balanced classes"])
def test_a_part_changes_what_is_learned(name: str, tmp_path: Path) -> None:
    with_it = train("digits", set=TINY | PARTS[name], out=tmp_path / "with")
    without = train("digits", set=TINY, out=tmp_path / "without")
    assert fingerprint(with_it.path)["final model"] != fingerprint(without.path)["final model"]
