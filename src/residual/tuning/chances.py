"""Single draws from a generator at an address: `stream(seed, "tuning", study, generation, child)`."""

from __future__ import annotations

import math

import torch
from torch import Generator


def uniform(generator: Generator) -> float:
    """A draw from [0, 1)."""
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def below(generator: Generator, count: int) -> int:
    """A whole number from 0 to count - 1."""
    return min(count - 1, int(uniform(generator) * count))


def normal(generator: Generator) -> float:
    """A draw from N(0, 1), by Box and Muller 1958: two uniform draws each time, whatever they are."""
    first, second = 1 - uniform(generator), uniform(generator)
    return math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)
