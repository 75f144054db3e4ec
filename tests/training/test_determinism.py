"""What a run tells torch of determinism ends with it, and stands before CUDA starts."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from residual.errors import EnvironmentFault, UsageError
from residual.models import NetworkSettings, resolve
from residual.training.compute import Compute
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.settling import check_device
from residual.training.train import resume, train
from residual.training.trial import untouched

TINY = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.limit": 120,
    "batch_size": 40,
    "steps": 3,
    "compute.threads": 1,
    "compute.precision": "float32",
}


def test_a_run_leaves_the_process_as_it_was(tmp_path):
    assert not torch.are_deterministic_algorithms_enabled()
    run = train("digits", set=TINY | {"compute.deterministic": True}, out=tmp_path / "run")
    assert run.facts()["chosen"]["deterministic"]
    assert not torch.are_deterministic_algorithms_enabled()
    resume(run.path)
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_the_caller_asked_of_torch_stays():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with untouched(torch.device("cpu")):
            torch.use_deterministic_algorithms(True)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_stored_choice_prepares_a_gpu_as_a_new_one_does(monkeypatch):
    chosen: list[torch.device] = []
    told: list[bool] = []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", told.append)
    Compute("cuda:1", "float32", "channels-last", torch.get_num_threads(), True).prepare()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert chosen == [torch.device("cuda:1")]
    assert told == [True]
    assert not torch.backends.cudnn.allow_tf32


def test_a_stored_choice_minds_what_cublas_was_told(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "wrong")
    with pytest.raises(EnvironmentFault, match=r"CUBLAS_WORKSPACE_CONFIG .*:4096:8"):
        Compute("cuda:1", "float32", "channels-last", torch.get_num_threads(), True).prepare()


@pytest.mark.parametrize(
    ("device", "deterministic", "network", "side", "sizes", "varies"),
    [
        ("cuda:0", True, "vgg-16", 64, (), True),
        ("cuda:0", True, "vgg-16", 224, (), False),
        ("cuda:0", True, "vgg-16", 224, ((0.5, 128),), True),
        ("cuda:0", False, "vgg-16", 64, (), False),
        ("cpu", True, "vgg-16", 64, (), False),
        ("cuda:0", True, "resnet-18", 64, (), False),
    ],
)
def test_hidden_layers_that_cannot_be_determined_are_refused(device, deterministic, network, side, sizes, varies):
    recipe = override(RECIPES["digits"], [("data.augment.sizes", sizes)])
    spec, compute = (
        resolve(NetworkSettings(name=network), 10, 3),
        Compute(device, "float32", "contiguous", 1, deterministic),
    )
    dataset = cast(Any, SimpleNamespace(image_size=(side, side)))
    if varies:
        with pytest.raises(UsageError, match=r"in a fixed order \(compute.deterministic\): leave --deterministic out"):
            check_device(recipe, spec, dataset, compute)
    else:
        check_device(recipe, spec, dataset, compute)


def test_dropout_that_would_be_drawn_anew_on_mps_is_refused():
    recipe = override(RECIPES["digits"], [("compute.recompute", True)])
    dataset, mps = cast(Any, SimpleNamespace(image_size=(8, 8))), Compute("mps", "float32", "contiguous", 1, False)
    for part, dropout in (("shortcut_dropout", 0.0), ("shortcut_dropout", 0.5), ("stochastic_depth", 0.5)):
        spec = resolve(NetworkSettings.model_validate({"name": "resnet-8", part: dropout}), 10, 1)
        check_device(recipe, spec, dataset, Compute("cpu", "float32", "contiguous", 1, False))
        if not dropout:
            check_device(recipe, spec, dataset, mps)
            continue
        with pytest.raises(UsageError, match=r"on mps dropout would draw anew .*stochastic_depth to 0"):
            check_device(recipe, spec, dataset, mps)


def test_a_run_is_asked_for_its_device_before_anything_is_written_and_when_it_goes_on(tmp_path, monkeypatch):
    asked = []
    for place in ("train", "opening"):
        monkeypatch.setattr(f"residual.training.{place}.check_device", lambda *_, place=place: asked.append(place))
    run = train("digits", set=TINY, out=tmp_path / "run")
    assert asked == ["train", "opening"]
    (run.path / "result.json").unlink()
    resume(run.path)
    assert asked == ["train", "opening", "opening"]
