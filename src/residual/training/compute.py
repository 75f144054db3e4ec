"""Device, precision, layout and threads: chosen once at the start, said aloud, stored, used on resume.

bfloat16 autocast is chosen on a GPU that has it, and on a CPU where a measured convolution, forward and backward, gains
by it; on a GPU without bfloat16, float16 with a scaled loss. Weights, momentum, statistics of batch normalisation and
the loss stay float32.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from residual.device import choose_device, devices, forked, keep_float32
from residual.environment import processors
from residual.errors import EnvironmentFault, log
from residual.training.recipe import ComputeSettings

Precision = Literal["float32", "bfloat16", "float16"]
_GAIN = 1.1
_FEW, _CLEAR = 4, (0.7, 1.7)
_EMULATED = 0.3
_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """What a run computes with."""

    device: str
    precision: Precision
    layout: Literal["channels-last", "contiguous"]
    threads: int
    deterministic: bool
    compile: bool = False

    def facts(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def torch_device(self) -> torch.device:
        return torch.device(self.device)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.layout == "channels-last" else torch.contiguous_format

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.precision == "float32":
            return nullcontext()
        half = torch.bfloat16 if self.precision == "bfloat16" else torch.float16
        return torch.autocast(self.torch_device.type, dtype=half)

    def prepare(self) -> None:
        """Give torch the threads and the determinism of the run; call it before the first tensor moves."""
        _refuse_threads_in_fork(self.threads)
        device = self.torch_device
        if device.type == "cpu":
            keep_memory()
        if device.type == "cuda":
            if self.deterministic:
                set_workspace()
                _refuse_workspace()
            keep_float32()
            torch.cuda.set_device(device)  # autocast and others ask the current one what it can do
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        if self.deterministic:
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False


def set_workspace() -> None:
    """Read by CUDA when it starts, so it must stand before the first call that does."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _refuse_workspace() -> None:
    if os.environ["CUBLAS_WORKSPACE_CONFIG"] not in (":4096:8", ":16:8"):
        what = "CUBLAS_WORKSPACE_CONFIG allows results that vary"
        raise EnvironmentFault(what, "compute.deterministic", "set it to :4096:8")


_NO_HALVES: Final = re.compile(r"\b(GTX 16[356]0|T[456]00|T550|T1000|T1200|T2000|MX[45]50)\b")
"""Turing GPUs without tensor cores, whose convolutions in float16 are not finite (PyTorch's issue 77955); a trial of
few images does not show it."""


def has_bfloat16(device: torch.device) -> bool:
    """Whether this very GPU computes with it: torch asks the current one."""
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def refuse_without_bfloat16(compute: Compute, remedy: str) -> None:
    """See that a GPU has the precision of the run.

    Raises:
        EnvironmentFault: it has not.
    """
    device = compute.torch_device
    if compute.precision == "bfloat16" and device.type == "cuda" and not has_bfloat16(device):
        raise EnvironmentFault(f"this GPU ({device}) has no bfloat16", "compute.precision", remedy)


def keep_memory() -> None:
    """Have glibc keep the memory of large tensors between steps, where it would give it back and fault it in again."""
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return  # another allocator, or one that the user has set up
    with suppress(OSError, AttributeError):  # musl has no mallopt
        libc = ctypes.CDLL("libc.so.6")
        for option, value in ((-3, 1 << 25), (-1, (1 << 31) - 1), (-2, 1 << 26)):  # mmap, trim, top pad; malloc.h
            libc.mallopt(option, value)


@cache
def _gain(device: torch.device, threads: int, half: torch.dtype = torch.bfloat16, rounds: int = 12) -> float:
    """How many times faster half precision is than float32: alternating passes, the best of each.

    Where the answer is clear after a few rounds, there are no more. A processor without bfloat16 emulates it, ten
    times slower, so that a whole round would take seconds: few images tell. One process measures once for as
    many threads, so the trainings of a study compute alike.
    """
    emulated = _ratio(device, 4, 2, half)
    return emulated if emulated < _EMULATED else _ratio(device, 64, rounds, half)


