"""The genetic algorithms: the next population from the last one, as a pure function of fitness and address.

Child i of generation g draws from its own generator, `chance(i)`, so neither the order in which individuals were
trained nor who trained them changes it. Generation 0 is drawn at random, but for its first, which may have the
recipe's own values; it is followed by as many generations of breeding as asked. Survivors stand first in the new
population and are not trained again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, Field, ValidationError
from torch import Generator

from residual.errors import Fault, UsageError, check, nearest, rule_of
from residual.tuning.chances import below, uniform
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
    reinitialise,
    simulated_binary,
    single_point,
    tournament,
    uniform_crossover,
)
from residual.tuning.space import Genes, Space

OWN = "the recipe's own"
"""How the first individual came about where it has the recipe's values."""
Chance = Callable[[int], Generator]
Share = Annotated[float, Field(ge=0, le=1, description="a share from 0 to 1")]


class Child(NamedTuple):
    """An individual to be trained, how it came about, and the places of its parents in the population before."""

    genes: Genes
    how: str
    parents: tuple[int, ...] = ()


class Brood(NamedTuple):
    """The next population: places of the survivors in the one before, then the children."""

    survivors: tuple[int, ...]
    children: tuple[Child, ...]


class Ga001(BaseModel, frozen=True, extra="forbid"):
    """The seed's algorithm: keep the fittest half, mutate the rest, then cross a part at one point.

    What the seed leaves open is chosen here by name. The rest are the individuals that do not survive, failures
    included, from the fittest down. Only they are changed, so that survivors need no second training; a mate may be
    any member of the population as it stands after mutation.
    """

    name: Literal["ga-001"] = "ga-001"
    keep: Share = 0.5
    threshold: Share = Field(0.5, description="a gene is drawn anew where its draw from [0, 1) is above this")
    crossed: Share = Field(0.5, description="the probability that one of the rest is crossed after its mutation")
    mate: Literal["any", "survivors", "rest"] = Field("any", description="where the other parent comes from")
    cut: Literal["middle", "any"] | Annotated[int, Field(ge=1)] = Field(
        "middle", description="middle (drawn where there are two), any (drawn), or the number of genes before it"
    )

    def breed(self, space: Space, population: Sequence[Scored], size: int, chance: Chance) -> Brood:
        survivors = fittest(population, round(self.keep * size))
        rest = [n for n in rank(population) if n not in survivors][: size - len(survivors)]
        first = len(survivors)
        draws = {first + n: chance(first + n) for n in range(len(rest))}
        after = [population[n].genes for n in survivors]
        origin = [*survivors, *rest]
        after += [
            reinitialise(space, population[n].genes, self.threshold, draws[first + k]) for k, n in enumerate(rest)
        ]
        children = []
        for place, generator in draws.items():
            genes, parents = after[place], [origin[place]]
            how = "mutated" if genes != population[origin[place]].genes else "unchanged"
            cuts = cut_places(len(space.genes), self.cut)
            mates = [n for n in self._mates(first, len(after)) if n != place]
            draw = uniform(generator)
            if cuts and mates and draw < self.crossed:
                mate = mates[below(generator, len(mates))]
                genes = single_point(genes, after[mate], cuts[below(generator, len(cuts))])
                how, parents = f"{how}, crossed", [*parents, origin[mate]]
            children.append(Child(genes, how, tuple(parents)))
        return Brood(tuple(survivors), tuple(children))

    def _mates(self, survivors: int, size: int) -> range:
        if self.mate == "any":
            return range(size)
        return range(survivors) if self.mate == "survivors" else range(survivors, size)


