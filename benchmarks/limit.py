"""What the machine can do: large matrix products in GFLOP/s, and the memory a process has used.

A product of two matrices of side n takes 2 n^3 floating point operations. Sizes are in bytes.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import torch

SIDE = 4096
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def product(dtype: torch.dtype, side: int = SIDE, repeats: int = 3) -> float:
    """GFLOP/s of a product of square matrices, the best of `repeats`; all threads of torch."""
    one, other = (torch.full((side, side), value, dtype=dtype) for value in (0.5, 0.25))
    torch.mm(one, other)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(one, other)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds) / 1e9


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
