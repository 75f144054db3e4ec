"""What of a recipe was changed beyond what its study changes: figures of such runs are not the paper's, and say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, Final

from residual.errors import UsageError
from residual.files import canonical
from residual.models import NETWORKS, NetworkSpec, resolve
from residual.studies import arm_table
from residual.studies.arm_table import Arms, Changes
from residual.studies.evidence import Evidence, RecipeFacts
from residual.training.recipe import override
from residual.training.recipes import RECIPES

FULL_LENGTH: Final = "at_64000"
"""Of `measured`: the arms that were trained as long as in the paper."""
_JUDGED: Final = ("cifar10-paper", "cifar100-paper", "seed001-onecycle", "imagenet-steps")
"""Recipes of which claims speak; what other recipes change is their user's."""
_USUAL: Final = (
    *("evaluation.every_epochs", "evaluation.test", "evaluation.watch_test", "evaluation.batch_size"),
    *("steps", "data.validation", "data.limit"),  # the last has a caveat of its own
)
_DROPS, _WARMUP = "schedule.drops", "schedule.warmup"
_TRUER: Final[Mapping[str, Mapping[str, Any]]] = {
    "cifar10-paper": {"network.norm_group": 64},
    "cifar100-paper": {"network.norm_group": 64},
    "imagenet-steps": {"network.norm_group": 32},
}
"""What a recipe itself recommends for being nearer to its paper: the images that one GPU of its normalises together."""
_RESNET_164: Final = {"network.unit": "bottleneck", "network.shortcut": "B"}
"""[2] has its table of orders of these units, too."""
_NETWORK: Final = re.compile(r"(plain|resnet|preact)-(?:\d+-as-)?(\d+)")
_OF_NETWORKS: Final = ("degradation", "tiny-imagenet", "responses", "lesion", "probes")
_RATES: Final = {
    "momentum": arm_table.MIDDLE,
    "batchnorm": arm_table.GENTLE,
    "initialisation": arm_table.GENTLE,
}


def departures(evidence: Evidence, arm: str) -> dict[str, Any]:
    """The changes of an arm's recipe that are neither usual nor, with these values, its study's own, by path."""
    facts = evidence.recipes[arm]
    if facts.name not in _JUDGED:
        return {}
    own = {**_TRUER.get(facts.name, {}), **own_changes(evidence, arm)}
    if evidence.study == "units" and _RESNET_164.items() <= facts.changed.items():
        own |= _RESNET_164
    return {path: value for path, value in facts.changed.items() if not _expected(path, value, facts, own)}


def _expected(path: str, value: Any, facts: RecipeFacts, own: Changes) -> bool:
    if path in _USUAL or (path in own and canonical([value]) == canonical([own[path]])):
        return True
    recipe = RECIPES[facts.name]
    steps = facts.changed.get("steps", recipe.steps)
    if steps is None or path not in (_DROPS, _WARMUP) or (path == _WARMUP and path not in own):
        return False
    wanted = arm_table.drops(recipe, steps) if path == _DROPS else arm_table.fitted(own[path], steps)
    return canonical([value]) == canonical([wanted])


def own_changes(evidence: Evidence, arm: str) -> Changes:
    """What the study itself changes for an arm; of an arm that is none of its own nothing."""
    try:
        own = _arms(evidence, arm).get(arm, {})
    except UsageError:  # a depth of which there is no network
        return {}
    return {**own, **({"schedule.rate": _RATES[evidence.study]} if evidence.study in _RATES else {})}


def _arms(evidence: Evidence, arm: str) -> Arms:
    study, depth = evidence.study, evidence.settings.get("depth", 0)
    if study in _OF_NETWORKS:
        named = _NETWORK.fullmatch(arm)
        return {arm: _of_network(*named.groups()) if named else {"network.name": arm}}
    if study in ("units", "cifar-100"):
        return arm_table.units(depth, evidence.settings.get("networks", ()))
    tables: Mapping[str, tuple[Arms, str]] = {
        "momentum": (arm_table.MOMENTUM, "resnet"),
        "batchnorm": (arm_table.BATCHNORM, "plain"),
        "dropout": (arm_table.DROPOUT, "plain"),
    }
    if study in tables:
        table, kind = tables[study]
        return arm_table.at_depth(table, kind, depth)
    if study == "shortcuts":
        return arm_table.shortcuts(depth)
    return arm_table.INITIALISATION if study == "initialisation" else arm_table.SEED001


