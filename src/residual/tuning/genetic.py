"""The operators of genetic algorithms: individuals and a generator in, individuals out. Nothing else is read or kept.

An individual is a tuple of values in the order of the space's genes; fitness is larger for the better, None for a
training that failed. Blending operators work on places in [0, 1] (see `space`), and reflect at its ends.

Sources: Holland 1975 (initialisation at random, single-point crossover); De Jong 1975 (elitism); Brindle 1981 and
Goldberg and Deb 1991 (tournaments); Eshelman and Schaffer 1993 (BLX-alpha); Deb and Agrawal 1995 (SBX); Schwefel 1981
(Gaussian mutation); seed 001, "Implementation details: genetic algorithm" (fittest half, re-initialisation past a
threshold).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Literal, NamedTuple

from torch import Generator

from residual.tuning.chances import below, normal, uniform
from residual.tuning.space import Gene, Genes, Space, Value

Cut = Literal["middle", "any"] | int
_TRIES = 50
"""Moves after which an individual stays the twin that it is."""


class Scored(NamedTuple):
    genes: Genes
    fitness: float | None


def initialise(space: Space, generator: Generator) -> Genes:
    """An individual at random: every gene uniform over its places."""
    return space.draw(generator)


def rank(population: Sequence[Scored]) -> list[int]:
    """The places of a population from the fittest down; ties in the order given, failures last."""
    return sorted(range(len(population)), key=lambda n: (_worse(population[n].fitness), n))


def _worse(fitness: float | None) -> float:
    return float("inf") if fitness is None else -fitness


def fittest(population: Sequence[Scored], count: int) -> list[int]:
    """The places of the `count` fittest; a failure is never among them, so there may be fewer."""
    return [n for n in rank(population) if population[n].fitness is not None][:count]


def reinitialise(space: Space, genes: Genes, threshold: float, generator: Generator) -> Genes:
    """Every gene whose draw from [0, 1) is above the threshold is drawn anew; the others stay."""
    draws = [(uniform(generator), uniform(generator)) for _ in genes]
    return tuple(
        gene.at(fresh) if draw > threshold else value
        for gene, value, (draw, fresh) in zip(space.genes, genes, draws, strict=True)
    )


def cut_places(genes: int, cut: Cut) -> list[int]:
    """Where a chromosome may be cut: before gene 1 .. n-1; `middle` leaves the one or two nearest the middle."""
    if genes < 2:
        return []
    if cut == "any":
        return list(range(1, genes))
    if cut == "middle":
        return sorted({genes // 2, (genes + 1) // 2})
    return [cut] if 1 <= cut < genes else []


def single_point(head: Genes, tail: Genes, cut: int) -> Genes:
    """The genes of one parent before the cut, those of the other from it on."""
    return head[:cut] + tail[cut:]


def uniform_crossover(first: Genes, second: Genes, generator: Generator) -> Genes:
    """Each gene from one of the parents, at even odds (Syswerda 1989)."""
    return tuple(a if uniform(generator) < 0.5 else b for a, b in zip(first, second, strict=True))


def reflect(place: float) -> float:
    """A place beyond an end of [0, 1], folded back at it."""
    place = abs(place) % 2
    return 2 - place if place > 1 else place


def blend(space: Space, first: Genes, second: Genes, alpha: float, generator: Generator) -> Genes:
    """BLX-alpha: each gene uniform between the parents and alpha of their distance beyond; choices from a parent."""
    child = []
    for gene, a, b in zip(space.genes, first, second, strict=True):
        draw = uniform(generator)
        if gene.kind == "choice" or a == b:
            child.append(a if draw < 0.5 else b)
            continue
        low, high = sorted((gene.place_of(a), gene.place_of(b)))
        reach = alpha * (high - low)
        child.append(gene.at(reflect(low - reach + draw * (high - low + 2 * reach))))
    return tuple(child)


def spread_factor(draw: float, eta: float) -> float:
    """SBX's beta for a draw from [0, 1): contracting below .5, expanding above (Deb and Agrawal 1995, eq. 7-8)."""
    if draw <= 0.5:
        return float((2 * draw) ** (1 / (eta + 1)))
    return float((1 / (2 * (1 - draw))) ** (1 / (eta + 1)))


