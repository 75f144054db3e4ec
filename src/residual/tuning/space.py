"""The space of a search: genes, each a setting of a recipe with its range.

A gene is addressed by the path of the setting (`schedule.peak`). Its values are reached from a place in
[0, 1]: linear, logarithmic, in whole numbers or by choice, each value of the latter two with an equal share.
Values never leave the bounds. `seed001` has the ranges of the seed's second task as it prints them; `default`
has logarithmic scales around the recipe's own rate and leaves out momenta that diverge.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Generator

from residual.errors import Fault, UsageError, check, nearest
from residual.training.recipe import Override, Recipe, override
from residual.training.schedules import OneCycle
from residual.training.settling import check_network, tell_once
from residual.tuning.chances import uniform

Value = float | int | str | bool
Genes = tuple[Value, ...]
Kind = Literal["linear", "log", "int", "int-log", "choice"]
KINDS: tuple[Kind, ...] = ("linear", "log", "int", "int-log", "choice")


@dataclass(frozen=True)
class Gene:
    """One setting and the values it may take; `step` is the grid of a linear or whole-number gene."""

    path: str
    kind: Kind
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Value, ...] = ()
    step: float = 0.0

    @property
    def places(self) -> int:
        """How many values there are; 0 where they are a continuum."""
        if self.kind == "choice":
            return len(self.choices)
        if self.kind in ("int", "int-log") or self.step:
            return math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1
        return 0

    def at(self, place: float) -> Value:
        """The value at a place in [0, 1]; places beyond are taken to the nearer end."""
        place = min(1.0, max(0.0, place))
        if self.kind == "int-log":
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return int(min(self.high, max(self.low, round(math.exp(low + place * (high - low))))))
        if self.places:
            number = min(self.places - 1, int(place * self.places))
            if self.kind == "choice":
                return self.choices[number]
            value = self.low + number * (self.step or 1)
            return int(value) if self.kind == "int" else float(min(self.high, value))
        if self.kind == "log":
            low, high = math.log(self.low), math.log(self.high)
            return min(self.high, max(self.low, math.exp(low + place * (high - low))))
        return min(self.high, max(self.low, self.low + place * (self.high - self.low)))

    def place_of(self, value: Value) -> float:
        """A place in [0, 1] that has this value: the middle of its share where values have one."""
        if self.kind == "choice":
            return (self.number_of(value) + 0.5) / len(self.choices)
        number = float(value)
        if self.kind == "int-log":
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return (math.log(number) - low) / (high - low)
        if self.places:
            return (round((number - self.low) / (self.step or 1)) + 0.5) / self.places
        if self.low == self.high:
            return 0.5
        if self.kind == "log":
            return (math.log(number) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (number - self.low) / (self.high - self.low)

    def number_of(self, value: Value) -> int:
        """The number of a choice; 1, 1.0 and true are three, which Python and Optuna hold to be the same."""
        for number, choice in enumerate(self.choices):
            if _same(choice, value):
                return number
        raise ValueError(f"{value!r} is no choice of {self.path}")

    def holds(self, value: Value) -> bool:
        if self.kind == "choice":
            return any(_same(choice, value) for choice in self.choices)
        return isinstance(value, int | float) and self.low <= value <= self.high

    def like(self, value: Value | None) -> Value | None:
        """The value of this gene that is as much as another, 1 for 1.0; None where there is none."""
        if value is None or self.kind != "choice":
            whole = self.kind in ("int", "int-log")
            if value is None or isinstance(value, bool | str) or (whole and value % 1) or not self.holds(value):
                return None
            return int(value) if whole else float(value)
        numbers = not isinstance(value, bool | str)
        return next(
            (one for one in self.choices if _same(one, value) or (numbers and _is_number(one) and one == value)), None
        )

    def text(self) -> str:
        """As it is written after `--gene`."""
        if self.kind == "choice":
            return f"{self.path}=choice:{','.join(_word(value) for value in self.choices)}"
        return f"{self.path}={self.kind}:{_number(self.low)}:{_number(self.high)}"


@dataclass(frozen=True)
class Space:
    """The genes in their order, which single-point crossover depends on."""

    name: str
    genes: tuple[Gene, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(gene.path for gene in self.genes)

    def draw(self, generator: Generator) -> Genes:
        """An individual drawn uniformly over the places, gene by gene."""
        return tuple(gene.at(uniform(generator)) for gene in self.genes)

    def at(self, places: Sequence[float]) -> Genes:
        return tuple(gene.at(place) for gene, place in zip(self.genes, places, strict=True))

    def places(self, genes: Genes) -> list[float]:
        return [gene.place_of(value) for gene, value in zip(self.genes, genes, strict=True)]

    def of(self, recipe: Recipe) -> Genes | None:
        """The recipe's own values; None where the space does not hold each of them."""
        genes = tuple(value for gene in self.genes if (value := gene.like(_own(recipe, gene.path))) is not None)
        return genes if len(genes) == len(self.genes) else None

    def lacks(self, recipe: Recipe) -> list[str]:
        """The genes that do not hold what the recipe has, with that."""
        own = {gene: _own(recipe, gene.path) for gene in self.genes}
        return [f"{gene.path} ({'none' if v is None else _word(v)})" for gene, v in own.items() if gene.like(v) is None]

    def holds(self, genes: Genes) -> bool:
        return len(genes) == len(self.genes) and all(g.holds(v) for g, v in zip(self.genes, genes, strict=True))

    def overrides(self, genes: Genes) -> list[Override]:
        """By path; the kind of the schedule last, which takes the others along by the names it has for them."""
        return sorted(zip(self.paths, genes, strict=True), key=lambda pair: pair[0] == "schedule.kind")

    def facts(self) -> dict[str, str]:
        """What is stored and compared: path to range."""
        return {gene.path: gene.text().partition("=")[2] for gene in self.genes}


