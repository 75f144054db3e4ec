"""`torch.compile` for the steps of a run: asked for, or chosen where it pays back within the run, its warm-up counted.

The compiled network is the same module with the same tensors; another order of operations may change the last bits, so
the choice is stored and a resumed run keeps it. Evaluations are not compiled: their figures stay those of float32
kernels that `residual evaluate` uses too.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from residual.data.batches import Batch
from residual.device import first_line
from residual.errors import EnvironmentFault
from residual.models import NetworkSpec, ResidualNetwork, build, overwrite_activations, put
from residual.ranks import ALONE, Ranks
from residual.training.compute import Compute
from residual.training.optimiser import make_optimiser, set_rate
from residual.training.recipe import Recipe
from residual.training.scaling import Scaling
from residual.training.step import Guard, train_step

BACKEND = "inductor"
SHORT = 300.0
"""Seconds of a run under which nothing is measured: a warm-up takes half a minute, and a measurement has one too."""
_STEPS = 3
GRAPHS = 64


@dataclass(frozen=True)
class Timing:
    """Seconds of a step as it is and compiled, and of the first compiled step."""

    eager: float
    compiled: float
    warm_up: float


def pays(timing: Timing, steps: int, sizes: int) -> tuple[bool, str]:
    """Whether compiling makes a run shorter, and in words why; each size of images is compiled by itself."""
    plain = steps * timing.eager
    compiled = steps * timing.compiled + sizes * timing.warm_up
    words = f"{steps:,} steps would take {plain:,.0f} s, and compiled {compiled:,.0f} s with the warm-up"
    return compiled < plain, words


def compiler() -> str | None:
    """The C++ compiler that torch would call on a CPU, or None."""
    return shutil.which(os.environ.get("CXX") or _usual())


def _usual() -> str:
    return {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")


def prepare(network: ResidualNetwork, compute: Compute) -> None:
    """Compile the network's steps from here on, where that was chosen."""
    if compute.compile:
        # Each side of the images and each number of frozen stages is a graph of its own; beyond the limit, which is 8,
        # the rest of a run would be computed uncompiled without a word.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
        network.compile(backend=BACKEND, dynamic=False)


def at_rest(compute: Compute) -> AbstractContextManager[object]:
    """Within, a compiled network computes as it does uncompiled."""
    return torch.compiler.set_stance("force_eager") if compute.compile else nullcontext()


def time_steps(recipe: Recipe, spec: NetworkSpec, size: tuple[int, int], compute: Compute) -> tuple[float, float]:
    """Seconds of the first step and of a later one, of a network of its own on images of zeros."""
    device = compute.torch_device
    labels = torch.zeros(recipe.batch_size, dtype=torch.int64, device=device)
    images = torch.zeros(recipe.batch_size, spec.channels, *size, device=device)
    batch = Batch(images, labels, labels.cpu())
    network = put(build(spec, recipe.seed), device, compute.memory_format)
    network.train()
    overwrite_activations(network)
    prepare(network, compute)
    optimiser = make_optimiser(network, recipe.optimiser)
    set_rate(optimiser, 1e-3, recipe.optimiser.momentum)
    guard = Guard.on(device, scaling=Scaling(optimiser) if compute.precision == "float16" else None)
    seconds = []
    for step in range(1 + _STEPS):
        start = time.perf_counter()
        train_step(network, optimiser, batch, compute, 0.0, step, recipe.optimiser, guard)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds[0], min(seconds[1:])


@cache
def _fault(device: str) -> str | None:
    """What torch says where it cannot compile the least for a GPU, as without Triton; None where it can."""
    try:
        torch.compile(torch.relu, backend=BACKEND)(torch.ones(8, device=device))
    except RuntimeError as error:
        return first_line(error)
    return None


def choose_compile(
    recipe: Recipe, spec: NetworkSpec, size: tuple[int, int], compute: Compute, steps: int, ranks: Ranks = ALONE
) -> tuple[Compute, dict[str, str]]:
    """`compute` with what `compute.compile` comes to on rank 0, and the reason.

    Raises:
        EnvironmentFault: compiling is asked for, and this machine has no compiler or none for its GPU.
    """
    if recipe.compute.compile == "none":
        return compute, {}
    world = ranks.world
    found: list[Any] = ranks.first(lambda: list(_choose(recipe, spec, size, compute, steps, world)))  # JSON: no tuples
    return replace(compute, compile=bool(found[0])), {"compile": str(found[1])}


def _choose(
    recipe: Recipe, spec: NetworkSpec, size: tuple[int, int], compute: Compute, steps: int, world: int
) -> tuple[bool, str]:
    asked = recipe.compute.compile == "default"
    if compute.torch_device.type == "cpu" and compiler() is None:
        if asked:
            remedy = f"install {_usual()}, or set it to none"
            raise EnvironmentFault("there is no C++ compiler here", "compute.compile", remedy)
        return False, "this machine has no C++ compiler"
    if asked:
        if compute.torch_device.type == "cuda" and (fault := _fault(compute.device)) is not None:
            raise EnvironmentFault(f"torch cannot compile for this GPU: {fault}", "compute.compile", "set it to none")
        return True, "asked for"
    if world > 1:  # whose batch and normalisation are others than those of one process, which would be measured
        return False, "several processes are not measured; default compiles them"
    start = time.perf_counter()
    try:
        _, eager = time_steps(recipe, spec, size, compute)
        if steps * eager < SHORT:
            return False, f"the run takes about {steps * eager:,.0f} s, too little to pay for a warm-up"
        warm_up, compiled = time_steps(recipe, spec, size, replace(compute, compile=True))
    except (RuntimeError, MemoryError) as error:  # no Triton or no compiler for it; or a batch that a run would halve
        return False, f"it could not be measured: {' '.join(str(error).split())[:200]}"
    worth, words = pays(Timing(eager, compiled, warm_up), steps, 1 + len(recipe.data.augment.sizes))
    return worth, f"{words} (measured in {time.perf_counter() - start:,.0f} s)"
