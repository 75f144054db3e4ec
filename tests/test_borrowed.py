"""What a call tells torch is put back for the program that called, and one process trains one run at a time."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import residual
from residual.borrowed import borrowed, borrowed_alone
from residual.device import keep_float32
from residual.errors import UsageError
from residual.training.progress import Silent

TINY: dict[str, Any] = {"network": "resnet-8", "steps": 2, "batch_size": 8, "data": {"limit": 40, "validation": 0.25}}


def told() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cudnn = torch.backends.cudnn
        parts = [getattr(cudnn, part).fp32_precision for part in ("conv", "rnn") if hasattr(cudnn, part)]
        return [torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), cudnn.allow_tf32, *parts]


@pytest.fixture
def three_threads() -> Iterator[None]:
    before, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(3)
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_num_threads(before)
    torch.backends.cudnn.allow_tf32 = tf32


@pytest.mark.usefixtures("three_threads")
def test_what_torch_was_told_is_put_back(tmp_path: Path) -> None:
    before = told()
    changes = {**TINY, "compute": {"threads": 1, "precision": "float32", "deterministic": True}}
    run = residual.train("digits", set=changes, out=tmp_path / "run")
    assert told() == before
    residual.evaluate(run)
    residual.predict(run, torch.zeros(1, 32, 32, dtype=torch.uint8))
    residual.find_lr("digits", set=changes, steps=10)
    residual.report(run, out=tmp_path / "page.html", data=None)
    residual.predict(run, torch.zeros(1, 32, 32, dtype=torch.uint8), temperature="calibrated")
    assert told() == before
    with borrowed():
        keep_float32()
        assert told() != before, "these tell torch something"


def test_another_default_device_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As notebooks on a GPU set it; on `meta` whatever strays there has no numbers."""
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    changes = {**TINY, "compute": {"threads": 1, "precision": "float32"}}
    pictures = np.random.default_rng(0).integers(0, 255, (3, 30, 30, 1), dtype=np.uint8)

    def used(place: Path) -> tuple[Any, ...]:
        network = residual.build("resnet-8", classes=3, seed=1)
        run = residual.train("digits", set=changes, out=place, device="cpu")
        classifier = residual.load(run)
        answers = [best for one in classifier.predict(pictures, device="cpu") for best in one.best]
        mine = residual.Classifier.of(network, ["a", "b", "c"], image_size=32, mean=[0.5] * 3, std=[0.2] * 3)
        pixels = mine.prepare(pictures)
        residual.export_model(mine, place.with_suffix(".safetensors"), to="safetensors")
        brought = residual.import_weights(place.with_suffix(".safetensors"), channels=4)
        other = mine.with_classes(["x", "y"], seed=1)
        few = dict(TINY) | {"data": {"limit": 60, "validation": 0.25}}
        residual.tune("digits", place.name, set=few | changes, population=2, generations=0)
        states = (network, classifier.network, brought.network, other.network)
        return [one.state_dict() for one in states], answers, pixels, mine.logits(pixels, "cpu")

    wanted = used(tmp_path / "a")
    torch.set_default_device("meta")
    try:
        found = used(tmp_path / "b")
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)
    for before, after in zip(wanted[0], found[0], strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert found[1] == wanted[1]
    assert all(torch.equal(a, b) for a, b in zip(wanted[2:], found[2:], strict=True))


@pytest.mark.usefixtures("three_threads")
def test_where_calls_overlap_the_last_gives_back() -> None:
    before = told()
    first, second = borrowed(), borrowed()
    first.__enter__()
    keep_float32()
    second.__enter__()
    first.__exit__(None, None, None)
    assert told() != before, "the second is still at work"
    second.__exit__(None, None, None)
    assert told() == before


def test_a_program_that_says_it_by_the_newer_names_is_answered() -> None:
    cudnn: Any = torch.backends.cudnn
    if not hasattr(cudnn, "conv"):
        pytest.skip("this torch has the older name alone")
    older, before = cudnn.allow_tf32, [cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision]
    cudnn.allow_tf32 = True
    cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "ieee", "tf32"
    try:
        with pytest.raises(RuntimeError):
            _ = cudnn.allow_tf32
        with borrowed():
            keep_float32()
        assert cudnn.conv.fp32_precision == "ieee"
    finally:
        cudnn.allow_tf32 = older
        cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = before
        assert cudnn.allow_tf32 == older


def in_a_thread(call: Callable[[], object]) -> list[Exception]:
    found: list[Exception] = []

    def work() -> None:
        try:
            call()
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found


def test_a_second_thread_does_not_train(tmp_path: Path) -> None:
    seen: list[Exception] = []

    class Second(Silent):
        def began(self, plan: dict[str, Any]) -> None:
            seen.extend(in_a_thread(lambda: residual.train("digits", set=TINY, out=tmp_path / "second")))

    residual.train("digits", set={**TINY, "compute.precision": "float32"}, out=tmp_path / "first", listener=Second())
    assert ["another thread of this process is training" in str(error) for error in seen] == [True]
    assert isinstance(seen[0], UsageError)
    assert not (tmp_path / "second").exists()
    with borrowed_alone("one"), borrowed_alone("within it"):
        assert in_a_thread(lambda: borrowed_alone("another").__enter__())
    assert not in_a_thread(lambda: borrowed_alone("another").__enter__())
