"""The operators: what each must do to every individual, and the distributions of their sources."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from residual.chance import stream
from residual.tuning.genetic import (
    Scored,
    apart,
    blend,
    cut_places,
    fittest,
    gaussian,
    identity,
    initialise,
    rank,
    reflect,
    reinitialise,
    simulated_binary,
    single_point,
    spread_factor,
    tournament,
    uniform_crossover,
)
from residual.tuning.space import Gene, Genes, Space

SPACE = Space(
    "mixed",
    (
        Gene("a", "log", 1e-4, 1.0),
        Gene("b", "linear", -2.0, 5.0),
        Gene("c", "int", 3, 9),
        Gene("d", "choice", choices=("x", "y", "z")),
        Gene("e", "int-log", 1, 64),
    ),
)
LINE = Space("line", (Gene("u", "linear", 0.0, 1.0),))
MANY = 4000
SEEDS = st.integers(0, 2**40)


def at(n: int) -> Generator:
    return stream(5, "test", n)


def draws(operator: Callable[[Generator], Genes]) -> list[float]:
    return sorted(float(operator(at(n))[0]) for n in range(MANY))


def far(values: list[float], cumulative: Callable[[float], float]) -> float:
    """Kolmogorov's distance between sorted draws and a distribution."""
    return max(
        max(abs((n + 1) / len(values) - cumulative(x)), abs(n / len(values) - cumulative(x)))
        for n, x in enumerate(values)
    )


LIMIT = 1.95 / math.sqrt(MANY)  # exceeded by chance once in a thousand


@given(SEEDS)
def test_children_stay_in_the_space_and_repeat(seed: int) -> None:
    a, b = initialise(SPACE, stream(seed, 0)), initialise(SPACE, stream(seed, 1))
    operators: list[Callable[[Generator], Genes]] = [
        lambda g: initialise(SPACE, g),
        lambda g: reinitialise(SPACE, a, 0.5, g),
        lambda g: blend(SPACE, a, b, 1.5, g),
        lambda g: simulated_binary(SPACE, a, b, 1.0, g),
        lambda g: gaussian(SPACE, a, 1.0, 0.8, g),
        lambda g: uniform_crossover(a, b, g),
    ]
    for operator in operators:
        child = operator(stream(seed, 2))
        assert SPACE.holds(child)
        assert child == operator(stream(seed, 2))


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=12), st.integers(0, 12))
def test_the_fittest_are_fitter_than_the_rest_and_never_failures(values: list[float | None], count: int) -> None:
    population = [Scored((n,), value) for n, value in enumerate(values)]
    chosen = fittest(population, count)
    able = [value for value in values if value is not None]
    assert len(chosen) == min(count, len(able))
    assert sorted((values[n] or 0.0 for n in chosen), reverse=True) == sorted(able, reverse=True)[: len(chosen)]
    order = rank(population)
    assert sorted(order) == list(range(len(values)))
    for first, second in pairwise(order):
        a, b = values[first], values[second]
        assert b is None or (a is not None and (a > b or (a == b and first < second)))


@given(SEEDS, st.floats(0, 1))
def test_reinitialisation_draws_a_gene_anew_exactly_past_the_threshold(seed: int, threshold: float) -> None:
    genes = initialise(SPACE, stream(seed, 0))
    never = reinitialise(SPACE, genes, 1.0, stream(seed, 1))
    always = reinitialise(SPACE, genes, -1.0, stream(seed, 1))
    child = reinitialise(SPACE, genes, threshold, stream(seed, 1))
    assert never == genes
    assert all(value in (old, new) for value, old, new in zip(child, genes, always, strict=True))


def test_reinitialisation_changes_the_share_past_the_threshold_and_draws_uniformly() -> None:
    changed = [value for n in range(MANY) if (value := float(reinitialise(LINE, (2.0,), 0.7, at(n))[0])) != 2.0]
    assert len(changed) / MANY == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / MANY))
    assert far(sorted(changed), lambda x: x) < 1.95 / math.sqrt(len(changed))


def test_initialisation_is_uniform() -> None:
    assert far(draws(lambda g: initialise(LINE, g)), lambda x: x) < LIMIT


def test_cuts_with_three_genes_have_two_middles() -> None:
    assert cut_places(3, "middle") == [1, 2]
    assert cut_places(4, "middle") == [2]
    assert cut_places(2, "middle") == [1]
    assert cut_places(4, "any") == [1, 2, 3]
    assert cut_places(3, 2) == [2]
    assert cut_places(3, 3) == []
    assert cut_places(1, "any") == []
    assert single_point((1, 2, 3), (4, 5, 6), 1) == (1, 5, 6)


