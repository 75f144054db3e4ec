"""The thin coat over Optuna: our operators as one of its samplers, and its samplers asked a generation at a time.

`GeneticSampler` serves anyone's `optuna.create_study(sampler=...)`. A study of this program needs no sampler in its
workers: `propose` computes a whole generation from closed ones, the ledger stores it, workers only fetch. Optuna's own
samplers are asked in the same way, by playing the closed generations again in memory from their seed; nothing that
they store, and nothing pickled, is ever read from a database.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from residual.chance import derive, stream
from residual.errors import EnvironmentFault, StorageError
from residual.tuning.algorithms import OWN, Algorithm, Borrowed, Brood, Child, Ga, Ga001, begin
from residual.tuning.chances import uniform
from residual.tuning.genetic import Scored, fittest
from residual.tuning.space import Gene, Genes, Space, Value

NAME = "tuning"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's own lines, which tell of a study in memory; whoever imports this keeps those of their own."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental parts, and cmaes of a generation without spread
            yield
    finally:
        optuna.logging.set_verbosity(before)


def distribution_of(gene: Gene) -> BaseDistribution:
    if gene.kind == "choice":
        return CategoricalDistribution(gene.choices)
    if gene.kind in ("int", "int-log"):
        return IntDistribution(int(gene.low), int(gene.high), log=gene.kind == "int-log", step=int(gene.step or 1))
    return FloatDistribution(gene.low, gene.high, log=gene.kind == "log", step=gene.step or None)


def gene_of(path: str, distribution: BaseDistribution) -> Gene:
    match distribution:
        case CategoricalDistribution():
            return Gene(path, "choice", choices=tuple(distribution.choices))  # type: ignore[arg-type]  # None too
        case IntDistribution():
            step = 0 if distribution.step == 1 else distribution.step
            return Gene(path, "int-log" if distribution.log else "int", distribution.low, distribution.high, (), step)
        case FloatDistribution():
            kind = "log" if distribution.log else "linear"
            return Gene(path, kind, distribution.low, distribution.high, (), distribution.step or 0)  # type: ignore[arg-type]
    raise TypeError(f"no gene for {distribution!r}")


Pruned = Mapping[tuple[int, int], tuple[int, float]]
"""By generation and place among its new individuals: a thousandth of an epoch, and the figure that was seen then."""


class GeneticSampler(BaseGASampler):
    """`ga-001` or `ga` for a plain Optuna study of one objective, told one trial after the other.

    Such a study knows no closed generations: with several workers, a trial is bred from whatever is finished then.
    The ledger of this program has no such freedom.
    """

    def __init__(self, algorithm: Ga001 | Ga | None = None, population_size: int = 10, seed: int = 0) -> None:
        super().__init__(population_size=population_size)
        self._algorithm = algorithm or Ga()
        self._size, self._seed = population_size, seed
        self._shared = IntersectionSearchSpace()

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        if not study._is_multi_objective():
            self.get_trial_generation(study, trial)  # the first trial, too, which has no common genes to draw yet

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        self._refuse_several(study)
        return self._shared.calculate(study)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._refuse_several(study)
        if not search_space:
            return {}
        space = Space("optuna", tuple(gene_of(name, kind) for name, kind in search_space.items()))
        generation, place = self._place(study, trial)
        if generation == 0:
            child = begin(space, place + 1, self._chance(study, 0)).children[place]
        else:
            parents = [scored(one, space, study) for one in self._population(study, generation - 1) if fits(one, space)]
            if not parents:
                return {}
            brood = self._algorithm.breed(space, parents, self._size, self._chance(study, generation))
            if place >= len(brood.children):  # asked for more than a generation holds, as parallel workers do
                return {}
            child = brood.children[place]
        return dict(zip(space.paths, child.genes, strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        self._refuse_several(study)
        generator = stream(self._seed, NAME, study.study_name, trial.number, param_name)
        return gene_of(param_name, param_distribution).at(uniform(generator))

    def select_parent(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The survivors of the generation before, which stand in this one untrained."""
        return self._survivors(study, self._population(study, generation - 1))

    def _survivors(self, study: Study, population: list[FrozenTrial]) -> list[FrozenTrial]:
        signed = [Scored((), None if one.value is None else _sign(study) * one.value) for one in population]
        return [population[place] for place in fittest(signed, round(self._algorithm.keep * self._size))]

    def _population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Survivors by fitness, then the new ones by number: Optuna's own cache of parents forgets their order."""
        key, own = self._get_generation_key(), dict[int, list[FrozenTrial]]()
        done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        for one in sorted(done, key=lambda one: one.number):
            own.setdefault(one.system_attrs.get(key, -1), []).append(one)
        population = own.get(0, [])
        for number in range(1, generation + 1):
            population = [*self._survivors(study, population), *own.get(number, [])]
        return population

    def _place(self, study: Study, trial: FrozenTrial) -> tuple[int, int]:
        """The generation of a trial and its number among the new ones there."""
        generation = self.get_trial_generation(study, trial)
        key = self._get_generation_key()
        alike = [one for one in study.get_trials(deepcopy=False) if one.system_attrs.get(key) == generation]
        return generation, sum(one.number < trial.number for one in alike)

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """As in Optuna, but survivors count towards the size of a generation."""
        key = self._get_generation_key()
        known = trial.system_attrs.get(key)
        if known is None:
            done = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            counts: dict[int, int] = {}
            for one in done:
                counts[one.system_attrs.get(key, 0)] = counts.get(one.system_attrs.get(key, 0), 0) + 1
            newest = max(counts, default=0)
            standing = len(self.select_parent(study, newest)) if newest else 0
            known = newest + int(counts.get(newest, 0) + standing >= self._size)
            study._storage.set_trial_system_attr(trial._trial_id, key, known)
        return int(known)

    def _chance(self, study: Study, generation: int) -> Any:
        return lambda place: stream(self._seed, NAME, study.study_name, generation, place)

    def _refuse_several(self, study: Study) -> None:
        self._raise_error_if_multi_objective(study)


