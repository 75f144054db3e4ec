"""Compiling: when it pays, what is said, and a compiled run that is interrupted. The generator of code is torch's."""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from campaigns.running import fingerprint
from residual.errors import EnvironmentFault, Interrupted, UsageError
from residual.models import NetworkSettings, resolve
from residual.training import compiling
from residual.training.compiling import Timing, choose_compile, pays, time_steps
from residual.training.compute import Compute
from residual.training.progress import Silent
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.train import resume, train

FLOAT32 = Compute("cpu", "float32", "channels-last", 1, False)
SPEC = resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 10, 3)
TINY = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 8],
    "batch_size": 16,
    "steps": 5,
    "data.limit": 100,
    "compute.threads": 1,
    "compute.precision": "float32",
    "checkpoint.every_seconds": None,
}


@pytest.mark.parametrize(
    ("timing", "steps", "sizes", "worth"),
    [
        (Timing(0.1, 0.09, 30), 2999, 1, False),  # 299.9 s, or 269.91 + 30
        (Timing(0.1, 0.09, 30), 3001, 1, True),
        (Timing(0.1, 0.09, 30), 5000, 3, False),  # three sizes are compiled three times
        (Timing(0.1, 0.11, 0), 10**6, 1, False),
    ],
)
def test_it_pays_where_the_run_gets_shorter_with_its_warm_up(
    timing: Timing, steps: int, sizes: int, worth: bool
) -> None:
    assert pays(timing, steps, sizes)[0] == worth


def chosen(monkeypatch: pytest.MonkeyPatch, wish: str, steps: int, eager: float, compiled: float) -> tuple[bool, str]:
    recipe = override(RECIPES["cifar10-paper"], [("compute.compile", wish)])

    def measure(_: Any, __: Any, ___: Any, compute: Compute) -> tuple[float, float]:
        return (30.0, compiled) if compute.compile else (eager, eager)

    monkeypatch.setattr(compiling, "time_steps", measure)
    compute, reasons = choose_compile(recipe, SPEC, (32, 32), FLOAT32, steps)
    return compute.compile, reasons.get("compile", "")


def test_what_is_chosen_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compiler", lambda: "/usr/bin/g++")
    assert chosen(monkeypatch, "none", 64_000, 0.1, 0.01) == (False, "")
    assert chosen(monkeypatch, "default", 10, 0.1, 1.0) == (True, "asked for")
    assert chosen(monkeypatch, "auto", 100, 0.1, 0.01) == (
        False,
        "the run takes about 10 s, too little to pay for a warm-up",
    )
    monkeypatch.setattr(compiling, "time_steps", lambda *_: pytest.fail("one process is no measure of several"))
    recipe = override(RECIPES["cifar10-paper"], [("compute.compile", "auto")])
    both = SimpleNamespace(world=2, first=lambda make: make())
    alone, reasons = choose_compile(recipe, SPEC, (32, 32), FLOAT32, 64_000, cast(Any, both))
    assert (alone.compile, "several processes" in reasons["compile"]) == (False, True)
    for compiled, worth in ((0.08, True), (0.0999, False)):
        found, why = chosen(monkeypatch, "auto", 64_000, 0.1, compiled)
        assert (found, "64,000 steps would take 6,400 s, and compiled" in why) == (worth, True)
    monkeypatch.setattr(compiling, "compiler", lambda: None)
    assert chosen(monkeypatch, "auto", 64_000, 0.1, 0.01) == (False, "this machine has no C++ compiler")
    with pytest.raises(EnvironmentFault, match=r"no C\+\+ compiler here .*install g\+\+"):
        chosen(monkeypatch, "default", 64_000, 0.1, 0.01)


@pytest.mark.parametrize(
    ("platform", "named", "wanted"),
    [("linux", None, "g++"), ("darwin", None, "clang++"), ("win32", None, "cl"), ("win32", "icx", "icx")],
)
def test_the_compiler_that_torch_calls_on_each_system_is_looked_for(
    platform: str, named: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    if named is not None:
        monkeypatch.setenv("CXX", named)
    asked: list[str] = []
    monkeypatch.setattr(shutil, "which", asked.append)
    monkeypatch.setattr(sys, "platform", platform)
    assert compiling.compiler() is None
    assert asked == [wanted]


def test_steps_are_timed_and_excluded_choices_are_refused() -> None:
    first, later = time_steps(override(RECIPES["cifar10-paper"], [("batch_size", 4)]), SPEC, (16, 16), FLOAT32)
    assert min(first, later) > 0
    with pytest.raises(UsageError, match="compile and recompute exclude each other"):
        override(RECIPES["digits"], [("compute.compile", "default"), ("compute.recompute", True)])


class Interrupting(Silent):
    def stepped(self, step: int, images: int) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGINT)


def test_a_compiled_run_is_resumed_as_one_and_evaluated_uncompiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        def run(*arguments: Any) -> Any:
            seen.append(torch.is_inference_mode_enabled())
            return graph.forward(*arguments)

        return run

    monkeypatch.setattr(compiling, "BACKEND", backend)
    settings = {**TINY, "compute.compile": "default"}
    alone = train("digits", set=settings, out=tmp_path / "alone")
    assert alone.facts()["chosen"]["compile"] is True
    assert len(seen) >= TINY["steps"]  # type: ignore[operator]
    assert not any(seen)
    with pytest.raises(Interrupted):
        train("digits", set=settings, out=tmp_path / "cut", listener=Interrupting())
    resume(tmp_path / "cut")
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "alone")
    plain = train("digits", set=TINY, out=tmp_path / "plain")
    assert plain.facts()["chosen"]["compile"] is False
    assert fingerprint(plain.path)["weights"] == fingerprint(alone.path)["weights"]  # these kernels are the same


def test_a_gpu_that_cannot_be_compiled_for_is_found_out_before_step_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(model: Any, **options: Any) -> Any:
        raise RuntimeError("Cannot find a working triton installation. Either the package is not installed or")

    recipe = override(RECIPES["digits"], [("compute.compile", "default")])
    spec, compute = resolve(recipe.network, 10, 1), Compute("cuda:0", "float32", "channels-last", 1, False)
    monkeypatch.setattr(torch, "ones", lambda count, device: torch.zeros(count))
    compiling._fault.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", compiled)
        with pytest.raises(EnvironmentFault, match=r"find a working triton installation \(compute.compile\): set"):
            choose_compile(recipe, spec, (8, 8), compute, 100)
    compiling._fault.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    assert choose_compile(recipe, spec, (8, 8), compute, 100)[0].compile
    compiling._fault.cache_clear()
