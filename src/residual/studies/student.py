"""Means of a few values and how sure they are: Student's t, with and without regard to how many are compared.

The distribution function in closed form for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4),
its inverse by halving; errors below 1e-9. Simultaneous intervals after Bonferroni: with m comparisons each has the
confidence 1 - 0.05 / m, so that all of them hold together with at least 95 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from residual.files import Facts

CONFIDENCE = 0.95


def student_cdf(t: float, freedom: int) -> float:
    """P(T <= t) of Student's distribution with `freedom` >= 1 degrees of freedom."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    if freedom % 2:
        term = math.cos(angle)
        total = term if freedom > 1 else 0.0
        for n in range(3, freedom - 1, 2):
            term *= square * (n - 1) / n
            total += term
        within = 2 / math.pi * (angle + sine * total)
    else:
        term = total = 1.0
        for n in range(2, freedom - 1, 2):
            term *= square * (n - 1) / n
            total += term
        within = sine * total
    return 0.5 + within / 2


def student_quantile(share: float, freedom: int) -> float:
    """The t with P(T <= t) = share, for a share in [0.5, 1)."""
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < share:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < share else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Mean:
    """The mean of values with its interval; deviation and interval are None for a single value."""

    values: tuple[float, ...]
    mean: float
    std: float | None
    interval: tuple[float, float] | None
    confidence: float

    def as_dict(self) -> Facts:
        return asdict(self)


def mean_of(values: Sequence[float], comparisons: int = 1) -> Mean:
    """The mean with its 95 % interval, simultaneous with those of `comparisons` in all."""
    mean, confidence = statistics.fmean(values), 1 - (1 - CONFIDENCE) / comparisons
    if len(values) < 2:
        return Mean(tuple(values), mean, None, None, confidence)
    std = statistics.stdev(values)
    half = student_quantile(0.5 + confidence / 2, len(values) - 1) * std / math.sqrt(len(values))
    return Mean(tuple(values), mean, std, (mean - half, mean + half), confidence)


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing their mean rank."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation of ranks (Spearman 1904); None where one of them does not vary."""
    a, b = ranks(first), ranks(second)
    return None if len(set(a)) < 2 or len(set(b)) < 2 else statistics.correlation(a, b)
