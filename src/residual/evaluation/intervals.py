"""How sure a count is, and whether two classifiers differ: intervals of shares, comparison of paired answers.

Shares in [0, 1]. Sources: Wilson 1927 (the score interval); McNemar 1947 (only the images that one of two classifiers
answers rightly count); Fagerland, Lydersen and Laake 2013 (exact and mid-p); Agresti and Min 2005 (interval of the
difference of paired shares: half an image added to each of the four cells).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from math import sqrt
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

CONFIDENCE = 0.95
WILSON = "Wilson score, 95 %"
AGRESTI_MIN = "Agresti and Min, 95 %"

Interval = tuple[float, float]


def wilson(hits: int, images: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a share of which `hits` of `images` were counted; of no images, all shares.

    The images are taken as drawn at random: how the training of the network would vary is no part of it.
    """
    if not images:
        return 0.0, 1.0
    z = _quantile(confidence)
    share = hits / images
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    # At the ends the formula gives 0 and 1 but for the last bits.
    return (max(0.0, middle - half) if hits else 0.0), (min(1.0, middle + half) if hits < images else 1.0)


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


@dataclass(frozen=True)
class Paired:
    """Two classifiers, `first` and `second`, on the same images.

    `only_first` images are answered rightly by the first alone, `only_second` by the second alone. `difference` is the
    share of right answers of the second less that of the first, with its interval; `exact` and `mid_p` are the
    two-sided p-values of McNemar's test.
    """

    first: str
    second: str
    images: int
    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    interval: Interval
    exact: float
    mid_p: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"interval_method": AGRESTI_MIN, "test": "McNemar"}


def compare(first: str, right_first_N: Tensor, second: str, right_second_N: Tensor) -> Paired:
    """The comparison of two classifiers, from what each answered rightly (bool N, image by image)."""
    counts = torch.bincount(2 * right_first_N.long() + right_second_N.long(), minlength=4).tolist()
    neither, only_second, only_first, both = counts
    exact, mid_p = mcnemar(only_first, only_second)
    images = sum(counts)
    return Paired(
        first,
        second,
        images,
        both,
        only_first,
        only_second,
        neither,
        (only_second - only_first) / images if images else 0.0,
        difference_interval(only_first, only_second, images),
        exact,
        mid_p,
    )


def mcnemar(only_first: int, only_second: int) -> tuple[float, float]:
    """The exact and the mid-p value, two-sided: how likely so uneven a division of the discordant images is by chance.

    Counted in whole numbers: the tail of a binomial of share 1/2, twice; mid-p counts what is seen, on either side, by
    half (Fagerland et al. 2013), once where both sides are one: of 5 and 5 the exact value is 1, mid-p .88.
    """
    count, least = only_first + only_second, min(only_first, only_second)
    term = tail = 1
    for k in range(least):
        term = term * (count - k) // (k + 1)
        tail += term
    exact = Fraction(2 * tail, 1 << count)
    seen = Fraction(term, 1 << count)
    mid_p = exact - seen if only_first != only_second else 1 - seen / 2 if count else Fraction(1)
    return min(1.0, float(exact)), float(mid_p)


def difference_interval(only_first: int, only_second: int, images: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the second share less the first."""
    z = _quantile(confidence)
    first, second, total = only_first + 0.5, only_second + 0.5, images + 2
    difference = (second - first) / total
    half = z * sqrt(first + second - (second - first) ** 2 / total) / total
    return max(-1.0, difference - half), min(1.0, difference + half)
