"""What the machine can do: large matrix products in GFLOP/s, and the memory a process has used.

A product of two matrices of side n takes 2 n^3 floating point operations. Sizes are in bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

SIDES: tuple[int, ...] = (1024, 2048, 4096)
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def product(dtype: torch.dtype, sides: Sequence[int] = SIDES, repeats: int = 3) -> float:
    """GFLOP/s of a product of square matrices, the best of all sides, ways and repeats; all threads of torch.

    The ways are torch.mm and a convolution of 1 x 1, the same product: torch gives them to different libraries, of
    which one may know the processor better. A limit is what the best of them reaches.
    """
    best = 0.0
    with torch.inference_mode():
        for side in sides:
            one, other = (torch.full((side, side), value, dtype=dtype) for value in (0.5, 0.25))
            pixels, kernel = one.view(1, 1, side, side).permute(0, 3, 1, 2), other.view(side, side, 1, 1)
            ways = (partial(torch.mm, one, other), partial(torch.nn.functional.conv2d, pixels, kernel))
            for way in ways:
                way()
                for _ in range(repeats):
                    start = time.perf_counter()
                    way()
                    best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def _read(name: str) -> int | None:
    with suppress(OSError, ValueError):  # Linux alone has it
        for line in _STATUS.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) << 10
    return None


class Memory:
    """The most that this process holds from here on, above what it holds now; None where the system does not tell."""

    def __init__(self) -> None:
        with suppress(OSError):
            _RESET.write_text("5")  # the high-water mark begins anew (proc(5))
        self.before = _read("VmRSS")

    def peak(self) -> int | None:
        most = _read("VmHWM")
        return None if most is None or self.before is None else max(0, most - self.before)
