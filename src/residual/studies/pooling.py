"""Result files of the same study with other seeds, or other networks, count together, as if one command had trained
them all.

A study that takes hours can so be shared by machines that see no common folder, `--first` telling each where to begin,
`--depths` and `--kinds` which networks are its own. Of two files with a run in common only the stronger counts: a run
must not be counted twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from residual.files import Facts, canonical
from residual.studies.arms import OTHERS, spread
from residual.studies.departures import FULL_LENGTH, own_changes, strongest
from residual.studies.evidence import Evidence
from residual.studies.student import paired

POOLED: Final = (
    *("degradation", "units", "shortcuts", "momentum", "batchnorm", "dropout", "initialisation", "seed001"),
    *("responses", "lesion", "probes", "tiny-imagenet", "cifar-100"),
)
"""Studies whose figures are values by seed. Those of a search and of measured times are not."""
BY_NETWORK: Final = ("degradation", "tiny-imagenet", "responses", "lesion", "probes")
"""Studies whose arms are networks, measured by themselves: any of them may come from a file of its own."""
_NAMED: Final = ("depths", "kinds")
"""Of `settings`: which networks a file has."""
_UNEVEN: Final = ("lost", "seeds", "lengths")
"""Of `settings`: its networks have not the same seeds, or not the same length; such a file stands for itself."""


def pooled(found: Iterable[Evidence]) -> list[Evidence]:
    """All evidence, files of the same study, settings, recipes, data and budget but other seeds or networks as one."""
    of_seeds = _grouped(found, POOLED, _sameness, _together)
    of_networks = _grouped(of_seeds, BY_NETWORK, _but_networks, _side_by_side)
    if len(of_networks) == len(of_seeds):
        return of_seeds
    return _grouped(of_networks, POOLED, _sameness, _together)  # what is whole now has other seeds than another whole


def _grouped(
    found: Iterable[Evidence],
    studies: Collection[str],
    key: Callable[[Evidence], bytes],
    together: Callable[[Sequence[Evidence]], list[Evidence]],
) -> list[Evidence]:
    """What has the same key put together, where the files are of such studies and even."""
    groups: dict[object, list[Evidence]] = {}
    for one in found:
        alone = one.study not in studies or not one.seeds or any(name in one.settings for name in _UNEVEN)
        groups.setdefault(id(one) if alone else key(one), []).append(one)
    return [whole for group in groups.values() for whole in together(group)]


def _sameness(one: Evidence) -> bytes:
    """What files must have in common; the seeds and where they were trained are left out.

    How often runs were evaluated is none of a recipe's hash, but means and rises of a curve depend on it.
    """
    often = "evaluation.every_epochs"
    recipes = {arm: [facts.name, facts.sha256, facts.changed.get(often)] for arm, facts in one.recipes.items()}
    return canonical([one.study, one.definition, one.budget, dict(one.settings), recipes, dict(one.data)])


def _but_networks(one: Evidence) -> bytes:
    """What files of other networks must have in common: the seeds, and what is changed in all of them."""
    settings = {name: value for name, value in one.settings.items() if name not in _NAMED}
    common = {canonical([facts.name, _common(one, arm)]) for arm, facts in one.recipes.items()}
    return canonical([one.study, one.definition, one.budget, settings, one.seeds, dict(one.data)]) + b"".join(
        sorted(common)
    )


def _common(one: Evidence, arm: str) -> Facts:
    """The changes of an arm's recipe without those that make its network."""
    own = own_changes(one, arm)
    return {path: value for path, value in one.recipes[arm].changed.items() if path not in own}


def _side_by_side(group: Sequence[Evidence]) -> list[Evidence]:
    """The files with other networks as one, then those that have one in common with a stronger file."""
    taken: list[Evidence] = []
    left: list[Evidence] = []
    for one in strongest(group, group[0].study):
        apart = all({*one.recipes}.isdisjoint(other.recipes) for other in taken)
        (taken if apart else left).append(one)
    first, *others = taken
    for other in others:
        first = _with_networks(first, other)
    return [first, *left]


def _with_networks(one: Evidence, other: Evidence) -> Evidence:
    """Two files of the same seeds and other networks as one, which are told by kind and then by depth."""
    recipes = {**one.recipes, **other.recipes}
    arms = sorted(recipes, key=_kind_and_depth)
    settings = {
        name: sorted({*value, *other.settings[name]}) if name in _NAMED else value
        for name, value in one.settings.items()
    }
    return replace(
        _told_together(one, other),
        measured=_beside(arms, one.measured, other.measured),
        series={name: _beside(arms, table, other.series.get(name, {})) for name, table in one.series.items()},
        recipes={arm: recipes[arm] for arm in arms},
        settings=settings,
    )


def _kind_and_depth(arm: str) -> tuple[str, int, str]:
    kind, _, depth = arm.partition("-")
    return kind, int(depth) if depth.isdecimal() else 0, arm


def _beside(arms: Sequence[str], one: Mapping[str, Any], other: Mapping[str, Any]) -> Facts:
    """Tables by network as one. A figure of a file as a whole that both have is that of the first."""
    both = {**other, **one}
    if isinstance(a := one.get(FULL_LENGTH), Mapping) and isinstance(b := other.get(FULL_LENGTH), Mapping):
        both[FULL_LENGTH] = _beside(arms, a, b)
    return {name: both[name] for name in (*(arm for arm in arms if arm in both), *both)}