class Ga(BaseModel, frozen=True, extra="forbid"):
    """Ours: an elite survives; children of two tournament winners, blended and then moved a little."""

    name: Literal["ga"] = "ga"
    keep: Share = 0.5
    tournament: int = Field(3, ge=1, le=1000)
    crossover: Literal["blend", "sbx", "uniform"] = "blend"
    crossed: Share = 0.9
    alpha: float = Field(0.5, ge=0, le=2, description="reach of the blend beyond the parents")
    eta: float = Field(5.0, ge=0, le=100, description="SBX: the larger, the nearer to the parents")
    mutated: Share | None = Field(None, description="probability of moving a gene; none: one gene of each child")
    sigma: float = Field(0.1, gt=0, le=1, description="of a gene's move, in its places")
    steps: Literal["whole", "drawn"] = Field(
        "whole", description="whole: a gene on a grid that moves takes the next value at least"
    )
    twins: Literal["moved", "trained"] = Field(
        "moved", description="moved: a child with the genes of one of its population or its siblings is moved on"
    )

    def breed(self, space: Space, population: Sequence[Scored], size: int, chance: Chance) -> Brood:
        survivors = fittest(population, round(self.keep * size))
        share = 1 / len(space.genes) if self.mutated is None else self.mutated
        children = []
        known: set[object] = {identity(one.genes) for one in population} if self.twins == "moved" else set()
        for place in range(len(survivors), size):
            generator = chance(place)
            if not any(one.fitness is not None for one in population):
                children.append(Child(initialise(space, generator), "drawn anew: all before it failed"))
                continue
            a, b = (tournament(population, self.tournament, generator) for _ in range(2))
            genes, how, parents = population[a].genes, "copied", [a]
            if uniform(generator) < self.crossed:
                genes = self._cross(space, genes, population[b].genes, generator)
                how, parents = self.crossover, [a, b]
            moved = gaussian(space, genes, share, self.sigma, generator, self.steps == "whole")
            if self.twins == "moved":
                moved = apart(space, moved, known, self.sigma, generator)
                known.add(identity(moved))
            children.append(Child(moved, how if moved == genes else f"{how}, mutated", tuple(parents)))
        return Brood(tuple(survivors), tuple(children))

    def _cross(self, space: Space, first: Genes, second: Genes, generator: Generator) -> Genes:
        if self.crossover == "blend":
            return blend(space, first, second, self.alpha, generator)
        if self.crossover == "sbx":
            return simulated_binary(space, first, second, self.eta, generator)
        return uniform_crossover(first, second, generator)


class RandomSearch(BaseModel, frozen=True, extra="forbid"):
    """Every individual drawn at random: the control."""

    name: Literal["random"] = "random"
    keep: Share = Field(0.5, description="share of a generation that is not drawn anew, as in the algorithms")

    def breed(self, space: Space, population: Sequence[Scored], size: int, chance: Chance) -> Brood:
        survivors = fittest(population, round(self.keep * size))
        fresh = (initialise(space, chance(place)) for place in range(len(survivors), size))
        return Brood(tuple(survivors), tuple(Child(genes, "drawn") for genes in fresh))


class Borrowed(BaseModel, frozen=True, extra="forbid"):
    """One of Optuna's own samplers, asked for a generation at a time (see `sampler`)."""

    name: Literal["nsgaii", "tpe", "cmaes"]
    keep: Share = Field(0.5, description="a generation after the first has this share fewer trainings than it")


Algorithm = Ga001 | Ga | RandomSearch | Borrowed
EARLIER: dict[str, dict[str, Any]] = {"ga": {"steps": "drawn", "twins": "trained"}}
"""Rules that searches of earlier releases were begun without, and what they did."""
ALGORITHMS = ("ga-001", "ga", "nsgaii", "tpe", "cmaes", "random")


def misfit(algorithm: Algorithm, space: Space) -> list[Fault]:
    """What of an algorithm does not suit the number of genes: a cut that is none, where nothing would be crossed."""
    most = len(space.genes) - 1
    if not isinstance(algorithm, Ga001) or not isinstance(algorithm.cut, int) or algorithm.cut <= most:
        return []
    remedy = f"name 1 to {most}, middle or any" if most else "leave it out"
    return [Fault("cut", algorithm.cut, f"{len(space.genes)} genes are not cut there", remedy)]


def begin(space: Space, size: int, chance: Chance, own: Genes | None = None) -> Brood:
    """Generation 0; the first of it has the values of `own`, if any."""
    drawn = [Child(initialise(space, chance(place)), "drawn") for place in range(size)]
    return Brood((), tuple(drawn if own is None else [Child(own, OWN), *drawn[1:]]))


def make_algorithm(name: str, rules: dict[str, Any]) -> Algorithm:
    """An algorithm by its name, with some of its rules changed.

    Raises:
        UsageError: no such algorithm or rule, or a value out of its range.
    """
    if name not in ALGORITHMS:
        raise UsageError(f"no sampler is named {name[:80]!r}", "--sampler", nearest(name, list(ALGORITHMS)))
    kinds: dict[str, type[Ga001 | Ga | RandomSearch | Borrowed]] = {"ga-001": Ga001, "ga": Ga, "random": RandomSearch}
    kind = kinds.get(name, Borrowed)
    known = sorted(set(kind.model_fields) - {"name"})
    unknown = [
        Fault(rule, value, f"no rule of {name}", nearest(rule, known))
        for rule, value in rules.items()
        if rule not in known
    ]
    unknown += [
        Fault(rule, value, "must be a number or a word", "no rule is a yes or a no")  # pydantic would take true for 1
        for rule, value in rules.items()
        if rule in known and isinstance(value, bool)
    ]
    check("this search cannot start", unknown, "--rule")
    try:
        return kind.model_validate({"name": name, **rules})
    except ValidationError as error:
        faults = {str(e["loc"][0]): rule_of(e["type"], e["msg"]) for e in error.errors() if e["loc"]}
        check("this search cannot start", [Fault(k, rules.get(k), text) for k, text in faults.items()], "--rule")
        raise
