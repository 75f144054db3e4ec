"""Runs that begin from trained weights: what is taken over, what fits and what does not, and that nothing drifts."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from residual.data import weights
from residual.data.preprocessing import Preprocessing
from residual.errors import ModelError, ResidualError, UsageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.use import evaluate, read_classifier
from residual.export.weights import pack
from residual.models import NETWORKS, NetworkSettings, build, resolve
from residual.models.catalogue import settings_of
from residual.models.interchange import published
from residual.models.interchange.adapting import refit
from residual.models.parts import part_of
from residual.ranks import Ranks
from residual.runs.folder import RunFolder
from residual.training.extending import extend
from residual.training.find_rate import find_rate
from residual.training.recipe import read_recipe
from residual.training.train import resume, train
from tests.data.lying_server import serving, whole
from tests.data.photographs import photographs

COMPUTE = {"compute.threads": 1, "compute.precision": "float32", "checkpoint.every_seconds": None}
TINY = {"network.name": "resnet-8", "network.widths": [4, 4, 8], "batch_size": 16, "steps": 3, **COMPUTE}
TUNED = {"data.classes": "7,8,9", "data.per_class": 10, "data.validation": 0.0, "batch_size": 15, "steps": 4, **COMPUTE}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits 0 to 6."""
    where = tmp_path_factory.mktemp("base") / "run"
    return train("digits", set=TINY | {"data.classes": "0,1,2,3,4,5,6"}, out=where).path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("photos"), count=10)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights: two classes, 24 pixels cut from 30, three channels."""
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 8)), 2, 3), seed=5)
    network.train()(torch.randn(16, 3, 24, 24, generator=torch.Generator().manual_seed(1)))
    sight = Preprocessing((24, 24), 3, "mean-std", torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.2), 0.8)
    classifier = Classifier(network, sight, ("x", "y"), {"run": "r", "step": 7, "data": {"name": "folder"}})
    path = tmp_path_factory.mktemp("imported") / "weights.safetensors"
    path.write_bytes(pack(classifier, "safetensors"))
    return path


def state(place: Path) -> dict[str, Tensor]:
    return read_classifier(place).network.state_dict()


def test_without_a_recipe_it_is_that_for_fine_tuning_and_all_is_said(base: Path, tmp_path: Path) -> None:
    run = train(set=TUNED, start_from=base, out=tmp_path / "run")
    facts = run.facts()
    assert facts["recipe"]["name"] == "digits-finetune"
    assert facts["recipe"]["network"]["name"] == "resnet-8"
    assert facts["recipe"]["network"]["widths"] == [4, 4, 8]
    assert facts["network"] == read_classifier(base).spec.model_copy(update={"classes": 3}).model_dump(mode="json")
    start = facts["start"]
    assert (start["weights"], start["run"], start["step"], start["network"]) == (str(base), "run", 3, "resnet-8")
    assert start["said"] == [
        "constants: mean-std of the weights, nothing measured",
        "head: drawn anew for 3 classes, the weights have 7 others",
    ]
    assert start["learns"][0] == "stem, stage 1, stage 2, stage 3: frozen, statistics included"
    assert start["learns"][1] == "stage 3: learns from step 1 on"
    assert read_classifier(run.path).provenance["start"] == start
    before, begun = state(base), state(run.start_path)
    assert [name for name in before if not torch.equal(before[name], begun[name])] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert (
        read_classifier(run.path)
        .preprocessing.tensors()["mean"]
        .equal(read_classifier(base).preprocessing.tensors()["mean"])
    )
    again = train(str(run.path / "recipe.toml"), out=tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(state(run.path).values(), state(again.path).values(), strict=True))


@pytest.mark.parametrize("freeze", ["stem", "stage-2", "head-only"])
def test_frozen_layers_are_bitwise_unchanged_statistics_included(base: Path, tmp_path: Path, freeze: str) -> None:
    settings = TUNED | {"start.freeze": freeze, "start.unfreeze": [], "optimiser.average": 0.9}
    settings |= {"evaluation.precise_statistics": 20, "evaluation.every_epochs": 0.5, "data.validation": 0.2}
    run = train(set=settings | {"batch_size": 12}, start_from=base, out=tmp_path / "run")
    frozen = {"stem": 1, "stage-2": 3, "head-only": 4}[freeze]
    for place in (run.path, run.checkpoint_path(4)):
        before, after = state(base), state(place)
        for name, tensor in before.items():
            if part_of(name, 3) < frozen:
                assert torch.equal(tensor, after[name]), name
            elif part_of(name, 3) < 4 and "tracked" not in name:
                assert not torch.equal(tensor, after[name]), name


def test_the_same_classes_keep_their_head(base: Path, tmp_path: Path) -> None:
    settings = TUNED | {"data.classes": "0,1,2,3,4,5,6", "data.per_class": 5}
    run = train(set=settings, start_from=base, out=tmp_path / "run")
    assert "head: kept, its 7 classes are the same" in run.facts()["start"]["said"]
    assert all(torch.equal(a, b) for a, b in zip(state(base).values(), state(run.start_path).values(), strict=True))


def test_classes_in_another_order_keep_their_rows() -> None:
    spec = resolve(NetworkSettings(name="resnet-8", widths=(2, 2, 2)), 3, 1)
    network = build(spec, 1).eval()
    turned = refit(network, spec, 9, rows=[2, 0, 1])
    images = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(turned(images), network(images)[:, [2, 0, 1]])
    fresh = refit(network, spec, 9, rows=None)
    assert torch.equal(fresh.classifier.weight, build(spec, 9).classifier.weight)


def test_geometry_and_constants_are_those_of_the_weights(imported: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"steps": 3, "batch_size": 8, "evaluation.batch_size": 3, **COMPUTE}
    run = train(str(photos), set=settings, start_from=imported, out=tmp_path / "run")
    facts = run.facts()
    assert facts["recipe"]["name"] == "photos-finetune"
    assert facts["settled"] == {"data.image_size": 24, "data.channels": 3, "data.crop": 0.8}
    assert facts["reasons"]["data.image_size"] == "as the weights have it"
    assert "constants: mean-std of the weights, nothing measured" in facts["start"]["said"]
    sight = read_classifier(run.path).preprocessing
    assert (sight.image_size, sight.crop) == ((24, 24), 0.8)
    assert sight.mean.eq(0.4).all()
    result = run.result()
    assert result is not None
    judged = evaluate(run.path, split="validation")
    assert judged.evaluation.scores["loss"] == pytest.approx(result["final"]["validation"]["loss"], rel=1e-5)


def test_other_channels_adapt_the_first_convolution(base: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"steps": 2, "batch_size": 8, "data.channels": 3, **COMPUTE}
    run = train(str(photos), set=settings, start_from=base, out=tmp_path / "run")
    kernel, adapted = state(base)["stem.conv.weight"], state(run.start_path)["stem.conv.weight"]
    assert torch.allclose(adapted, kernel.expand(-1, 3, -1, -1) / 3)
    assert "stem.conv.weight: the 1 input channels repeated and scaled by 1/3 to 3" in run.facts()["start"]["said"]
    assert read_classifier(run.path).preprocessing.mean.shape == (3, 1, 1)


def test_a_mean_image_comes_along(tmp_path: Path) -> None:
    plain = train("digits", set=TINY | {"data.normalisation": "per-pixel-mean"}, out=tmp_path / "plain")
    run = train(set=TUNED, start_from=plain.path, out=tmp_path / "run")
    assert run.facts()["settled"] == {"data.normalisation": "per-pixel-mean"}
    assert torch.equal(read_classifier(run.path).preprocessing.mean, read_classifier(plain.path).preprocessing.mean)
    with pytest.raises(UsageError, match=r"own constants, per-pixel-mean \(data.normalisation\): leave it out"):
        train(set=TUNED | {"data.normalisation": "mean-std"}, start_from=plain.path, out=tmp_path / "other")


def test_the_range_test_begins_from_the_weights_too(base: Path) -> None:
    found = find_rate(set=TUNED, start_from=base, steps=12)
    assert (found.recipe.name, found.network) == ("digits-finetune", "resnet-8")
    assert found.as_dict() == find_rate(set=TUNED, start_from=base, steps=12).as_dict()


def test_a_recipe_names_its_weights_so_that_any_folder_will_do(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(base, tmp_path / "runs" / "before")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESIDUAL_RUNS", raising=False)
    for number, name in enumerate(("runs/before", "before", "last")):
        run = train("digits", set=TINY | {"start.weights": name}, out=tmp_path / f"after-{number}")
        assert read_recipe(run.path / "recipe.toml").start.weights == str(tmp_path / "runs" / "before")


def test_the_copy_in_the_run_is_what_it_begins_from(base: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(base, tmp_path / "moved"))
    run = train(set=TUNED, start_from=moved, out=tmp_path / "run")
    shutil.rmtree(moved)
    expected = state(run.path)
    for place in (
        "model",
        "result.json",
        "checkpoints",
        "records.jsonl",
        "sessions.jsonl",
    ):  # as if killed before the first checkpoint
        path = run.path / place
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run.path / "checkpoints").mkdir()
    resume(run.path)
    assert all(torch.equal(a, b) for a, b in zip(expected.values(), state(run.path).values(), strict=True))
    facts = json.loads((run.path / "run.json").read_bytes())
    facts["start"]["ready_sha256"] = "0" * 64
    (run.path / "run.json").write_text(json.dumps(facts))
    (run.path / "result.json").unlink()
    with pytest.raises(ModelError, match="not the weights the run began from"):
        resume(run.path)
    shutil.rmtree(run.start_path)
    with pytest.raises(ModelError, match=r"no manifest.json"):
        resume(run.path)


def test_an_extension_freezes_what_never_began_to_learn(base: Path, tmp_path: Path) -> None:
    run = train(set=TUNED, start_from=base, out=tmp_path / "run")
    longer = extend(run.path, "40steps", out=tmp_path / "longer")
    start = longer.facts()["recipe"]["start"]
    assert (start["freeze"], start["unfreeze"]) == ("stem", [])
    before, after = state(base), state(longer.path)
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("stem."))
    moved = state(run.path)
    assert not any(torch.equal(moved[n], after[n]) for n in moved if n.startswith("stages.0.") and n.endswith("weight"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network.name": "resnet-20"}, "the weights are of resnet-8, and another network is asked for: depths"),
        ({"network.widths": [4, 4, 4]}, "widths [4, 4, 8] there, [4, 4, 4] here"),
        ({"start.freeze": "stage-4"}, "the network has 3 stages, not 4"),
        ({"start.freeze": "everything"}, "must be none, stem, stage-K"),
        ({"start.weights": "nowhere"}, "no such run (nowhere)"),
        ({"start.weights": "nothing.pth"}, "no such file (nothing.pth)"),
        ({"start.weights": "torchvision:resnet999"}, "no weights are named"),
        ({"start.weights": "timm:resnet50"}, "no weights are known of 'timm' by name"),
    ],
)
def test_what_does_not_fit_is_one_line(base: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ResidualError) as caught:
        train(set={**TUNED, "start.weights": str(base), **changes}, out=tmp_path / "run")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_freezing_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no trained weights to keep"):
        train("digits-finetune", out=tmp_path / "run")


def test_a_given_network_that_is_the_same_is_taken_and_its_dropout_may_differ(base: Path, tmp_path: Path) -> None:
    settings = TUNED | {"network.name": "resnet-8", "network.widths": [4, 4, 8], "network.dropout": 0.3}
    run = train(set=settings, start_from=base, out=tmp_path / "run")
    assert (run.facts()["network"]["dropout"], read_classifier(run.path).spec.dropout) == (0.3, 0.3)
    assert RunFolder(run.path).facts()["recipe"]["network"]["dropout"] == 0.3


@pytest.mark.parametrize("name", NETWORKS)
def test_the_settings_of_a_network_make_it_again(name: str) -> None:
    entry = NETWORKS[name]
    for size in (32, 64, 224):
        spec = resolve(NetworkSettings(name=name), 7, 3, size)
        assert resolve(settings_of(spec), 7, 3) == spec
        assert resolve(settings_of(spec), 7, 3, 224) == spec
    changed: dict[str, Any] = {"dropout": 0.25, "norm_momentum": 0.3}
    if entry.spec().order == "original" and entry.spec().shortcut != "none" and not entry.spec().zero_last_scale:
        changed |= {"order": "full-pre-activation", "projection_norm": True} if entry.spec().stem != "none" else {}
    spec = resolve(NetworkSettings.model_validate({"name": name, **changed}), 7, 3, 64)
    assert resolve(settings_of(spec), 7, 3, 32) == spec


class Turns(Ranks):
    """One process that remembers whether its signs of life came within its turn."""

    def __init__(self) -> None:
        self.within, self.signs = False, list[bool]()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        self.within = True
        yield
        self.within = False

    def moved(self, step: int | None = None) -> None:
        self.signs.append(self.within)


def test_weights_are_downloaded_in_turn_with_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, data = Turns(), bytes(range(256)) * 100
    monkeypatch.setattr("residual.training.train.joined", lambda timeout: nullcontext(ranks))
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESIDUAL_MIRRORS", raising=False)
    name = f"resnet9-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    monkeypatch.setitem(published.TORCHVISION, "resnet9", published.Published(name, 256))
    with serving(good=whole(data)) as server:
        monkeypatch.setattr(weights, "HOST", server.address("good") + "/")
        with pytest.raises(ModelError):  # they are no weights at all
            train(set=TUNED, start_from="torchvision:resnet9", out=tmp_path / "run")
    assert ranks.signs
    assert all(ranks.signs)
