"""Who else computes: the number of this process, how many there are, and the few things they do together.

`Ranks` itself is one process alone, for whom each of these is nothing or its own value. Several processes are
`training/processes.py`, the one file that speaks to others; whoever else needs them is given a `Ranks`.

Every method is called by all processes, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


class Ranks:
    """One process alone: rank 0 of 1. `local` counts on this machine, and chooses the GPU."""

    rank: int = 0
    world: int = 1
    local: int = 0
    direct: bool = True
    """Whether tensors of GPUs travel from one to another, and not by way of the host."""

    def add(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes; the sums are the same everywhere to the last bit."""

    def largest(self, number: int) -> int:
        """The largest of the numbers the processes give."""
        return number

    def first(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, a JSON value, on every rank; elsewhere it is not called."""
        return make()

    def first_files(self, make: Callable[[], Mapping[str, bytes]]) -> Mapping[str, bytes]:
        """As `first`, for files by name."""
        return make()

    def in_turn(self) -> AbstractContextManager[None]:
        """Within, the first process of each machine goes before the others: it fills caches that these then read."""
        return nullcontext()

    def meet(self) -> None:
        """Wait until every process has come here."""

    def moved(self, step: int | None = None) -> None:
        """Give a sign of life between two meetings of the processes, and the step where one was finished."""

    def be_patient(self, seconds: float) -> None:
        """Wait this long for a process that gives no sign of life."""


ALONE = Ranks()


def own_gpu(local: int, count: int) -> int:
    """Which of the GPUs that a process sees it takes: the only one, or that of its number on the machine."""
    return local % count