def simulated_binary(space: Space, first: Genes, second: Genes, eta: float, generator: Generator) -> Genes:
    """SBX: each gene the parents' mean plus or minus beta of half their distance; choices from a parent."""
    child = []
    for gene, a, b in zip(space.genes, first, second, strict=True):
        draw, side = uniform(generator), uniform(generator)
        if gene.kind == "choice" or a == b:
            child.append(a if side < 0.5 else b)
            continue
        p, q = gene.place_of(a), gene.place_of(b)
        half = spread_factor(draw, eta) * (q - p) / 2
        child.append(gene.at(reflect((p + q) / 2 + (half if side < 0.5 else -half))))
    return tuple(child)


def gaussian(
    space: Space, genes: Genes, share: float, sigma: float, generator: Generator, whole: bool = False
) -> Genes:
    """Each gene, with the probability `share`, moved by N(0, sigma) in its places; a choice is drawn anew.

    Args:
        whole: a gene that moves on a grid moves to the next value at least. Else it mostly stays where it is on a
            grid of few values, whose shares are wider than the moves.
    """
    child = []
    for gene, value in zip(space.genes, genes, strict=True):
        draw, move, fresh = uniform(generator), normal(generator), uniform(generator)
        if draw >= share:
            child.append(value)
        elif gene.kind == "choice":
            child.append(gene.at(fresh))
        else:
            moved = gene.at(reflect(gene.place_of(value) + sigma * move))
            child.append(_next(gene, value, move) if whole and moved == value and gene.places > 1 else moved)
    return tuple(child)


def _next(gene: Gene, value: Value, move: float) -> Value:
    """The value beside `value` on a grid, in the direction of the move; at the end of the grid the other way."""
    step = gene.step or 1
    number = round((float(value) - gene.low) / step)
    number += 1 if (move > 0 or number == 0) and number < gene.places - 1 else -1
    beside = gene.low + number * step
    return int(beside) if gene.kind in ("int", "int-log") else float(min(gene.high, beside))


def identity(genes: Genes) -> tuple[tuple[type, Value], ...]:
    """What two individuals have in common that are twins: 1, 1.0 and true are three values."""
    return tuple((type(value), value) for value in genes)


def apart(space: Space, genes: Genes, others: Set[object], sigma: float, generator: Generator) -> Genes:
    """The individual, one gene after the other moved until it is no twin of `others`, which are identities.

    In a space of few values all may be there already: it is then as it came.
    """
    child = genes
    for _ in range(_TRIES):
        if identity(child) not in others:
            return child
        number = below(generator, len(space.genes))
        gene, value, move = space.genes[number], child[number], normal(generator)
        if gene.kind == "choice":
            place = (gene.number_of(value) + 1 + below(generator, len(gene.choices) - 1)) % len(gene.choices)
            fresh = gene.choices[place]
        else:
            fresh = gene.at(reflect(gene.place_of(value) + sigma * move))
            fresh = _next(gene, value, move) if fresh == value and gene.places > 1 else fresh
        child = (*child[:number], fresh, *child[number + 1 :])
    return child if identity(child) not in others else genes


def tournament(population: Sequence[Scored], size: int, generator: Generator) -> int:
    """The place of the fittest of `size` individuals drawn with replacement; of failures only where there is no other.

    Ties go to the earlier place.
    """
    able = [n for n, one in enumerate(population) if one.fitness is not None] or list(range(len(population)))
    drawn = [able[below(generator, len(able))] for _ in range(size)]
    return min(drawn, key=lambda n: (_worse(population[n].fitness), n))
