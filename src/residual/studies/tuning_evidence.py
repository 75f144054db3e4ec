"""A finished comparison of searches as evidence for what seed 001 says of its own: with and without it, about the same.

Errors are in percent; the unit is the search, whose value is the mean over the fresh trainings of its winner.
"""

from __future__ import annotations

from typing import Any

from residual.errors import ResidualError
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.studies.arms import PRIVATE, spread
from residual.studies.comparison import Labour
from residual.studies.contest import DEFAULT
from residual.studies.evidence import Budget, Evidence, RecipeFacts, made, recipe_facts
from residual.studies.table import DEFINITIONS
from residual.studies.training_studies import gap
from residual.training.recipe import Recipe, differences
from residual.training.recipes import RECIPES

STUDY, TUNED, SEEDS_SPACE = "tuning", "ga-001", "seed001"
_FIGURES = {"test_error": "top1", "validation_error": "validation_top1", "fitness_error": "fitness"}
_LEAST_STEPS = 500
"""A comparison whose trainings are shorter is smoke."""


def tuning_evidence(labour: Labour, found: Facts, command: str) -> Evidence:
    """The evidence of a finished comparison.

    Args:
        found: its `findings`.
        command: what is stored as the command that makes it.
    """
    measured: dict[str, Any] = {}
    told = [row for row in found["rows"] if row["top1"] is not None]  # all of them, once anything was trained
    for arm in found["arms"]:
        rows = [row for row in told if row["arm"] == arm]
        figures = {name: [row[key] for row in rows if row[key] is not None] for name, key in _FIGURES.items()}
        if rows:
            measured[arm] = {
                name: spread([100 * (1 - v) for v in values]) for name, values in figures.items() if values
            }
    if TUNED in measured:
        measured["tuned"] = measured[TUNED]
        if DEFAULT in measured:
            measured["difference"] = gap(measured[DEFAULT], measured[TUNED])
    recipe, runs, space = labour.contest.recipe, _runs(labour, found), labour.contest.facts["space"]
    facts = runs[0].facts() if runs else {}
    device = (runs[0].result() or {}).get("device", {}) if runs else {}
    on = facts.get("chosen", {}).get("device", "cpu")
    steps = int(found["steps"] or 0)
    budget: Budget = "smoke" if steps < _LEAST_STEPS else "gpu" if on != "cpu" else "cpu"
    names = ("name", "checksums", "training", "validation", "test")
    return made(
        DEFINITIONS[STUDY],
        budget,
        command,
        measured,
        settings={name: found[name] for name in ("trainings", "fresh", "arms")} | {"steps": steps, "space": space},
        recipes=_recipes(recipe),
        seeds=tuple(sorted({row["search"] for row in told})),
        data={name: facts["data"][name] for name in names} if facts else {},
        device=device,
        caveats=tuple(_caveats(recipe, found, space)),
        seconds=round(found["training_seconds"], 1),
    )


def _runs(labour: Labour, found: Facts) -> list[RunFolder]:
    names = [one["run"] for row in found["rows"] for one in row["fresh"] if one["run"] is not None]
    return [RunFolder(labour.contest.folder / name) for name in names]


def _recipes(recipe: Recipe) -> dict[str, RecipeFacts]:
    """The recipe of all arms, genes apart; empty where it is none of ours, or cannot be written as changes of it."""
    if recipe.name not in RECIPES:
        return {}
    plain, asked = RECIPES[recipe.name].model_dump(mode="json"), recipe.model_dump(mode="json")
    changed = {
        path: new
        for path, (_, new) in differences(plain, asked).items()
        if not path.startswith((*PRIVATE, "evaluation."))
    }
    try:
        return {DEFAULT: recipe_facts(recipe.name, changed)}
    except ResidualError:
        return {}


def _caveats(recipe: Recipe, found: Facts, space: Facts) -> list[str]:
    data = found["data"] or {}
    length = f"{recipe.epochs:g} epochs" if recipe.epochs is not None else f"{recipe.steps:,} steps"
    proxy = f"{recipe.network.name}, {data.get('training', 0):,} training images, {length} a training"
    what = [f"{proxy}, where the seed trains a ResNet-50 on all"]
    if space["name"] != SEEDS_SPACE:
        genes = ", ".join(f"{path} {bounds}" for path, bounds in space["genes"].items())
        what.append(f"the space {space['name']} ({genes}), where the seed prints ranges of its own ({SEEDS_SPACE})")
    lost = [f"{row['arm']} {row['search']}" for row in found["rows"] if row["genes"] is None]
    what += [f"searches that failed whole, counted as chance: {', '.join(lost)}"] if lost else []
    what += [] if found["fresh"] > 1 else ["one fresh training of each winner"]
    # The comparison's own verdict is of accuracy, and of an interval that holds together with those of other pairs.
    sign = "differences of error, above zero where the tuned one is worse"
    return [*what, f"{sign}; a single interval, over searches alone"]
