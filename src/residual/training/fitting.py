"""What is found out by trial before step 0, where that is asked for: a batch size, and a length from a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from residual.data.datasets import Division
from residual.data.preprocessing import Preprocessing, measure
from residual.data.source import Dataset
from residual.errors import UsageError
from residual.files import Facts
from residual.models import NetworkSpec
from residual.training.batch_trial import choose_batch
from residual.training.budget import choose_length
from residual.training.compute import Compute
from residual.training.durations import in_words, seconds_of
from residual.training.recipe import Override, Recipe, override
from residual.training.start import Start
from residual.training.trial import untouched

_AS_MANY = "as many images as in batches of"


@dataclass(frozen=True)
class Wishes:
    """`budget`: seconds since `began` (monotonic), None for the recipe's own length; `batch`: whether to try sizes."""

    budget: float | None = None
    batch: bool = False
    began: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether anything is found out by trials."""
        return self.batch or self.budget is not None

    @staticmethod
    def of(budget: str | None, batch: bool, changes: Iterable[Override], since: float | None = None) -> Wishes:
        """
        Raises:
            UsageError: no such time, or what is to be found out is given as well.
        """
        given = {path for path, _ in changes}
        lengths = sorted(given & {"epochs", "steps"})
        if budget is not None and lengths:
            what = f"a budget chooses the length, and {' and '.join(lengths)} is given as well"
            raise UsageError(what, "--budget", "give one of the two")
        if batch and "batch_size" in given:
            raise UsageError("the batch size is to be tried, and is given as well", "--batch-size", "give it once")
        seconds = None if budget is None else seconds_of(budget, "--budget")
        return Wishes(seconds, batch, time.monotonic() if since is None else since)

    def found(self, facts: Facts, where: object) -> list[Override]:
        """What the trials of these wishes have come to in a run that was begun with them, which is begun again.

        Args:
            facts: what run.json holds.

        Raises:
            UsageError: the run was begun without them, or with another budget.
        """
        had, unlike = facts["chosen"].get("budget", {}).get("seconds"), []
        if self.budget is not None and self.budget != had:
            before = f"{in_words(had)} in the run" if had is not None else "none in the run"
            unlike.append(f"budget: {before}, {in_words(self.budget)} asked")
        if self.batch and "batch_sizes_tried" not in facts["chosen"]:
            unlike.append("batch_size: given in the run, auto asked")
        if unlike:
            raise UsageError(f"the run differs: {'; '.join(unlike)}", where, "leave it out, or start a new run")
        names = ["batch_size"] if self.batch else []
        for name in ("steps", "schedule.drops"):
            of_the_batch = str(facts["reasons"].get(name, "")).startswith(_AS_MANY)
            names += [name] if self.budget is not None or (self.batch and of_the_batch) else []
        return [(name, facts["changed"][name]) for name in names if name in facts["reasons"]]


@dataclass(frozen=True)
class Fitted:
    """What the trials came to: changes of the recipe, their reasons, and the measurements for run.json.

    `constants` are those of the training images, where they were measured for it.
    """

    changes: tuple[Override, ...] = ()
    reasons: Facts = field(default_factory=dict)
    measured: Facts = field(default_factory=dict)
    constants: Preprocessing | None = None


def _as_many_images(recipe: Recipe, own: int, size: int, asked: Collection[str]) -> list[Override]:
    """What a recipe counts in steps of its own batch, in those of another: its length, and where its rate falls."""
    share = own / size
    found: list[Override] = []
    if recipe.steps is not None and "steps" not in asked:
        found.append(("steps", max(1, round(recipe.steps * share))))
    drops = getattr(recipe.schedule, "drops", ())
    if drops and "schedule.drops" not in asked and not ("steps" in asked and recipe.steps is not None):
        moved = [max(1, round(drop * share)) for drop in drops]
        if len({*moved}) == len({*drops}):  # else a run of so few steps that the check of its length tells more
            found.append(("schedule.drops", moved))
    return found if share != 1 else []


def fit(
    wishes: Wishes,
    recipe: Recipe,
    length: Callable[[Recipe], int],
    data: tuple[Dataset, Division],
    spec: NetworkSpec,
    compute: Compute,
    beside: Path,
    heed: Callable[[], None],
    asked: Collection[str] = (),
    own: int | None = None,
    start: Start | None = None,
) -> Fitted:
    """Try what is wished for; nothing of the run is touched.

    Args:
        asked: the settings that were given by hand; these stay as they are.
        length: the steps of a recipe on these images.
        beside: where the run folder will be made.
        own: the batch of the recipe, where another was settled, since there are few images.
        start: trained weights, which have constants of their own; else they are measured, once.

    Raises:
        UsageError, OutOfMemory: what is wished for cannot be had.
    """
    changes: list[Override] = []
    reasons: Facts = {}
    measured: Facts = {}
    if not wishes.measured:
        return Fitted()
    own, (dataset, division) = own or recipe.batch_size, data
    with untouched(compute.torch_device):
        if start is not None:
            constants = replace(start, said=[]).fit(dataset, {}).preprocessing
        else:
            constants = measure(dataset.train, division.training, recipe.data.normalisation)
        if wishes.batch:
            size, why, tried = choose_batch(recipe, data, spec, compute, heed, own, constants)
            changes, reasons, measured = [("batch_size", size)], {"batch_size": why}, {"batch_sizes_tried": tried}
            for path, value in _as_many_images(recipe, own, size, asked):
                changes.append((path, value))
                reasons[path] = f"{_AS_MANY} {own:,}"
            recipe = override(recipe, changes)
        if wishes.budget is not None:
            about = (wishes.budget, wishes.began, recipe, length(recipe))
            found = choose_length(*about, data, spec, compute, beside, heed, constants)
            changes = [*dict([*changes, *found.changes]).items()]
            reasons |= found.reasons
            measured["budget"] = found.facts
    return Fitted(tuple(changes), reasons, measured, constants if start is None else None)
