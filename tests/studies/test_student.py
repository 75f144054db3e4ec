"""Student's distribution against scipy's, intervals against their definition, ranks against scipy's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residual.studies.findings import differences, judged, ranked
from residual.studies.student import binomial_error, mean_of, ranks, reach, spearman, student_cdf, student_quantile

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30])
def test_the_distribution_and_its_inverse_are_scipys(freedom: int) -> None:
    for t in (-7.3, -1.0, 0.0, 0.4, 2.5, 31.0):
        assert student_cdf(t, freedom) == pytest.approx(stats.t.cdf(t, freedom), abs=1e-12)
    for share in (0.5, 0.9, 0.975, 0.995, 1 - 0.05 / 14):
        assert student_quantile(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-8, abs=1e-9)


def test_an_interval_is_wider_the_more_is_compared_and_absent_for_one_value() -> None:
    values = [0.61, 0.64, 0.60]
    alone, among = mean_of(values), mean_of(values, comparisons=7)
    assert alone.interval == pytest.approx(stats.t.interval(0.95, 2, stats.tmean(values), stats.sem(values)))
    assert among.interval == pytest.approx(stats.t.interval(1 - 0.05 / 7, 2, stats.tmean(values), stats.sem(values)))
    assert mean_of([0.6]).interval is None
    assert mean_of([0.6, 0.6]).interval == (0.6, 0.6)


def test_an_interval_is_no_narrower_than_what_is_known_beforehand() -> None:
    level = mean_of([0.1, 0.1, 0.1], comparisons=2, least=0.02)
    assert level.interval == pytest.approx(stats.norm.interval(1 - 0.05 / 2, 0.1, 0.02))
    assert level.widened
    far = [0.1, 0.3, 0.6]
    assert mean_of(far, least=0.02) == mean_of(far), "what varies more is as wide as it is"
    assert binomial_error((0.5, 0.5), 10_000) == pytest.approx((2 * 0.25 / 10_000) ** 0.5, rel=1e-3)
    assert binomial_error((1.0, 1.0), 100) > 0, "all right is not certainly all right"


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=3, max_size=12))
def test_ranks_share_ties_and_spearman_is_theirs(pairs: list[tuple[int, float]]) -> None:
    first, second = [float(a) for a, _ in pairs], [b for _, b in pairs]
    assert ranks(first) == list(stats.rankdata(first))
    found = spearman(first, second)
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)


def table(**arms: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"arm": arm, "search": s, "top1": top} for arm, tops in arms.items() for s, top in enumerate(tops)]


def test_equal_differences_are_no_verdict_below_what_the_test_images_allow() -> None:
    rows = table(default=(0.90, 0.91, 0.92), ga=(0.91, 0.92, 0.93))
    (few,) = differences(rows, ["default", "ga"], images=360)
    assert few["verdict"].startswith("ga against the default recipe: no difference was shown (+1.00 points")
    assert "no narrower than 1,080 predictions of test images a side allow" in few["verdict"]
    (many,) = differences(rows, ["default", "ga"], images=10_000, fresh=3)
    assert "ga is better than the default recipe" in many["verdict"]
    (two,) = differences(rows[:2] + rows[3:5], ["default", "ga"], images=10_000, fresh=3)
    assert "no verdict below 3" in two["verdict"]


def test_a_search_that_failed_whole_counts_as_chance_and_is_paired() -> None:
    assert [judged([], None, 10)[name] for name in ("top1", "top5", "validation_top1", "optimism", "fresh")] == [
        *(0.1, 0.5, 0.1, None, []),
    ]
    assert judged([], None, None)["top1"] is None, "where nothing was trained that knows the classes"
    (one,) = differences(table(default=(0.9, 0.9, 0.9), ga=(0.92, 0.92, 0.1)), ["default", "ga"], images=10_000)
    assert one["mean"] == pytest.approx((0.02 + 0.02 - 0.8) / 3)


def test_failures_are_counted_beside_the_ranks_and_not_as_ranks() -> None:
    trained = [(0.1, 0.5), (0.2, 0.4), (0.3, 0.6), (0.4, 0.3)]
    pairs: list[tuple[float | None, float | None]] = [*trained, (None, None), (None, None), (None, 0.7)]
    found = ranked([{"short": short, "long": long} for short, long in pairs])
    assert found["spearman"] == pytest.approx(stats.spearmanr(*zip(*trained, strict=True)).statistic)
    assert (found["pairs"], found["failed"]) == (4, {"short": 3, "long": 2})
    assert "over the 4 of 7 that both trained; 3 failed in the short training, 2 in the long one" in found["words"]
    assert ranked([{"short": 0.1, "long": None}] * 3)["spearman"] is None


def test_a_proxy_that_never_comes_near_the_default_says_so():
    rows = [{"short": share, "long": share + 0.1} for share in (0.3, 0.4, 0.5)]
    assert "0 of 3 reach the 65.0%" in ranked(rows, [0.64, 0.66])["words"]
    assert "not the best from each other" in ranked(rows, [0.64, 0.66])["words"]
    assert "2 of 3 reach the 40.0%" in ranked(rows, [0.4])["words"]
    assert "not the best" not in ranked(rows, [0.4])["words"]


def test_few_searches_reach_far():
    assert reach(3, 7) == pytest.approx(6.8, abs=0.05)
    assert reach(3) == pytest.approx(4.303 / 3**0.5, abs=0.001), "Student's t of two degrees of freedom"