def _sign(study: Study) -> int:
    return 1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1


def scored(trial: FrozenTrial, space: Space, study: Study) -> Scored:
    genes = tuple(trial.params[path] for path in space.paths)
    return Scored(genes, None if trial.value is None else _sign(study) * trial.value)


def fits(trial: FrozenTrial, space: Space) -> bool:
    """Whether a trial has all these genes, within their bounds (a study may change its space on the way)."""
    return all(gene.path in trial.params and gene.holds(trial.params[gene.path]) for gene in space.genes)


def propose(
    algorithm: Algorithm,
    space: Space,
    size: int,
    address: tuple[int, str],
    generations: Sequence[Sequence[tuple[Genes, float | None]]],
    population: Sequence[Scored],
    pruned: Pruned = MappingProxyType({}),
    own: Genes | None = None,
) -> Brood:
    """The next generation. `generations` holds the new individuals of each closed one, `population` the last whole one.

    Args:
        address: the seed of the search and the name of the study, of which all its chance follows.
        pruned: what was last seen of individuals that were ended early, for samplers that learn from it.
        own: the recipe's own values, if the first individual of all has them.
    """
    seed, study = address
    number = len(generations)

    def chance(place: int) -> Any:
        return stream(seed, NAME, study, number, place)

    if isinstance(algorithm, Borrowed):
        kept = round(algorithm.keep * size) if number else 0
        asked = (algorithm, space, size, address, generations, size - kept)
        try:
            drawn = replay(*asked, pruned, own)
        except StorageError:  # a search of an earlier release, whose sampler learnt nothing of what failed
            drawn = replay(*asked, None, own)
        children = [Child(genes, "asked of Optuna") for genes in drawn]
        if own is not None and not number:
            children[0] = Child(own, OWN)
        return Brood(tuple(fittest(population, kept)), tuple(children))
    return algorithm.breed(space, population, size, chance) if number else begin(space, size, chance, own)


def replay(
    algorithm: Borrowed,
    space: Space,
    size: int,
    address: tuple[int, str],
    generations: Sequence[Sequence[tuple[Genes, float | None]]],
    count: int,
    pruned: Pruned | None = MappingProxyType({}),
    own: Genes | None = None,
) -> list[Genes]:
    """Ask one of Optuna's samplers for `count` individuals, after it has been told the closed generations.

    Args:
        pruned: as for `propose`; None tells nothing of what came to no end.
        own: as for `propose`; the sampler is told of it as of one it has asked for.

    TPE counts what was pruned as bad, by how far it came and its figure there, and what failed as worse; it passes over
    what it is told has failed.

    Raises:
        StorageError: it no longer asks for what it asked for then (another version of Optuna).
    """
    sampler = _borrowed(algorithm, size, derive(address[0], NAME, address[1], algorithm.name) % 2**32)
    table = {gene.path: distribution_of(gene) for gene in space.genes}
    with _quiet():
        study = optuna.create_study(direction="maximize", sampler=sampler)
        if own is not None:
            study.enqueue_trial(dict(zip(space.paths, own, strict=True)))
        for number, told in enumerate(generations):
            asked = [study.ask(table) for _ in told]
            for place, (trial, (genes, fitness)) in enumerate(zip(asked, told, strict=True)):
                drawn = tuple(trial.params[path] for path in space.paths)
                if not all(map(_alike, drawn, genes)):
                    raise StorageError(
                        f"generation {number} of the study is not what {algorithm.name} of Optuna "
                        f"{optuna.__version__} asks for",
                        address[1],
                        "go on with the releases that began it: study.json names them",
                    )
                if fitness is not None or pruned is None:
                    study.tell(trial, fitness, state=TrialState.FAIL if fitness is None else TrialState.COMPLETE)
                    continue
                if seen := pruned.get((number, place)):
                    trial.report(seen[1], seen[0])
                study.tell(trial, state=TrialState.PRUNED)
        fresh = [study.ask(table).params for _ in range(count)]
        return [tuple(params[path] for path in space.paths) for params in fresh]


def _alike(first: Value, second: Value) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second) <= 1e-9 * max(abs(first), abs(second))
    return first == second


def _borrowed(algorithm: Borrowed, size: int, seed: int) -> BaseSampler:
    name = algorithm.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "nsgaii":
            # It breeds when it has seen a population anew, which shall be so after each of our generations.
            children = size - round(algorithm.keep * size)
            return optuna.samplers.NSGAIISampler(population_size=max(2, children), seed=seed)
        if name == "tpe":
            # A generation is asked for at once: without the liar, its members would crowd on one spot.
            return optuna.samplers.TPESampler(n_startup_trials=size, multivariate=True, constant_liar=True, seed=seed)
        if importlib.util.find_spec("cmaes") is None:
            raise EnvironmentFault("cmaes is not installed", "--sampler cmaes", "pip install cmaes")
        return optuna.samplers.CmaEsSampler(
            n_startup_trials=size, popsize=max(2, size // 2), seed=seed, warn_independent_sampling=False
        )