def _ratio(device: torch.device, count: int, rounds: int, half: torch.dtype) -> float:
    images = torch.zeros(count, 32, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    weights = torch.zeros(32, 32, 3, 3, device=device, requires_grad=True)
    best = {"float32": float("inf"), "half": float("inf")}
    for number in range(1, rounds + 1):
        for precision in best:
            start = time.perf_counter()
            with torch.autocast(device.type, dtype=half, enabled=precision == "half"):
                out: Tensor = images
                for _ in range(2):
                    out = conv2d(out, weights, padding=1)
            out.float().sum().backward()
            best[precision] = min(best[precision], time.perf_counter() - start)
        ratio = best["float32"] / best["half"]
        if number >= _FEW and not _CLEAR[0] < ratio < _CLEAR[1]:
            break
    return ratio


def warn_of_precision(compute: Compute) -> None:
    """Say where a run chose half precision on a machine that gained by it, and goes on on one that does not."""
    if compute.device != "cpu" or compute.precision == "float32":
        return
    gain = _gain(torch.device("cpu"), compute.threads, _HALVES[compute.precision])
    if gain < 1:
        words = "%s is %.1f times as fast as float32 on this CPU; add --set compute.precision=float32 --override"
        log.warning(words, compute.precision, gain)


def choose_precision(device: torch.device) -> tuple[Precision, str]:
    """The precision that is quicker on this device, and why."""
    if device.type == "cuda":
        if has_bfloat16(device):
            return "bfloat16", "the GPU supports it"
        if _NO_HALVES.search(torch.cuda.get_device_properties(device).name):
            return "float32", "float16 gives numbers that are none on this kind of GPU"
        return "float16", "the GPU has no bfloat16; the loss is scaled"
    if device.type == "mps":
        return "float32", "bfloat16 is not used on mps"
    ratio = _gain(device, torch.get_num_threads())
    reason = f"bfloat16 measured {ratio:.1f} times as fast as float32"
    return ("bfloat16" if ratio >= _GAIN else "float32"), reason


def _refuse_threads_in_fork(threads: int) -> None:
    if threads > 1 and forked():
        raise EnvironmentFault(
            f"{threads} threads cannot be used in a forked process", "compute.threads", "set it to 1, or spawn"
        )


def choose(settings: ComputeSettings) -> tuple[Compute, dict[str, str]]:
    """What `auto` comes to on this machine, with the reason for each choice.

    Raises:
        EnvironmentFault: the device asked for is not there, or cannot do what is asked of it.
    """
    if settings.deterministic:
        set_workspace()
    device = choose_device(settings.device)
    on_gpu = device.startswith("cuda")
    reasons = {"device": "asked for" if settings.device != "auto" else f"this machine has {', '.join(devices())}"}
    if settings.deterministic and on_gpu:
        _refuse_workspace()
    usual = torch.get_num_threads()
    share = usual if "OMP_NUM_THREADS" in os.environ else processors()
    threads = settings.threads or (1 if forked() else min(usual, share))
    reasons["threads"] = "the default of torch" if usual <= share else f"of {usual}, as many as may be used at a time"
    if settings.threads:
        reasons["threads"] = "asked for"
    _refuse_threads_in_fork(threads)
    if settings.layout == "auto":
        layout: Literal["channels-last", "contiguous"] = "contiguous" if device == "mps" else "channels-last"
        reasons["layout"] = "contiguous on mps, else channels-last"
    else:
        layout, reasons["layout"] = settings.layout, "asked for"
    torch.set_num_threads(threads)
    if settings.precision == "auto":
        precision, reasons["precision"] = choose_precision(torch.device(device))
    else:
        precision, reasons["precision"] = settings.precision, "asked for"
        if (
            precision != "float32"
            and device == "cpu"
            and (gain := _gain(torch.device(device), threads, _HALVES[precision])) < 1
        ):
            reasons["precision"] += f"; measured {gain:.1f} times as fast as float32"
        if precision == "float16" and device == "mps":
            raise EnvironmentFault("float16 is not used on mps", "compute.precision", "set it to float32 or auto")
    chosen = Compute(device, precision, layout, threads, settings.deterministic)
    refuse_without_bfloat16(chosen, "set it to float16 or auto")
    return chosen, reasons
