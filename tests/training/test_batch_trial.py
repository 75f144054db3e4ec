"""A batch size from real steps: what is tried, what is preferred, where the memory ends, and what stays as it was."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from residual.cli.main import run as command
from residual.errors import OutOfMemory, UsageError
from residual.models import NetworkSpec, ResidualNetwork, build
from residual.training import batch_trial, trial
from residual.training.batch_trial import Tried, sensible, sizes
from residual.training.fitting import _as_many_images
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.train import train
from tests.training.test_room import Limit
from tests.whole.test_resume_every_part import TINY

SETTINGS = {name: value for name, value in TINY.items() if name not in ("batch_size", "data.limit")} | {"steps": 2}


def test_sizes_double_and_leave_an_epoch_its_steps() -> None:
    assert sizes(50_000) == [16, 32, 64, 128, 256, 512, 1024, 2048]
    assert sizes(50_000, group=125) == [125, 250, 500, 1000, 2000]
    assert sizes(300) == sizes(112) == [16]
    assert [sizes(images) for images in (40, 31, 20, 5, 2)] == [[16], [8], [8], [2], [1]]
    assert sizes(112, group=12) == [12]
    assert sizes(20, group=32) == sizes(20), "a batch of fewer images than a group is one group"


def rates(*values: float | None) -> list[Tried]:
    return [Tried(16 << place, value) for place, value in enumerate(values)]


def test_a_larger_batch_must_gain() -> None:
    assert sensible(rates(100, 150, 180, 185, 188)) == 64
    assert sensible(rates(100, 103, 106)) == 64
    assert sensible(rates(100, 150, None)) == 32
    assert sensible(rates(100)) == 16
    with pytest.raises(OutOfMemory, match="smallest batch that was tried, of 16"):
        sensible(rates(None))
    assert [batch_trial._in_vain(rates(*found)) for found in ((100, 101), (100, 150, 151), (100, 101, 102))] == [
        False,
        False,
        True,
    ]


def test_the_memory_ends_the_trial_and_the_rate_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def limited(spec: NetworkSpec, seed: int) -> ResidualNetwork:
        return Limit(40).put_on(build(spec, seed))

    monkeypatch.setattr(trial, "build", limited)
    monkeypatch.setattr(batch_trial, "_SECONDS", 0.05)
    state = torch.get_rng_state()
    run = train("digits", set=SETTINGS, out=tmp_path / "run", batch_size="auto")
    assert torch.equal(torch.get_rng_state(), state)
    facts = run.facts()
    size = facts["chosen"]["batch_size"]
    tried = facts["chosen"]["batch_sizes_tried"]
    assert [one["batch_size"] for one in tried] == [16, 32, 64]
    assert tried[-1]["images_per_second"] is None
    assert size in (16, 32)
    assert facts["changed"]["batch_size"] == size
    peak = RECIPES["digits"].schedule.model_dump()["peak"]
    assert facts["recipe"]["schedule"]["peak"] == peak
    assert facts["reasons"]["batch_size"].startswith("images/s in batches of 16: ")
    assert f"add --set schedule.peak={peak * size / 64:.4g}" in facts["reasons"]["batch_size"]


def test_a_recipe_in_steps_sees_as_many_images_in_larger_batches() -> None:
    paper = RECIPES["cifar10-paper"]  # 64,000 steps of 128 images, the rate falls at 32,000 and 48,000
    assert _as_many_images(paper, 128, 512, []) == [("steps", 16_000), ("schedule.drops", [8000, 12_000])]
    assert _as_many_images(paper, 128, 128, []) == []
    assert _as_many_images(paper, 128, 512, ["steps"]) == []
    assert _as_many_images(paper, 128, 512, ["schedule.drops"]) == [("steps", 16_000)]
    epochs = override(paper, [("steps", None), ("epochs", 164.0)])
    assert _as_many_images(epochs, 128, 64, []) == [("schedule.drops", [64_000, 96_000])]
    assert _as_many_images(RECIPES["digits"], 64, 128, []) == [], "one cycle follows the epochs"


def test_a_length_in_steps_follows_the_batch_that_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_trial, "_SECONDS", 0.05)
    base = override(RECIPES["digits"], [("epochs", None), *(SETTINGS | {"steps": 40}).items()])
    run = train(base, out=tmp_path / "run", batch_size="auto")
    facts = run.facts()
    size = facts["chosen"]["batch_size"]
    assert facts["chosen"]["steps"] == round(40 * base.batch_size / size)
    if size != base.batch_size:
        assert facts["reasons"]["steps"] == f"as many images as in batches of {base.batch_size}"
    again = train(base, out=tmp_path / "run", batch_size="auto", or_resume=True)
    assert again.path == run.path


def test_given_and_tried_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the batch size is to be tried, and is given as well"):
        train("digits", set=SETTINGS | {"batch_size": 8}, out=tmp_path / "run", batch_size="auto")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch-size", "1.5"], "'1.5' is not a whole number"),
        (["--batch-size", "automatic"], "is not a whole number"),
        (["--batch-size", "auto", "--set", "batch_size=8"], "is given as well"),
        (["--budget", "15", "--set", "data.limit=100"], "write 90s, 15m, 2h or 1h30m"),
        (["--budget", "15m", "--epochs", "3"], "a budget chooses the length, and epochs is given as well"),
        (["--budget", "15m", "--resume", "run"], "keeps its length"),
        (["--batch-size", "auto", "--resume", "run"], "keeps its length"),
    ],
)
def test_what_the_command_line_refuses(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(["train", "digits", *arguments]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_windows_tells_what_memory_it_has_and_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def status(place: Any) -> int:
        assert place._obj[0] == 64
        place._obj[2] = 5 << 30
        return 1

    def taken(process: Any, place: Any, length: int) -> int:
        assert (place._obj[0], length, process.value) == (72, 72, (1 << 64) - 1)
        place._obj[8] = 3 << 30
        return 1

    kernel = SimpleNamespace(GlobalMemoryStatusEx=status, K32GetProcessMemoryInfo=taken)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    assert (batch_trial._free(), batch_trial._peak()) == (5 << 30, 3 << 30)
    kernel.GlobalMemoryStatusEx = lambda place: 0
    assert batch_trial._free() is None


def test_a_share_of_the_memory_of_a_mac_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("resource")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 20, "SC_PAGE_SIZE": 1 << 14}.__getitem__)
    monkeypatch.setattr(batch_trial, "_peak", lambda: 1 << 30)
    assert batch_trial._free() == (12 << 30) - (1 << 30)


def test_a_batch_that_the_free_memory_would_not_hold_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = iter(range(1 << 30, 1 << 40, 1 << 30))
    monkeypatch.setattr(batch_trial, "_peak", lambda: next(taken))
    monkeypatch.setattr(batch_trial, "_free", lambda: 2 << 30)
    monkeypatch.setattr(batch_trial, "_SECONDS", 0.05)
    run = train("digits", set=SETTINGS, out=tmp_path / "run", batch_size="auto")
    assert [one["images_per_second"] is None for one in run.facts()["chosen"]["batch_sizes_tried"]] == [False, True]
