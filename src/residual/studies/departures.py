"""What of a recipe was changed beyond what its study changes: figures of such runs are not the paper's, and say so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from residual.studies.arm_table import SEED001
from residual.studies.evidence import Evidence, RecipeFacts

FULL_LENGTH: Final = "at_64000"
"""Of `measured`: the arms that were trained as long as in the paper."""
_JUDGED: Final = ("cifar10-paper", "cifar100-paper", "seed001-onecycle")
"""Recipes of which claims speak; what other recipes change is their user's."""
_PARTS: Final = frozenset(
    f"network.{part}"
    for part in (
        *("name", "depths", "order", "shortcut", "shortcut_scale", "branch_scale", "gate", "shortcut_dropout"),
        *("dropout", "norm", "initialisation", "unit"),
    )
)
"""What arms change of a network; any other part, such as its widths, makes it another than the paper's."""
_USUAL: Final = (
    *("evaluation.", "steps", "schedule.drops", "schedule.warmup", "schedule.hold"),
    *("data.validation", "data.limit"),  # the second has a caveat of its own
)
_SEED001: Final = tuple(dict.fromkeys(path for changes in SEED001.values() for path in changes))
_OWN: Final[Mapping[str, tuple[str, ...]]] = {
    "momentum": ("schedule.rate", "optimiser.momentum"),
    "batchnorm": ("schedule.rate",),
    "initialisation": ("schedule.rate",),
    "seed001": _SEED001,
    "find-rate": _SEED001,
}


def departures(evidence: Evidence, facts: RecipeFacts) -> dict[str, Any]:
    """The changes of an arm's recipe that are neither usual nor its study's own, by path."""
    if facts.name not in _JUDGED:
        return {}
    expected = (*_USUAL, *_OWN.get(evidence.study, ()))
    return {
        path: value for path, value in facts.changed.items() if path not in _PARTS and not path.startswith(expected)
    }


def departed(evidence: Evidence) -> list[str]:
    """In words, for verdicts; an empty list where every arm is its study's."""
    found: dict[str, None] = {}
    for facts in evidence.recipes.values():
        found |= {f"{path}={value}": None for path, value in departures(evidence, facts).items()}
    return [f"the recipe {_names(evidence)} was changed: {', '.join(found)}"] if found else []


def _names(evidence: Evidence) -> str:
    return " and ".join(dict.fromkeys(facts.name for facts in evidence.recipes.values()))


def figures_of(evidence: Evidence) -> Mapping[str, Any]:
    """What conditions are judged on: `measured`, without arms of the paper's length that are not of its recipe."""
    full = evidence.measured.get(FULL_LENGTH)
    if not isinstance(full, Mapping):
        return evidence.measured
    recipes = evidence.recipes
    own = {
        arm: figures
        for arm, figures in full.items()
        if arm not in recipes or not (departures(evidence, recipes[arm]) or "data.limit" in recipes[arm].changed)
    }
    return {**evidence.measured, FULL_LENGTH: own}


def strongest(all_of_it: Iterable[Evidence], study: str) -> list[Evidence]:
    """The evidence of a study, best first: of the recipe unchanged, longer runs, more seeds, the newer date; smoke
    after all others.

    On what device they ran says nothing of how far figures carry.
    """

    def place(one: Evidence) -> tuple[bool, bool, int, int, str]:
        steps = int(one.settings.get("steps", 0))
        return one.budget != "smoke", not departed(one), steps, len(one.seeds), one.date

    return sorted((one for one in all_of_it if one.study == study), key=place, reverse=True)