def _of_network(kind: str, depth: str) -> Changes:
    return arm_table.degradation([int(depth)], [kind])[f"{kind}-{depth}"]


def departed(evidence: Evidence) -> list[str]:
    """In words, for verdicts; an empty list where every arm is its study's."""
    found: dict[str, None] = {}
    for arm in evidence.recipes:
        found |= {f"{path}={value}": None for path, value in departures(evidence, arm).items()}
    return [f"the recipe {_names(evidence)} was changed: {', '.join(found)}"] if found else []


def warmed(evidence: Evidence) -> list[str]:
    """In words, that the papers' warm-up takes a larger part of a short run than of theirs."""
    found: dict[str, None] = {}
    for facts in evidence.recipes.values():
        warmup, steps = facts.changed.get(_WARMUP), facts.changed.get("steps")
        if not isinstance(warmup, Mapping) or not steps or facts.name not in _JUDGED:
            continue
        whole = RECIPES[facts.name].steps
        if whole and warmup["steps"] * whole > 2 * arm_table.WARMUP[_WARMUP]["steps"] * steps:
            part = f"the first {warmup['steps']:,} of {steps:,} iterations have the rate {warmup['rate']:g}"
            found[f"{part}, where [2] has {arm_table.WARMUP[_WARMUP]['steps']:,} of {whole:,}"] = None
    return [*found]


def _names(evidence: Evidence) -> str:
    return " and ".join(dict.fromkeys(facts.name for facts in evidence.recipes.values()))


def figures_of(evidence: Evidence) -> Mapping[str, Any]:
    """What conditions are judged on: `measured`, without arms of the paper's length that are not of its recipe, and
    with those that are, under an order's name, a network of the catalogue under that name as well."""
    full = evidence.measured.get(FULL_LENGTH)
    if not isinstance(full, Mapping):
        return evidence.measured
    recipes = evidence.recipes
    own = {
        arm: figures
        for arm, figures in full.items()
        if arm not in recipes or not (departures(evidence, arm) or "data.limit" in recipes[arm].changed)
    }
    named = {name: figures for arm, figures in own.items() if (name := _catalogued(evidence, arm)) is not None}
    return {**evidence.measured, FULL_LENGTH: {**named, **own}}


def _catalogued(evidence: Evidence, arm: str) -> str | None:
    """The network of the catalogue that an arm trained."""
    spec = spec_of(evidence, arm)
    if spec is None:
        return None
    names = (f"{kind}-{spec.weighted_layers}{end}" for kind, end in product(("resnet", "preact"), ("", "-bottleneck")))
    known = (resolve(name, classes=10) for name in names if name in NETWORKS)
    return next((one.name for one in known if one == spec.model_copy(update={"name": one.name})), None)


def spec_of(evidence: Evidence, arm: str) -> NetworkSpec | None:
    """The network of an arm, for ten classes; None where its recipe does not say it."""
    facts = evidence.recipes.get(arm)
    if facts is None or facts.name not in RECIPES:
        return None
    return resolve(override(RECIPES[facts.name], facts.changed.items()).network, classes=10)


def strongest(all_of_it: Iterable[Evidence], study: str) -> list[Evidence]:
    """The evidence of a study, best first: of the recipe unchanged, longer runs, more seeds, more arms, the newer date;
    smoke after all others.

    On what device they ran says nothing of how far figures carry.
    """

    def place(one: Evidence) -> tuple[bool, bool, int, int, int, str]:
        steps = int(one.settings.get("steps", 0))
        return one.budget != "smoke", not departed(one), steps, len(one.seeds), len(one.recipes), one.date

    return sorted((one for one in all_of_it if one.study == study), key=place, reverse=True)
