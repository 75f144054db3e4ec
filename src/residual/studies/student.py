"""Means of a few values and how sure they are: Student's t, with and without regard to how many are compared.

The distribution function in closed form for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4),
its inverse by halving; errors below 1e-9. Simultaneous intervals after Bonferroni: with m comparisons each has the
confidence 1 - 0.05 / m, so that all of them hold together with at least 95 %.

A few values that lie closer together than images let them (two that are equal have the deviation 0) say less of their
spread than they seem to: an interval is no narrower than that of a standard error known beforehand.
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
    """The mean of values with its interval; deviation and interval are None for a single value.

    `widened` says that the interval is that of the error known beforehand, since the values lay closer together.
    """

    values: tuple[float, ...]
    mean: float
    std: float | None
    interval: tuple[float, float] | None
    confidence: float
    widened: bool = False

    def as_dict(self) -> Facts:
        return asdict(self)


def binomial_error(shares: Sequence[float], predictions: int) -> float:
    """The standard error of a share, or of the difference of two, each of so many predictions, were each its own toss.

    A success and a failure are added to each, lest shares of 0 and 1 be held to be certain (Agresti and Coull 1998).
    """
    moved = [(share * predictions + 1) / (predictions + 2) for share in shares]
    return math.sqrt(sum(share * (1 - share) for share in moved) / predictions)


def reach(count: int, comparisons: int = 1) -> float:
    """How many of their standard deviations the interval of a mean of `count` values (2 or more) reaches to each side.

    Args:
        comparisons: with so many intervals in all it is simultaneous (Bonferroni).
    """
    return student_quantile(1 - (1 - CONFIDENCE) / comparisons / 2, count - 1) / math.sqrt(count)


def mean_of(values: Sequence[float], comparisons: int = 1, least: float = 0.0) -> Mean:
    """The mean with its 95 % interval, simultaneous with those of `comparisons` in all.

    Args:
        least: a standard error known beforehand; the interval is no narrower than it makes a normal one.
    """
    mean, confidence = statistics.fmean(values), 1 - (1 - CONFIDENCE) / comparisons
    if len(values) < 2:
        return Mean(tuple(values), mean, None, None, confidence)
    std = statistics.stdev(values)
    half = reach(len(values), comparisons) * std
    known = statistics.NormalDist().inv_cdf(0.5 + confidence / 2) * least
    return Mean(tuple(values), mean, std, (mean - max(half, known), mean + max(half, known)), confidence, half < known)


def paired(differences: Sequence[float]) -> Facts:
    """Of differences seed by seed: mean, 95 % interval, which one seed has not, and the values."""
    found = mean_of(differences)
    low, high = found.interval or (None, None)
    return {"mean": found.mean, "low": low, "high": high, "values": list(differences)}


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, equal values sharing their mean rank."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) + 1) / 2 for value in values]


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation of ranks (Spearman 1904); None where one of them does not vary."""
    a, b = ranks(first), ranks(second)
    return None if len(set(a)) < 2 or len(set(b)) < 2 else statistics.correlation(a, b)
