"""Intervals that cover as they should, and McNemar's test against the counting of every outcome."""

from __future__ import annotations

from itertools import product
from math import comb, sqrt

import pytest
import torch

from residual.chance import stream
from residual.evaluation.intervals import compare, difference_interval, mcnemar, wilson


@pytest.mark.parametrize(
    ("hits", "images", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_published_intervals(hits, images, low, high):
    assert wilson(hits, images) == pytest.approx((low, high), abs=5e-5)
    assert wilson(images - hits, images) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def exact_coverage(share, images):
    """The chance that the interval of a binomial count holds the share it was drawn with, summed over all counts."""
    total = 0.0
    for hits in range(images + 1):
        low, high = wilson(hits, images)
        if low <= share <= high:
            total += comb(images, hits) * share**hits * (1 - share) ** (images - hits)
    return total


@pytest.mark.parametrize("images", [20, 100])
def test_the_interval_covers_as_it_should(images):
    covered = [exact_coverage(k / 200, images) for k in range(1, 200)]
    assert 0.945 < sum(covered) / len(covered) < 0.960
    assert min(covered) > 0.83  # the known dip near shares of 0 and 1 (Brown, Cai and DasGupta 2001, figure 5)
    inner = [exact_coverage(k / 200, images) for k in range(40, 161)]
    assert min(inner) > 0.91


def test_simulated_counts_are_covered_as_often_as_the_exact_sum_says():
    draws, images, share = 4000, 100, 0.93
    counts = (torch.rand(draws, images, generator=stream(0, "coverage")) < share).sum(1).tolist()
    covered = sum(low <= share <= high for low, high in (wilson(hits, images) for hits in counts)) / draws
    expected = exact_coverage(share, images)
    assert abs(covered - expected) < 4 * sqrt(expected * (1 - expected) / draws)


def test_no_images_say_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(7, 7)[1] == 1.0
    assert wilson(0, 7)[0] == 0.0


@pytest.mark.parametrize("count", range(9))
def test_mcnemar_counts_every_outcome(count):
    outcomes = [sum(one) for one in product((0, 1), repeat=count)]
    for first in range(count + 1):
        least = min(first, count - first)
        tail = sum(k <= least for k in outcomes) / len(outcomes)
        exact, mid_p = mcnemar(first, count - first)
        assert exact == pytest.approx(min(1, 2 * tail), abs=1e-15)
        seen = sum(abs(k - count / 2) == abs(first - count / 2) for k in outcomes) / len(outcomes)
        beyond = sum(abs(k - count / 2) > abs(first - count / 2) for k in outcomes) / len(outcomes)
        assert mid_p == pytest.approx(beyond + seen / 2 if count else 1.0, abs=1e-15)
        assert mid_p <= exact
        assert mcnemar(count - first, first) == (exact, mid_p)


def test_mcnemar_of_many_images_is_no_wonder():
    exact, mid_p = mcnemar(10_000, 10_400)
    chi = (abs(10_400 - 10_000) - 1) ** 2 / 20_400  # McNemar's own approximation
    normal = 2 * (1 - 0.5 * (1 + torch.erf(torch.tensor(sqrt(chi / 2), dtype=torch.float64)).item()))
    assert exact == pytest.approx(normal, rel=1e-3)
    assert mid_p < exact


def test_a_difference_is_covered_as_it_should_be():
    draws, images = 3000, 150
    shares = torch.tensor([0.80, 0.04, 0.09, 0.07])  # both, only first, only second, neither
    cells = torch.multinomial(shares, draws * images, replacement=True, generator=stream(1, "paired"))
    counts = [(cells.view(draws, images) == cell).sum(1).tolist() for cell in (1, 2)]
    found = [difference_interval(first, second, images) for first, second in zip(*counts, strict=True)]
    covered = sum(low <= 0.05 <= high for low, high in found) / draws
    assert 0.935 < covered < 0.97


def test_two_classifiers_are_counted_image_by_image():
    first = torch.tensor([True, True, False, False, True, False])
    second = torch.tensor([True, False, True, True, True, False])
    found = compare("a", first, "b", second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (2, 1, 2, 1)
    assert found.images == 6
    assert found.difference == pytest.approx(1 / 6)
    assert found.interval[0] < found.difference < found.interval[1]
    assert (found.exact, found.mid_p) == mcnemar(1, 2)
    assert found.as_dict()["test"] == "McNemar"