def test_blx_is_uniform_between_the_parents_and_alpha_beyond() -> None:
    values = draws(lambda g: blend(LINE, (0.4,), (0.6,), 0.5, g))
    assert far(values, lambda x: min(1, max(0, (x - 0.3) / 0.4))) < LIMIT


def test_sbx_spreads_as_its_source_says_and_keeps_the_mean() -> None:
    eta, half = 3.0, 0.02
    betas = sorted(
        abs(value - 0.5) / half for value in draws(lambda g: simulated_binary(LINE, (0.48,), (0.52,), eta, g))
    )

    def cumulative(beta: float) -> float:  # integral of Deb and Agrawal's density, eq. 7 and 8
        return 0.5 * beta ** (eta + 1) if beta <= 1 else 1 - 0.5 * beta ** -(eta + 1)

    assert far(betas, cumulative) < LIMIT
    values = draws(lambda g: simulated_binary(LINE, (0.48,), (0.52,), eta, g))
    assert statistics.fmean(values) == pytest.approx(0.5, abs=0.003)
    assert spread_factor(0.5, eta) == 1


def test_gaussian_mutation_has_its_share_mean_and_spread() -> None:
    moves = [float(gaussian(LINE, (0.5,), 0.25, 0.05, at(n))[0]) - 0.5 for n in range(MANY)]
    moved = sorted(move for move in moves if move)
    assert len(moved) / MANY == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / MANY))
    assert far(moved, lambda x: statistics.NormalDist(0, 0.05).cdf(x)) < 1.95 / math.sqrt(len(moved))


@given(SEEDS, SEEDS)
def test_a_gene_on_a_grid_moves_to_the_next_value_at_least(parent: int, seed: int) -> None:
    grids = Space("grids", (Gene("n", "int", 1, 3), Gene("m", "int-log", 1, 4), Gene("s", "linear", 0, 1, (), 0.5)))
    genes = initialise(grids, at(parent))
    moved = gaussian(grids, genes, 1.0, 0.01, at(seed), whole=True)
    assert all(a != b and type(a) is type(b) for a, b in zip(genes, moved, strict=True))
    assert grids.holds(moved)
    assert gaussian(grids, genes, 0.0, 0.01, at(seed), whole=True) == genes
    lone = Space("lone", (Gene("s", "linear", 0, 1, (), 2.0),))
    assert gaussian(lone, (0.0,), 1.0, 0.5, at(seed), whole=True) == (0.0,), "there is no other"


@given(SEEDS, SEEDS)
def test_a_twin_is_moved_until_it_is_none(parent: int, seed: int) -> None:
    genes = initialise(SPACE, at(parent))
    known = {identity(genes)}
    for _ in range(3):
        child = apart(SPACE, genes, known, 0.1, at(seed))
        assert identity(child) not in known
        assert SPACE.holds(child)
        known.add(identity(child))
    assert apart(SPACE, genes, set(), 0.1, at(seed)) == genes


def test_where_every_individual_is_there_a_twin_stays() -> None:
    small = Space("small", (Gene("d", "choice", choices=(1, 1.0, True)), Gene("n", "int", 1, 2)))
    every = {identity((d, n)) for d in (1, 1.0, True) for n in (1, 2)}
    assert len(every) == 6, "1, 1.0 and true are three"
    assert apart(small, (1, 2), every, 0.1, at(0)) == (1, 2)
    free = identity((True, 1))
    assert identity(apart(small, (1, 2), every - {free}, 0.1, at(0))) == free


@given(st.floats(-50, 50))
def test_reflection_ends_inside_and_leaves_the_inside_alone(place: float) -> None:
    assert 0 <= reflect(place) <= 1
    assert reflect(place) == place or not 0 <= place <= 1


def test_a_tournament_is_won_as_often_as_it_must_be() -> None:
    population = [Scored((n,), fitness) for n, fitness in enumerate([0.1, None, 0.4, 0.3, 0.2])]
    winners = [tournament(population, 2, at(n)) for n in range(MANY)]
    shares = [winners.count(place) / MANY for place in range(5)]
    # With k able individuals the r-th from below wins two draws in (2r - 1) of k^2.
    assert shares == pytest.approx([1 / 16, 0, 7 / 16, 5 / 16, 3 / 16], abs=4 * math.sqrt(0.25 / MANY))
    assert tournament([Scored((1,), None)], 3, at(0)) == 0
