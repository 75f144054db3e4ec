"""What is settled, measured or found out before step 0 holds when the run is gone on with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import residual
from residual.data import preprocessing
from residual.data.batches import Batches
from residual.data.datasets import open_dataset
from residual.data.preprocessing import measure
from residual.errors import Interrupted, UsageError
from residual.runs.folder import RunFolder
from residual.training import batch_trial, find_rate, fitting, opening
from residual.training.opening import stored_recipe
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.train import resume, train

BASE: dict[str, Any] = {
    "network": "resnet-8",
    "network.widths": [4, 8, 16],
    "data.image_size": 32,
    "steps": 6,
    "batch_size": 8,
    "checkpoint.every_steps": 2,
    "compute.precision": "float32",
    "compute.threads": 1,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 20 images of 60 x 50 pixels."""
    root, chance = tmp_path_factory.mktemp("photos"), np.random.default_rng(3)
    for place, name in enumerate("ab"):
        (root / name).mkdir()
        for number in range(20):
            pixels = chance.integers(0, 120 + 130 * place, (50, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


class StopAt(residual.Silent):
    def __init__(self, at: int) -> None:
        self.at, self.images = at, list[int]()

    def stepped(self, step: int, images: int) -> None:
        self.images.append(images)
        if step == self.at:
            residual.stop()


def interrupted(data: Path, out: Path, settings: dict[str, Any], **more: Any) -> tuple[RunFolder, StopAt]:
    stopper = StopAt(3)
    with pytest.raises(Interrupted):
        train(data, set=settings, out=out, listener=stopper, **more)
    listener = StopAt(0)
    return resume(out, listener=listener), listener


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
@pytest.mark.parametrize(
    "more", [{}, {"data.augment.crop_scale": None, "data.augment.short_side": [36, 48]}], ids=["area", "short side"]
)
def test_a_run_judged_at_another_size_goes_on_to_the_same_weights(
    photos: Path, tmp_path: Path, normalisation: str, more: dict[str, Any]
) -> None:
    settings = BASE | {"data.normalisation": normalisation, "data.test_size": 48} | more
    whole = train(photos, set=settings, out=tmp_path / "whole")
    again, _ = interrupted(photos, tmp_path / "again", settings)
    one, other = (residual.load(run.path) for run in (whole, again))
    for (name, a), b in zip(one.network.state_dict().items(), other.network.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert one.preprocessing.facts() == other.preprocessing.facts()
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.preprocessing.tensors().values(), other.preprocessing.tensors().values(), strict=True)
    )
    assert one.preprocessing.image_size == (48, 48)


def test_a_batch_that_was_found_out_stays_when_few_images_had_settled_another(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_trial, "_SECONDS", 0.02)
    monkeypatch.setattr(fitting, "choose_batch", lambda *_: (4, "so it was found", []))
    settings = {name: value for name, value in BASE.items() if name != "batch_size"} | {"data.validation": 0.25}
    run, after = interrupted(photos, tmp_path / "run", settings, batch_size="auto")
    facts = run.facts()
    assert (facts["chosen"]["batch_size"], facts["settled"].get("batch_size")) == (4, None)
    assert set(after.images) == {4}
    result = run.result()
    assert result is not None
    assert result["images_seen"] == 4 * facts["chosen"]["steps"]


def test_a_run_of_an_earlier_release_keeps_the_batch_that_was_found(photos: Path, tmp_path: Path) -> None:
    from residual.training.settling import settled

    facts = {"settled": {"batch_size": 8, "data.channels": 3}, "chosen": {"batch_sizes_tried": []}}
    recipe = override(RECIPES["photos"], [("batch_size", 2)])
    assert settled(recipe, facts, "here").batch_size == 2
    assert settled(recipe, facts | {"chosen": {}}, "here").batch_size == 8


def test_the_constants_are_measured_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    real: Callable[..., preprocessing.Preprocessing] = preprocessing.measure

    def counting(*arguments: Any) -> preprocessing.Preprocessing:
        nonlocal count
        count += 1
        return real(*arguments)

    monkeypatch.setattr(batch_trial, "_SECONDS", 0.02)
    for module in (fitting, opening):
        monkeypatch.setattr(module, "measure", counting)
    settings = {name: value for name, value in BASE.items() if name not in ("batch_size", "steps")}
    run = train(photos, set=settings, out=tmp_path / "run", batch_size="auto", budget="20s")
    assert count == 1
    train(photos, set=settings, start_from=run.path, out=tmp_path / "tuned", batch_size="auto", budget="20s")
    assert count == 1, "weights have constants of their own"


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
def test_a_range_test_of_a_run_sees_what_its_training_saw(
    photos: Path, tmp_path: Path, normalisation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    own = Batches

    def batches(source: Any, indices: Any, constants: Any, *rest: Any, **more: Any) -> Any:
        seen.append(constants)
        return own(source, indices, constants, *rest, **more)

    monkeypatch.setattr(find_rate, "Batches", batches)
    run = train(photos, set=BASE | {"data.normalisation": normalisation, "data.test_size": 48}, out=tmp_path / "run")
    residual.find_lr(run, steps=10)
    measured = measure(open_dataset(_settings(run)).train, torch.tensor(run.split()["training"]), normalisation)  # type: ignore[arg-type]
    assert seen[0].image_size == measured.image_size == (32, 32)
    assert torch.equal(seen[0].mean, measured.mean)


def _settings(run: Any) -> Any:
    return stored_recipe(run, run.facts()).data.model_copy(update={"path": run.facts()["data"]["origin"]})


def test_a_share_that_holds_nothing_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few = {"data.limit": 60, "data.validation": 0.005, "steps": 2, "batch_size": 20, "network.name": "resnet-8"}
    run = train("digits", set=few | {"compute.threads": 1, "compute.precision": "float32"}, out=tmp_path / "run")
    assert "held out none of 60 images" in caplog.text + json.dumps(run.facts())
    assert (run.result() or {})["protocol"]["training"] == "final (all training images)"


def test_pairs_need_an_even_batch_before_anything_is_written(photos: Path, tmp_path: Path) -> None:
    for name in ("mixup", "cutmix"):
        settings = BASE | {"batch_size": 7, f"data.augment.{name}": 0.2}
        with pytest.raises(UsageError, match=r"mix pairs, and a batch has 7.*choose a multiple of 2"):
            train(photos, set=settings, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_own_validation_images_are_held_out_however_they_are_told(photos: Path, tmp_path: Path) -> None:
    rows = ["path,label,split"]
    shutil.copytree(photos, tmp_path / "images")
    rows += [f"images/{c}/{n}.png,{c},{'val' if n < 4 else 'train'}" for c in "ab" for n in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(rows))
    settings = BASE | {"steps": 1, "data.validation": 0.0}
    found = [
        train(data, set=settings, out=tmp_path / f"run-{n}") for n, data in enumerate((tmp_path / "table.csv", photos))
    ]
    results = [run.result() or {} for run in found]
    assert [result["protocol"]["training"] for result in results] == [
        "tune (validation held out)",
        "final (all training images)",
    ]
    assert "validation" in results[0]["final"]
