"""Our sampler passes the tests that Optuna ships for samplers; its own samplers, asked by generations, repeat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase

from residual.chance import stream
from residual.errors import StorageError
from residual.tuning.algorithms import ALGORITHMS, Borrowed, Ga, Ga001, make_algorithm
from residual.tuning.genetic import Scored
from residual.tuning.sampler import GeneticSampler, distribution_of, gene_of, propose, replay
from residual.tuning.space import Gene, Genes, Space


class TestOptunasOwnTestsForSamplers(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture(params=[Ga001(), Ga(), Ga(crossover="sbx")], ids=["ga-001", "ga", "ga with sbx"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: GeneticSampler(request.param, population_size=5)


SPACE = Space(
    "two", (Gene("x", "log", 1e-3, 1.0), Gene("y", "linear", 0.0, 1.0), Gene("z", "choice", choices=("a", "b")))
)


def judge(genes: Genes) -> float | None:
    x, y, z = float(genes[0]), float(genes[1]), genes[2]
    return None if y > 0.97 else -((y - 0.3) ** 2) - 0.01 * abs(math.log(x / 0.1)) - (z == "b")


def generations(name: str, count: int, seed: int = 3) -> list[list[tuple[Genes, float | None]]]:
    """A search, each generation proposed by a fresh call that is told all the ones before."""
    told: list[list[tuple[Genes, float | None]]] = []
    algorithm, population = make_algorithm(name, {}), list[Scored]()
    for _ in range(count):
        brood = propose(algorithm, SPACE, 6, (seed, "study"), told, population)
        told.append([(child.genes, judge(child.genes)) for child in brood.children])
        population = [population[place] for place in brood.survivors] + [Scored(*pair) for pair in told[-1]]
    return told


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_search_repeats_generation_by_generation(name: str) -> None:
    told = generations(name, 4)
    assert [len(one) for one in told] == [6, 3, 3, 3] or any(f is None for one in told for _, f in one)
    assert all(SPACE.holds(genes) for one in told for genes, _ in one)
    assert generations(name, 4) == told
    assert generations(name, 4, seed=4)[0] != told[0]


@pytest.mark.parametrize("name", ["tpe", "cmaes", "nsgaii"])
def test_what_a_borrowed_sampler_asks_depends_on_what_it_was_told(name: str) -> None:
    told = generations(name, 4)
    lied = [[(genes, 0.0 if fitness is None else -fitness) for genes, fitness in one] for one in told]
    algorithm = make_algorithm(name, {})
    assert isinstance(algorithm, Borrowed)
    with pytest.raises(StorageError, match="not what"):
        replay(algorithm, SPACE, 6, (3, "study"), lied, 3)


@pytest.mark.parametrize("failing", ["failed", "pruned"])
def test_tpe_learns_from_what_came_to_no_end(failing: str) -> None:
    """Seven tenths of the space come to no end: it asks less there than chance would."""
    space = Space("s", (Gene("x", "linear", 0.0, 1.0), Gene("y", "linear", 0.0, 1.0)))
    algorithm = make_algorithm("tpe", {})
    bad = 0
    for seed in range(6):
        told: list[list[tuple[Genes, float | None]]] = []
        pruned: dict[tuple[int, int], tuple[int, float]] = {}
        population = list[Scored]()
        for number in range(5):
            brood = propose(algorithm, space, 10, (seed, "study"), told, population, pruned)
            new: list[tuple[Genes, float | None]] = []
            for place, child in enumerate(brood.children):
                x, y = (float(gene) for gene in child.genes)
                new.append((child.genes, 0.8 - 0.3 * abs(y - 0.5) if x > 0.7 else None))
                bad += number >= 2 and x <= 0.7
                if failing == "pruned" and x <= 0.7:
                    pruned[number, place] = (1000, 0.1)
            population = [population[place] for place in brood.survivors] + [Scored(*one) for one in new]
            told.append(new)
    count = 6 * sum(len(one) for one in told[2:])
    assert bad / count < 0.5, f"{bad} of {count}"


def test_a_search_of_an_earlier_release_goes_on_as_it_was_begun() -> None:
    """It told Optuna that what came to no end had failed, of which TPE learns nothing."""
    algorithm = make_algorithm("tpe", {})
    assert isinstance(algorithm, Borrowed)
    space = Space("s", (Gene("x", "linear", 0.0, 1.0),))
    told: list[list[tuple[Genes, float | None]]] = []
    for count in (6, 6, 6):
        genes = replay(algorithm, space, 6, (1, "study"), told, count, None)
        told.append([(one, float(one[0]) if float(one[0]) > 0.6 else None) for one in genes])
    with pytest.raises(StorageError, match="not what"):
        replay(algorithm, space, 6, (1, "study"), told, 6)
    brood = propose(algorithm, space, 6, (1, "study"), told, [])
    assert [child.genes for child in brood.children] == replay(algorithm, space, 6, (1, "study"), told, 6, None)[
        : len(brood.children)
    ]


def test_the_sampler_breeds_in_a_plain_optuna_study_what_the_program_breeds() -> None:
    study = optuna.create_study(direction="maximize", study_name="plain", sampler=GeneticSampler(Ga(), 6, seed=9))
    table = {gene.path: distribution_of(gene) for gene in SPACE.genes}
    study.optimize(lambda trial: judge_all(trial, table), n_trials=6)
    study.optimize(lambda trial: judge_all(trial, table), n_trials=9)
    rows = [(tuple(trial.params[path] for path in SPACE.paths), trial.value) for trial in study.trials]
    population = [Scored(genes, value) for genes, value in rows[:6]]
    for first in (6, 9, 12):
        generation = first // 3 - 1
        brood = Ga().breed(SPACE, population, 6, lambda i, g=generation: stream(9, "tuning", "plain", g, i))  # type: ignore[misc]
        assert [child.genes for child in brood.children] == [genes for genes, _ in rows[first : first + 3]]
        population = [population[place] for place in brood.survivors] + [
            Scored(*row) for row in rows[first : first + 3]
        ]


def judge_all(trial: optuna.Trial, table: dict[str, Any]) -> float:
    genes = tuple(trial._suggest(path, kind) for path, kind in table.items())
    return judge((genes[0], min(0.9, genes[1]), genes[2])) or 0.0


@given(st.sampled_from((*SPACE.genes, Gene("i", "int", 2, 9), Gene("j", "int-log", 1, 64))), st.floats(0, 1))
def test_a_gene_survives_the_way_through_optunas_distributions(gene: Gene, place: float) -> None:
    distribution = distribution_of(gene)
    assert gene_of(gene.path, distribution) == gene
    value = gene.at(place)
    assert distribution._contains(distribution.to_internal_repr(value))
    assert distribution.to_external_repr(distribution.to_internal_repr(value)) == value


def test_nsgaii_breeds_from_each_generation() -> None:
    told, algorithm = generations("nsgaii", 2), make_algorithm("nsgaii", {})
    assert isinstance(algorithm, Borrowed)
    lied: list[list[tuple[Genes, float | None]]] = [
        told[0],
        [(genes, 9.0 - number) for number, (genes, _) in enumerate(told[1])],
    ]
    assert replay(algorithm, SPACE, 6, (3, "study"), told, 3) != replay(algorithm, SPACE, 6, (3, "study"), lied, 3)


def test_a_plain_study_of_very_many_generations_is_bred_on() -> None:
    sampler = GeneticSampler(Ga(), population_size=2)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    kind, key = optuna.distributions.FloatDistribution(0, 1), sampler._get_generation_key()
    made = [
        optuna.create_trial(
            value=n % 7, params={"x": 0.5}, distributions={"x": kind}, system_attrs={key: max(0, n - 1)}
        )
        for n in range(1500)
    ]
    study.add_trials(made)
    assert [one.value for one in sampler._population(study, 1498)] == [6, 1]
    assert 0 <= study.ask({"x": kind}).params["x"] <= 1