def parse_gene(text: str) -> Gene:
    """A gene as it is written: `path=log:1e-3:3`, `path=int:1:4`, `path=choice:A,B`.

    Raises:
        UsageError: it is not of that form, or its range holds no two values.
    """
    path, equals, ranged = text.partition("=")
    kind, colon, rest = ranged.partition(":")
    shown = f"--gene {text[:80]}"
    if not (path.strip() and equals and colon):
        raise UsageError("a gene has the form path=kind:range", shown, "as in schedule.peak=log:1e-3:3")
    if kind not in KINDS:
        raise UsageError(f"no kind of gene is named {kind[:40]!r}", shown, nearest(kind, list(KINDS)))
    if kind == "choice":
        return Gene(path.strip(), kind, choices=_choices(rest, shown))
    try:
        low, high = (float(part) for part in rest.split(":"))
    except ValueError:
        raise UsageError("a range is two numbers", shown, f"as in {path}={kind}:1:4") from None
    whole = kind in ("int", "int-log")
    least = {"log": "above 0", "int-log": "at least 1"}.get(kind, "")
    check(
        "this gene cannot be searched",
        [
            fault
            for fault in (
                None if math.isfinite(low) and math.isfinite(high) else Fault("range", rest, "must be finite"),
                None if low < high else Fault("range", rest, "the first number must be the smaller"),
                None if kind != "log" or low > 0 else Fault("low", low, f"must be {least}"),
                None if kind != "int-log" or low >= 1 else Fault("low", low, f"must be {least}"),
                None
                if not whole or (low % 1 == 0 and high % 1 == 0)
                else Fault("range", rest, "must be whole numbers"),
            )
            if fault is not None
        ][:1],
        shown,
    )
    return Gene(path.strip(), kind, int(low) if whole else low, int(high) if whole else high)