def _together(group: Sequence[Evidence]) -> list[Evidence]:
    """The files with disjoint seeds as one, then those of them that have figures of their own, then those left over."""
    taken: list[Evidence] = []
    left: list[Evidence] = []
    for one in strongest(group, group[0].study):
        apart = all(set(one.seeds).isdisjoint(other.seeds) for other in taken)
        (taken if apart else left).append(one)
    first, *others = sorted(taken, key=lambda one: one.seeds)
    for other in others:
        first = _joined(first, other)
    # A release may measure more than the one that wrote the others: such figures are had from that file alone.
    own = [one for one in taken if others and _named(one.measured) - _named(first.measured)]
    return [first, *own, *left]


def _named(measured: Mapping[str, Any], before: str = "") -> set[str]:
    """The paths of all figures."""
    found: set[str] = set()
    for name, value in measured.items():
        deeper = isinstance(value, Mapping) and "values" not in value
        found |= _named(value, f"{before}{name}.") if deeper else {f"{before}{name}"}
    return found


def _joined(one: Evidence, other: Evidence) -> Evidence:
    """Two files as one. Their provenance is told for both, where it differs."""
    whole = _told_together(one, other)
    return replace(
        whole,
        caveats=(*whole.caveats, *_computed(one, other)),
        measured=_figures(one.measured, other.measured),
        series=_series(one.series, other.series, (len(one.seeds), len(other.seeds))),
        seeds=(*one.seeds, *other.seeds),
    )


def _computed(one: Evidence, other: Evidence) -> Iterator[str]:
    """That the seeds were not trained in the same numbers, which are part of what makes runs differ."""
    words = []
    for some in (one, other):
        name = next((name for name in ("trained in", "precision") if name in some.device), None)
        if name is None:
            return
        words.append((f"seed{'s' * (len(some.seeds) > 1)} {', '.join(map(str, some.seeds))}", some.device[name]))
    (these, a), (those, b) = words
    if a != b:
        yield f"{these} trained in {a}, {those} in {b}"


def _told_together(one: Evidence, other: Evidence) -> Evidence:
    """The first file with the provenance of both."""
    return replace(
        one,
        command="; ".join(dict.fromkeys((one.command, other.command))),
        device=_told(one.device, other.device),
        caveats=tuple(dict.fromkeys((*one.caveats, *other.caveats))),
        seconds=one.seconds + other.seconds,
        date=max(one.date, other.date),
        commit=_both(one.commit, other.commit) or None,
        versions=_told(one.versions, other.versions),
        machine=_told(one.machine, other.machine),
        of=_both(one.of, other.of, " and "),
        source=_both(one.source, other.source, " and "),
    )


def _both(one: object, other: object, between: str = ", ") -> str:
    """Each word once, in order, also of values that are several words already."""
    return between.join(dict.fromkeys(word for v in (one, other) if v is not None for word in str(v).split(between)))


def _told(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A table of provenance; a value that differs is told for both."""
    names = dict.fromkeys((*one, *other))
    return {
        name: one[name] if name in one and one[name] == other.get(name) else _both(one.get(name), other.get(name))
        for name in names
    }


def _figures(one: Mapping[str, Any], other: Mapping[str, Any]) -> Facts:
    """The figures that both have: the spread over all values; of single numbers and truths the larger, which is the
    worse (a difference that should be none) or the same (parameters, steps)."""
    found: Facts = {}
    for name in one:
        if name not in other:
            continue
        a, b = one[name], other[name]
        if not isinstance(a, Mapping) or not isinstance(b, Mapping):
            number = all(isinstance(value, int | float) for value in (a, b))
            if number or a == b:
                found[name] = max(a, b) if number else a
        elif "values" in a and "values" in b:
            values = [*a["values"], *b["values"]]
            found[name] = paired(values) if "low" in a else spread(values)
        else:
            found[name] = _figures(a, b)
    return found


def _series(one: Mapping[str, Any], other: Mapping[str, Any], counts: tuple[int, int]) -> Facts:
    """Curves over the seeds of both; of points that are those of one run, both."""
    found: Facts = {}
    for name, a in one.items():
        b = other.get(name)
        if not isinstance(a, Mapping) or not isinstance(b, Mapping):
            found[name] = a
        elif {"step", "mean", "std"} <= {*a} & {*b}:
            found[name] = _curve(a, b, counts)
        elif any(isinstance(value, list) for value in a.values()):
            runs = ({key: value for key, value in b.items() if key != OTHERS}, *b.get(OTHERS, ()))
            others = [*a.get(OTHERS, ()), *(run for run in runs if run != a)]
            found[name] = {**a, **({OTHERS: others} if others else {})}
        else:
            found[name] = _series(a, b, counts)
    return found


def _curve(one: Mapping[str, Any], other: Mapping[str, Any], counts: tuple[int, int]) -> Facts:
    """Mean and deviation over both groups of runs at the steps they share, from those of each (Chan et al. 1979)."""
    tables = [dict(zip(c["step"], zip(c["mean"], c["std"], strict=True), strict=True)) for c in (one, other)]
    steps = [step for step in one["step"] if step in tables[1]]
    n, m = counts
    means, deviations = [], []
    for step in steps:
        (a, s), (b, t) = (table[step] for table in tables)
        means.append((n * a + m * b) / (n + m))
        squares = (n - 1) * s**2 + (m - 1) * t**2 + n * m / (n + m) * (a - b) ** 2
        deviations.append(math.sqrt(squares / (n + m - 1)))
    return {"step": steps, "mean": means, "std": deviations}
