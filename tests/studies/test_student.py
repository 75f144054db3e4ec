"""Student's distribution against scipy's, intervals against their definition, ranks against scipy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residual.studies.student import mean_of, ranks, spearman, student_cdf, student_quantile

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


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), min_size=3, max_size=12))
def test_ranks_share_ties_and_spearman_is_theirs(pairs: list[tuple[int, float]]) -> None:
    first, second = [float(a) for a, _ in pairs], [b for _, b in pairs]
    assert ranks(first) == list(stats.rankdata(first))
    found = spearman(first, second)
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