def _choices(text: str, shown: str) -> tuple[Value, ...]:
    values = tuple(_value(word.strip()) for word in text.split(","))
    if len(values) < 2 or len({repr(value) for value in values}) < len(values) or "" in values:
        raise UsageError("a choice needs two or more values, all different", shown, "as in network.shortcut=choice:A,B")
    return values


def _value(word: str) -> Value:
    try:
        value: Any = tomllib.loads(f"value = {word}")["value"]
    except (ValueError, RecursionError):
        return word
    return value if isinstance(value, bool | int | float | str) else word


def _number(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def _word(value: Value) -> str:
    """As it is read again: text that would be read as something else stands in quotes."""
    if isinstance(value, str) and _value(value.strip()) != value:
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_number(value: Value) -> bool:
    return not isinstance(value, bool | str)


def _same(first: Value, second: Value) -> bool:
    return first is second or (type(first) is type(second) and first == second)


RATES: dict[str, tuple[float, float]] = {"sgd": (1e-3, 3.0), "adam": (1e-5, 3e-2), "adamw": (1e-5, 3e-2)}
"""Rates that an optimiser may want; what the default space searched for every recipe in earlier releases."""
REACH = 20.0
"""The default space searches rates (log) from so small a part of the recipe's own to so many times it."""
_MOST = {"sgd": 3.0, "adam": 0.1, "adamw": 0.1}
_DECAYS = {"sgd": (1e-6, 1e-2), "adam": (1e-6, 1e-2), "adamw": (1e-4, 1.0)}  # adamw's is multiplied by the rate
_MOMENTA = (0.6, 0.99)
"""Of Adam: beta1. In earlier releases in a cycle, too."""
SPACES = ("default", "seed001")


def named_space(name: str, recipe: Recipe, earlier: bool = False) -> Space:
    """A space by its name, its genes addressed as the recipe's schedule has them.

    Args:
        earlier: as releases had it whose default space was the same for every recipe.

    Raises:
        UsageError: no such space, or it does not fit the recipe.
    """
    if name not in SPACES:
        raise UsageError(f"no space is named {name[:80]!r}", "--space", nearest(name, list(SPACES)))
    cycle = recipe.schedule.kind == "one-cycle"
    rate = "schedule.peak" if cycle else "schedule.rate"
    momentum = "schedule.momentum_low" if cycle else "optimiser.momentum"
    decay = "optimiser.weight_decay"
    if name == "seed001":
        if not cycle:
            remedy = "add --set schedule.kind=one-cycle, or choose another space"
            raise UsageError("the space seed001 searches the lowest momentum of a cycle", "--space", remedy)
        ranges = (Gene(rate, "linear", 1e-6, 1e-2), Gene(decay, "linear", 0.0, 0.1), Gene(momentum, "linear", 0.1, 1.5))
        return Space(name, ranges)
    kind = recipe.optimiser.kind
    if kind not in RATES:
        raise UsageError(f"no default space is known for the optimiser {kind}", "--space", "name genes with --gene")
    rates, momenta = (RATES[kind], _MOMENTA) if earlier else (_rates(recipe), _momenta(recipe))
    return Space(
        name, (Gene(rate, "log", *rates), Gene(decay, "log", *_DECAYS[kind]), Gene(momentum, "linear", *momenta))
    )


def _rates(recipe: Recipe) -> tuple[float, float]:
    """Around the recipe's own rate; a rate for SGD, which Adam cannot want, says nothing about Adam's."""
    schedule, kind = recipe.schedule, recipe.optimiser.kind
    own, (least, most) = schedule.peak if isinstance(schedule, OneCycle) else schedule.rate, RATES[kind]
    if own > most and kind != "sgd":
        return least, most
    low, high = own / REACH, min(own * REACH, max(_MOST[kind], 2 * own))
    return float(f"{low:.3g}"), float(f"{high:.3g}")


def _momenta(recipe: Recipe) -> tuple[float, float]:
    """In a cycle momentum is lowest where the rate is highest: its lowest is searched up to the recipe's own."""
    if not isinstance(recipe.schedule, OneCycle):
        return _MOMENTA
    own = recipe.optimiser.momentum
    return (_MOMENTA[0], own) if own > _MOMENTA[0] else (0.0, own) if own > 0 else _MOMENTA


def _own(recipe: Recipe, path: str) -> Value | None:
    """A setting of the recipe. The lowest momentum of a cycle that keeps its momentum is that momentum."""
    found: Any = recipe.model_dump(mode="json")
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None and path == "schedule.momentum_low":
        found = recipe.optimiser.momentum
    asked = path not in ("network.stem",) and recipe.start.weights is None  # what the images or the weights decide
    if found is None and path.startswith("network.") and asked:  # what the named network has
        found = check_network(recipe).model_dump(mode="json").get(path.removeprefix("network."))
    return found if isinstance(found, bool | int | float | str) else None


_IMAGES = frozenset(
    f"data.{name}"
    for name in ("dataset", "labels", "path", "validation", "test", "classes", "limit", "per_class", "draw", "group")
)
"""Settings that say which images are trained on and which judged: no genes, since fitnesses would not compare."""


def asked_space(recipe: Recipe, name: str | None, genes: Sequence[str], stored: Mapping[str, str]) -> Space:
    """The space that is asked for again; what an earlier release made of the same words, where a study has that."""
    found = make_space(recipe, name, genes)
    if found.facts() == stored or (name is None and genes):
        return found
    before = make_space(recipe, name, genes, earlier=True)
    return before if before.facts() == stored else found


def make_space(recipe: Recipe, name: str | None, genes: Sequence[str], earlier: bool = False) -> Space:
    """The space of a study: the genes of a named space, some replaced, others added; without a name, own ones alone.

    Args:
        earlier: as for `named_space`.

    Raises:
        UsageError: a gene is malformed, given twice, or names no setting of the recipe.
    """
    own = [parse_gene(text) for text in genes]
    paths = [gene.path for gene in own]
    twice = [
        Fault(path, "a gene", "given twice", "give it once") for path in dict.fromkeys(paths) if paths.count(path) > 1
    ]
    check("this space cannot be searched", twice, "--gene")
    named = named_space(name or "default", recipe, earlier).genes if name or not own else ()
    table = {gene.path: gene for gene in named} | {gene.path: gene for gene in own}
    space = Space((name or "default") if not own else f"{name}+" if name else "own", tuple(table.values()))
    unlike = [path for path in space.paths if path in _IMAGES or path.startswith("evaluation.")]
    faults = [
        Fault(path, "a gene", "individuals would be judged otherwise, each in its own way", "leave it out")
        for path in unlike
    ]
    check("this space cannot be searched", faults, "--gene")
    for gene in space.genes:
        _try(recipe, gene)
        if gene.kind == "choice":
            _tell_of_misfits(recipe, gene)
    return space


def _tell_of_misfits(recipe: Recipe, gene: Gene) -> None:
    """Say which choices the recipe does not take as it is; other genes may make them fit, so none is refused."""
    for value in gene.choices:
        try:
            check_network(override(recipe, [(gene.path, value)]))
        except UsageError as error:
            what = "%s of %s does not suit the recipe, and individuals that have it may fail: %s"
            tell_once(what % (_word(value), gene.path, error.remedy))


def _try(recipe: Recipe, gene: Gene) -> None:
    """Refuse a gene none of whose values the recipe takes; single values may fail, and are then recorded so."""
    first = UsageError("no value was tried")
    for place in (0.5, 0.0, 1.0, 0.25, 0.75, *(n / 16 for n in range(1, 16, 2))):
        try:
            override(recipe, [(gene.path, gene.at(place))])
            return
        except UsageError as error:
            first = error
    raise UsageError(f"no value of this gene suits the recipe: {first.remedy}", f"--gene {gene.text()}", "correct it")
