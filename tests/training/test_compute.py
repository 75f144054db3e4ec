"""What `auto` comes to, and what resume says when the machine is not the one the run began on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from residual import environment
from residual.data import workers
from residual.device import choose_device
from residual.environment import machine, versions
from residual.errors import EnvironmentFault, log
from residual.training import compute as computing
from residual.training.compute import Compute, choose, choose_precision
from residual.training.opening import warn_of_differences
from residual.training.recipe import ComputeSettings
from residual.training.result import make_result
from residual.training.train import resume, train

TINY = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "batch_size": 32, "steps": 3, "compute.threads": 1}


@pytest.mark.parametrize(
    ("gain", "precision"), [(0.3, "float32"), (1.05, "float32"), (1.15, "bfloat16"), (3, "bfloat16")]
)
def test_bfloat16_is_chosen_where_it_gains(gain: float, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computing, "_gain", lambda device, threads: gain)
    chosen, reason = choose_precision(torch.device("cpu"))
    assert (chosen, f"{gain:.1f} times" in reason) == (precision, True)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("NVIDIA GeForce GTX 1660 Ti", "float32"),
        ("NVIDIA GeForce GTX 1650", "float32"),
        ("Quadro T1000", "float32"),
        ("NVIDIA T500", "float32"),
        ("NVIDIA GeForce MX450", "float32"),
        ("NVIDIA GeForce RTX 2060", "float16"),
        ("Tesla T4", "float16"),
        ("NVIDIA GeForce GTX 1080", "float16"),
    ],
)
def test_gpus_whose_float16_is_of_no_use_compute_in_float32(
    name: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computing, "has_bfloat16", lambda device: False)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(name=name))
    assert choose_precision(torch.device("cuda:0"))[0] == precision


def test_the_gain_of_bfloat16_is_measured_on_this_machine() -> None:
    assert 0.001 < computing._gain(torch.device("cpu"), 1, rounds=2) < 100


@pytest.mark.parametrize(("small", "asked"), [(0.1, [4]), (0.5, [4, 64]), (2.0, [4, 64])])
def test_few_images_tell_that_bfloat16_is_emulated_and_one_process_measures_once(
    small: float, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    images: list[int] = []

    def ratio(device: torch.device, count: int, rounds: int, half: torch.dtype) -> float:
        images.append(count)
        return small if count == 4 else 1.5

    monkeypatch.setattr(computing, "_ratio", ratio)
    computing._gain.cache_clear()
    settings = ComputeSettings(device="cpu", threads=1)
    try:
        for _ in range(2):
            chosen, reasons = choose(settings)
            assert chosen.precision == ("float32" if asked == [4] else "bfloat16")
            assert f"{small if asked == [4] else 1.5:.1f} times" in reasons["precision"]
    finally:
        computing._gain.cache_clear()
    assert images == asked


def test_half_precision_that_does_not_gain_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(computing, "_gain", lambda device, threads, half=torch.bfloat16: 0.1)
    chosen, reasons = choose(ComputeSettings(device="cpu", precision="float16", threads=1))
    assert reasons["precision"] == "asked for; measured 0.1 times as fast as float32"
    for precision, said in ((chosen.precision, 1), ("float32", 0)):
        caplog.clear()
        computing.warn_of_precision(replace(chosen, precision=precision))
        assert len(caplog.records) == said
    monkeypatch.setattr(computing, "_gain", lambda device, threads, half=torch.bfloat16: 1.5)
    assert choose(ComputeSettings(device="cpu", precision="float16", threads=1))[1]["precision"] == "asked for"
    computing.warn_of_precision(chosen)
    assert not caplog.records


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(EnvironmentFault, match=r"no device cuda:99 here.* this machine has cpu"):
        choose_device("cuda:99")


def test_what_was_asked_for_is_not_measured() -> None:
    settings = ComputeSettings(device="cpu", precision="float32", layout="contiguous", threads=1)
    chosen, reasons = choose(settings)
    assert chosen == Compute("cpu", "float32", "contiguous", 1, False)
    assert set(reasons.values()) == {"asked for"}


def facts(**changes: str) -> dict[str, Any]:
    chosen = Compute("cpu", "float32", "channels-last", 1, False).facts()
    return {"versions": {**versions(), **changes}, "machine": machine(), "chosen": chosen}


@pytest.mark.parametrize(
    ("compute", "former", "said"),
    [
        (Compute("cpu", "float32", "channels-last", 1, False), {}, None),
        (Compute("cpu", "float32", "channels-last", 1, False), {"torch": "2.11.0"}, "torch 2.11.0 -> "),
        (Compute("cpu", "float32", "channels-last", 2, False), {}, "threads 1 -> 2"),
        (Compute("cuda:0", "float32", "channels-last", 1, False), {}, "cuda:0 without --deterministic"),
        (Compute("cuda:0", "float32", "channels-last", 1, True), {}, "device cpu -> cuda:0"),
    ],
)
def test_resume_says_what_may_change_the_last_bits(
    compute: Compute, former: dict[str, str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *values: lines.append(text % values))
    warn_of_differences(facts(**former), compute, versions(), machine())
    assert len(lines) == (0 if said is None else 1)
    assert all(said is not None and said in line for line in lines)


def test_the_data_may_have_moved(tmp_path: Path, cifar: Path) -> None:
    small = {**TINY, "data.limit": 200, "evaluation.batch_size": 2000, "checkpoint.every_steps": 1}
    first, second = tmp_path / "here", tmp_path / "there"
    first.symlink_to(cifar)
    run = train("cifar10-fast", set={**small, "data.path": str(first)}, out=tmp_path / "run")
    whole = (run.model_path / "model.safetensors").read_bytes()
    (run.path / "result.json").unlink()
    first.unlink()
    second.symlink_to(cifar)
    again = resume(run.path, set={"data.path": str(second)})
    assert (again.model_path / "model.safetensors").read_bytes() == whole


def test_training_leaves_the_random_state_of_the_caller_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train("digits", set={**TINY, "network.dropout": 0.2}, out=tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_equal_seeds_give_equal_runs_and_other_seeds_other_ones(tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = train("digits", set={**TINY, "seed": seed}, out=tmp_path / name)
        weights.append((run.model_path / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]
    assert (tmp_path / "a" / "split.json").read_bytes() == (tmp_path / "c" / "split.json").read_bytes()


def test_another_gpu_is_told_and_the_result_names_the_one_that_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *values: lines.append(text % values))
    gpu = Compute("cuda:0", "float32", "channels-last", 1, True)
    old = {**facts(), "chosen": gpu.facts()}
    new = {**machine(), "gpu": "Z2", "cuda": "13.0"}
    warn_of_differences(old, gpu, versions(), new)
    assert lines == [], "an older release did not note the GPU"
    warn_of_differences({**old, "machine": {**new, "gpu": "Z1"}}, gpu, versions(), new)
    assert lines[0].endswith(": gpu Z1 -> Z2")
    run = train("digits", set=TINY, out=tmp_path / "run")
    assert "name" not in make_result(run, 1.0, Compute("cpu", "float32", "channels-last", 1, False))["device"]
    monkeypatch.setattr("residual.training.result.machine", lambda device: new)
    assert make_result(run, 1.0, gpu)["device"] == {**gpu.facts(), "name": "Z2"}


def test_threads_are_no_more_than_the_container_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(environment, "QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for text, expected in (("150000 100000", 2), ("max 100000", 64), ("1000 100000", 1), ("6400000 50000", 64)):
        quota.write_text(text + "\n")
        assert environment.processors() == expected
    for broken in ("", "200000", "x y", "200000 0"):
        quota.write_text(broken)
        assert environment.processors() == 64
    quota.unlink()
    assert environment.processors() == 64
    quota.write_text("200000 100000\n")
    assert workers.automatic() == 2
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    chosen, reasons = choose(ComputeSettings(precision="float32"))
    assert (chosen.threads, reasons["threads"]) == (2, "of 64, as many as may be used at a time")
    assert choose(ComputeSettings(precision="float32", threads=5))[0].threads == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert choose(ComputeSettings(precision="float32"))[0].threads == 64
