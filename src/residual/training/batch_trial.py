"""The batch size of a run from a trial: real steps in ever larger batches, each twice the one before.

Largest is not best: a batch is taken for larger than the next smaller ones only where an image costs less in it. The
learning rate is left alone. Rates are images per second at full size.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from residual.data.datasets import Division
from residual.data.preprocessing import Preprocessing
from residual.data.source import Dataset
from residual.errors import OutOfMemory, lacks_memory
from residual.files import Facts
from residual.models import NetworkSpec
from residual.training.compute import Compute
from residual.training.recipe import Recipe
from residual.training.schedules import OneCycle
from residual.training.settling import STEPS
from residual.training.trial import Trial

GAIN = 1.05
"""How many times as fast as the best smaller batch a larger one must be, for each image, to be preferred."""
LEAST_STEPS = 16
"""Steps an epoch has at least; with fewer, larger batches cost more epochs than they save time (Goyal 2017)."""
_SMALLEST, _SECONDS = 16, 1.0
_ROOM = 0.8
"""Share of the memory now free that a larger batch may be expected to take."""
_SHARE = 0.75
"""Share of a Mac's memory that counts as free."""


@dataclass(frozen=True)
class Tried:
    """A batch size and its images per second; None where the memory does not hold it."""

    batch_size: int
    rate: float | None


def sizes(images: int, group: int = 0) -> list[int]:
    """The batch sizes to be tried, ascending: doubling, and whole groups where batch normalisation sees groups.

    The smallest is 16, or less where an epoch would have fewer than two steps: a power of two.
    """
    smallest = min(_SMALLEST, 1 << max(1, images // STEPS).bit_length() - 1)
    group = group if 0 < group <= images else 1  # a batch of fewer images is one group
    found = [group * max(1, smallest // group)]
    while 2 * found[-1] <= images // LEAST_STEPS:
        found.append(2 * found[-1])
    return found


def sensible(tried: Sequence[Tried]) -> int:
    """The largest batch in which an image is at least GAIN times cheaper than in every smaller one preferred before.

    Raises:
        OutOfMemory: not even the smallest fits.
    """
    best: Tried | None = None
    for one in tried:
        if one.rate is not None and (best is None or best.rate is None or one.rate >= GAIN * best.rate):
            best = one
    if best is None:
        what = f"out of memory with the smallest batch that was tried, of {tried[0].batch_size}"
        raise OutOfMemory(what, "--batch-size auto", "choose a smaller network or smaller images")
    return best.batch_size


def choose_batch(
    recipe: Recipe,
    data: tuple[Dataset, Division],
    spec: NetworkSpec,
    compute: Compute,
    heed: Callable[[], None],
    own: int,
    constants: Preprocessing,
) -> tuple[int, str, list[Facts]]:
    """The batch size, why, and all that was tried; it ends where memory does, or where nothing is gained twice.

    Args:
        own: the batch for which the recipe has its rate.
        constants: of the training images.
    """
    dataset, division = data
    trial = Trial(recipe, spec, compute, dataset, division, constants)
    tried: list[Tried] = []
    base, peak = _peak(), _peak()
    for size in sizes(len(division.training), spec.norm_group):
        free = _free()
        if tried and free is not None and peak - base > _ROOM * free:  # it would take as much again
            tried.append(Tried(size, None))
            break
        rate = _rate(trial, size, heed)
        peak = _peak()
        tried.append(Tried(size, rate))
        if rate is None or _in_vain(tried):
            break
    size = sensible(tried)
    told = ", ".join(f"{one.batch_size:,}: {f'{one.rate:,.0f}' if one.rate else 'no memory'}" for one in tried)
    why = f"images/s in batches of {told}; {_rule(recipe, own, size)}"
    return size, why, [{"batch_size": one.batch_size, "images_per_second": one.rate} for one in tried]


def _rate(trial: Trial, size: int, heed: Callable[[], None]) -> float | None:
    """Images per second in batches of one size; None where they do not fit."""
    device = trial.compute.torch_device
    try:
        seconds, _ = trial.step_seconds(trial.batches(None, size), _SECONDS, heed, halving=False)
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        seconds = None
    gc.collect()
    if device.type == "cuda":
        full = torch.cuda.max_memory_reserved(device) > 0.9 * torch.cuda.get_device_properties(device).total_memory
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        seconds = None if full else seconds
    return None if seconds is None else size / seconds


def _in_vain(tried: Sequence[Tried]) -> bool:
    """Whether the last two sizes have both gained nothing worth their memory."""
    return len(tried) > 2 and sensible(tried) not in (tried[-1].batch_size, tried[-2].batch_size)


def _rule(recipe: Recipe, own: int, size: int) -> str:
    """What happens to the learning rate: nothing; and what the linear rule would have (Goyal et al. 2017)."""
    name = "peak" if isinstance(recipe.schedule, OneCycle) else "rate"
    rate = getattr(recipe.schedule, name)
    if size == own:
        return "that is the recipe's own"
    scaled = f"--set schedule.{name}={rate * size / own:.4g}"
    return f"the learning rate stays as it is for {own:,}; by the linear rule (Goyal 2017) add {scaled}"


def _peak() -> int:
    """Bytes of memory this process has had at most; 0 where the system does not say."""
    if sys.platform == "win32":
        this = ctypes.c_void_p(-1)  # PROCESS_MEMORY_COUNTERS, whose last number is PeakPagefileUsage
        return _of_windows(9, lambda kernel, place: kernel.K32GetProcessMemoryInfo(this, place, 72))[8]
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used << 10


def _free() -> int | None:
    """Bytes that this process may still take, by the kernel's estimate and its control group; None if unknown."""
    if sys.platform == "win32":
        # MEMORYSTATUSEX, whose ullAvailPhys this is
        return _of_windows(8, lambda kernel, place: kernel.GlobalMemoryStatusEx(place))[2] or None
    if sys.platform == "darwin":  # which tells no estimate, and would rather swap than refuse
        return max(0, int(_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) - _peak())
    found: list[int] = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) << 10)
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text().strip()
        if most != "max":
            found.append(int(most) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # another system, or one without control groups
    return min(found) if found else None


def _of_windows(count: int, fill: Callable[[Any, Any], int]) -> list[int]:
    """What kernel32 fills in, as numbers of 64 bits of which the first says their length; zeros where it fails."""
    if sys.platform != "win32":
        return [0] * count
    found = (ctypes.c_ulonglong * count)(8 * count)
    return list(found) if fill(ctypes.windll.kernel32, ctypes.byref(found)) else [0] * count
