"""The algorithms: the seed's against a trace worked by hand, ours and the seed's against random search."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from residual.chance import stream
from residual.errors import UsageError
from residual.tuning.algorithms import (
    Algorithm,
    Borrowed,
    Child,
    Ga,
    Ga001,
    RandomSearch,
    begin,
    make_algorithm,
    misfit,
)
from residual.tuning.chances import uniform
from residual.tuning.genetic import Scored
from residual.tuning.space import Gene, Space
from residual.tuning.study import Wish, algorithm_of, begin_facts, unlike

SPACE = Space("three", tuple(Gene(name, "linear", 0.0, 1.0) for name in "abc"))
POPULATION = [
    Scored((0.1, 0.2, 0.3), 0.5),
    Scored((0.4, 0.5, 0.6), None),
    Scored((0.7, 0.8, 0.9), 0.9),
    Scored((0.15, 0.25, 0.35), 0.6),
    Scored((0.45, 0.55, 0.65), 0.7),
    Scored((0.75, 0.85, 0.95), 0.4),
]


def chance(place: int) -> Generator:
    return stream(0, "tuning", "pencil", 1, place)


def test_the_seeds_algorithm_against_a_trace_worked_by_hand() -> None:
    # For each child: (draw, new value) of the three genes, then whether it is crossed, with whom, and where it is cut.
    draws = {}
    for place in (3, 4, 5):
        generator = chance(place)
        draws[place] = [round(uniform(generator), 4) for _ in range(9)]
    assert draws == {
        3: [0.9611, 0.1765, 0.4362, 0.0789, 0.9996, 0.5707, 0.0703, 0.0732, 0.3247],
        4: [0.3000, 0.3377, 0.2984, 0.5661, 0.2710, 0.1970, 0.8786, 0.7187, 0.9560],
        5: [0.2002, 0.5323, 0.7038, 0.5498, 0.3851, 0.2137, 0.2666, 0.6666, 0.9265],
    }
    brood = Ga001().breed(SPACE, POPULATION, 6, chance)
    # Selection: .9, .7 and .6 survive as 0, 1, 2. The rest by fitness, the failure last: individuals 0, 5, 1.
    assert brood.survivors == (2, 4, 3)
    first, second, third = brood.children
    # Mutation past .5. 3: (.1765, .2, .5707). 4: nothing. 5: (.4, .5498, .6).
    # Crossover below .5. 3: mate 0 of (0 1 2 4 5), the first of the cuts (1, 2): its head, the tail of (.7, .8, .9).
    assert [round(float(v), 4) for v in first.genes] == [0.1765, 0.8, 0.9]
    assert first[1:] == ("mutated, crossed", (0, 2))
    assert second == ((0.75, 0.85, 0.95), "unchanged", (5,))
    # 5: mate 3 of (0 1 2 3 4), as it stands after mutation and before crossover; cut before the last gene.
    assert [round(float(v), 4) for v in third.genes] == [0.4, 0.5498, 0.5707]
    assert third[1:] == ("mutated, crossed", (1, 0))


@pytest.mark.parametrize("algorithm", [Ga001(), Ga(), RandomSearch()], ids=lambda algorithm: algorithm.name)
@given(values=st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=2, max_size=12), seed=st.integers(0, 99))
def test_a_population_keeps_its_size_its_best_and_no_failure(
    algorithm: Ga, values: list[float | None], seed: int
) -> None:
    size = len(values)

    def own(place: int) -> Generator:
        return stream(seed, place)

    population = [Scored(child.genes, v) for child, v in zip(begin(SPACE, size, own).children, values, strict=True)]
    brood = algorithm.breed(SPACE, population, size, own)
    assert len(brood.survivors) + len(brood.children) == size
    assert all(SPACE.holds(child.genes) for child in brood.children)
    assert all(values[place] is not None for place in brood.survivors)
    able = [value for value in values if value is not None]
    assert not brood.survivors or values[brood.survivors[0]] == max(able)
    if isinstance(algorithm, Ga) and able:
        assert all(values[parent] is not None for child in brood.children for parent in child.parents)
    # A child follows from its own place alone: drawing for the others changes nothing.
    assert algorithm.breed(SPACE, population, size, own) == brood


def best_of(algorithm: Algorithm, seed: int) -> tuple[float, int]:
    """The best of 35 evaluations of a bowl with its optimum inside the space."""
    assert not isinstance(algorithm, Borrowed)

    def judge(genes: tuple[object, ...]) -> float:
        return -sum((float(str(v)) - best) ** 2 for v, best in zip(genes, (0.7, 0.3, 0.6), strict=True))

    brood = begin(SPACE, 10, lambda place: stream(seed, 0, place))
    population, count = [Scored(child.genes, judge(child.genes)) for child in brood.children], 10
    for generation in range(1, 6):
        brood = algorithm.breed(SPACE, population, 10, lambda place, g=generation: stream(seed, g, place))  # type: ignore[misc]
        count += len(brood.children)
        population = [population[place] for place in brood.survivors] + [
            Scored(child.genes, judge(child.genes)) for child in brood.children
        ]
    return max(one.fitness for one in population if one.fitness is not None), count


def test_ga_converges_better_than_random_at_equal_evaluations() -> None:
    ours = [best_of(Ga(), seed) for seed in range(40)]
    control = [best_of(RandomSearch(), seed) for seed in range(40)]
    assert {count for _, count in ours + control} == {35}
    assert statistics.median(-value for value, _ in ours) < statistics.median(-value for value, _ in control) / 2
    assert (
        sum(a > b for (a, _), (b, _) in zip(ours, control, strict=True)) >= 27
    )  # one chance in fifty for no difference


def test_ours_trains_no_twin_where_the_rule_is_not_another() -> None:
    alike = [Scored(POPULATION[0].genes, 0.5 - n / 100) for n in range(8)]
    known = {one.genes for one in alike}

    def bred(**rules: str) -> list[Child]:
        return [
            child
            for seed in range(20)
            for child in Ga(**rules).breed(SPACE, alike, 8, lambda place, s=seed: stream(s, place)).children  # type: ignore[misc]
        ]

    ours, before = bred(), bred(twins="trained")
    assert len({child.genes for child in ours} | known) == len(ours) + 1
    assert all("mutated" in child.how for child in ours)
    assert sum(child.genes in known for child in before) > len(before) / 5


def test_rules_are_named_checked_and_stored() -> None:
    assert make_algorithm("ga-001", {"cut": 2, "mate": "survivors"}) == Ga001(cut=2, mate="survivors")
    assert make_algorithm("tpe", {}).model_dump() == {"name": "tpe", "keep": 0.5}
    with pytest.raises(UsageError, match="did you mean ga-001"):
        make_algorithm("ga001", {})
    with pytest.raises(UsageError, match="did you mean threshold"):
        make_algorithm("ga-001", {"treshold": 0.4})
    with pytest.raises(UsageError, match="keep is 2"):
        make_algorithm("ga", {"keep": 2})
    for rule in ("cut", "keep"):
        with pytest.raises(UsageError, match=f"{rule} is True: must be a number"):
            make_algorithm("ga-001", {rule: True})
    assert [fault.subject for fault in misfit(Ga001(cut=3), SPACE)] == ["cut"], (
        "three genes, of which none would be cut"
    )
    assert [misfit(one, SPACE) for one in (Ga001(cut=2), Ga001(), Ga001(cut="any"), Ga())] == [[]] * 4


def test_mates_and_cuts_can_be_named() -> None:
    always = Ga001(threshold=1.0, crossed=1.0, mate="survivors", cut=1)
    brood = always.breed(SPACE, POPULATION, 6, chance)
    for place, child in zip((0, 5, 1), brood.children, strict=True):
        head, mate = POPULATION[place].genes, POPULATION[child.parents[1]]
        assert child.genes == head[:1] + mate.genes[1:]
        assert child.parents[1] in brood.survivors


def test_where_all_failed_ours_begins_anew() -> None:
    failed = [Scored(one.genes, None) for one in POPULATION]
    brood = Ga().breed(SPACE, failed, 6, chance)
    assert brood.survivors == ()
    assert len({child.genes for child in brood.children} - {one.genes for one in failed}) == 6


def test_a_study_of_an_earlier_release_keeps_its_rules() -> None:
    facts = begin_facts("x", Wish("digits", sampler="ga"))
    assert algorithm_of(facts) == Ga(steps="whole", twins="moved")
    earlier = {k: v for k, v in facts["algorithm"].items() if k not in ("steps", "twins")}
    before = {**facts, "algorithm": earlier}
    assert algorithm_of(before) == Ga(steps="drawn", twins="trained")
    for rules in ({}, {"sigma": 0.1}, {"twins": "trained"}):
        assert unlike(before, Wish(sampler="ga", rules=rules)) == {}
    assert unlike(before, Wish(sampler="ga", rules={"twins": "moved"})) == {"sampler twins": ("trained", "moved")}
