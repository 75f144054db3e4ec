"""The length of a run from the time it may take: what steps, evaluations and checkpoints cost is measured first.

`Costs` are seconds, measured on this machine with this recipe, network and data; `expected` adds them up for a run of
so many steps, and `longest` turns that around. Both are plain arithmetic.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from residual.data.batches import stretches
from residual.data.datasets import Division
from residual.data.preprocessing import Preprocessing
from residual.data.resizing import Stages
from residual.data.source import Dataset
from residual.errors import UsageError
from residual.files import Facts
from residual.models import NetworkSpec
from residual.training.compute import Compute
from residual.training.durations import in_words
from residual.training.recipe import Override, Recipe
from residual.training.schedules import Steps, in_proportion
from residual.training.trial import Trial

SLACK = 0.03
"""Share by which a run may be slower than the trial was, before it is late."""
ENDING = 2.0
"""Seconds allowed for the result and its figure."""
_MEASURED, _LONGEST = 0.02, 12.0
"""Share of the budget that is spent on measuring, and at most so many seconds."""
_MOST = 10**9


@dataclass(frozen=True)
class Costs:
    """Seconds. `steps` are of a step in the order of the stages of progressive resizing, full size last."""

    steps: tuple[float, ...]
    warming: float
    epoch: float
    evaluated_image: float
    checkpoint: float
    opening: float


@dataclass(frozen=True)
class Work:
    """How often each of these is paid for, apart from the length: what follows from recipe and data."""

    images: int
    batch_size: int
    stages: Stages
    every_epochs: float
    validation: int
    test: int
    watched: bool
    judged_twice: bool
    precise: int
    every_seconds: float | None
    every_steps: int | None

    @staticmethod
    def of(recipe: Recipe, division: Division, dataset: Dataset) -> Work:
        return Work(
            images=len(division.training),
            batch_size=recipe.batch_size,
            stages=recipe.data.augment.sizes,
            every_epochs=recipe.evaluation.every_epochs,
            validation=len(division.validation),
            test=len(dataset.test) if recipe.evaluation.test else 0,
            watched=recipe.evaluation.watch_test,
            judged_twice=recipe.evaluation.best != "none",
            precise=recipe.evaluation.precise_statistics,
            every_seconds=recipe.checkpoint.every_seconds,
            every_steps=recipe.checkpoint.every_steps,
        )

    def epochs(self, steps: int) -> float:
        return steps * self.batch_size / self.images


def expected(steps: int, costs: Costs, work: Work) -> float:
    """The seconds of a run of so many steps, from its opening to its result."""
    borders = [0, *(math.ceil(share * steps) for share, _ in work.stages), steps]
    parts = zip(costs.steps, pairwise(borders), strict=True)
    training = sum(cost * (end - start) for cost, (start, end) in parts)
    between = stretches((steps - 1) * work.batch_size, work.images, work.every_epochs)
    evaluated = between * (work.validation + work.watched * work.test)
    evaluated += work.validation + work.test * (1 + work.judged_twice) + min(work.precise, work.images)
    seconds = costs.opening + costs.warming + training + costs.epoch * math.ceil(work.epochs(steps))
    seconds += evaluated * costs.evaluated_image
    checkpoints = 3.0  # before the first step, after the last, and the model
    checkpoints += steps / work.every_steps if work.every_steps else 0
    checkpoints += seconds / work.every_seconds if work.every_seconds else 0
    return seconds + checkpoints * costs.checkpoint + ENDING


def longest(seconds: float, costs: Costs, work: Work) -> int:
    """The most steps that are expected to end within so many seconds, slack included; 0 where not even one is."""

    def fits(steps: int) -> bool:
        return expected(steps, costs, work) * (1 + SLACK) <= seconds

    least, most = 0, _MOST + 1
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least


def measure_costs(trial: Trial, seconds: float, beside: Path, heed: Callable[[], None]) -> Costs:
    """Take real steps at every size of the run, a part of an evaluation and a checkpoint; timed for about `seconds`."""
    sides = [*(side for _, side in trial.recipe.data.augment.sizes), None]
    part = seconds / (len(sides) + 1)
    steps, warming = [], 0.0
    for side in sides:
        batches = trial.batches(side)
        mean, excess = trial.step_seconds(batches, part, heed)
        steps.append(mean)
        warming += excess
    epoch = trial.epoch_seconds(trial.batches(None))
    image = trial.evaluation_seconds(part, heed)
    return Costs(tuple(steps), warming, epoch, image, trial.checkpoint_seconds(beside), trial.opening)


@dataclass(frozen=True)
class Length:
    """What a budget came to: changes of the recipe with their reasons, and all that was measured."""

    changes: tuple[Override, ...]
    reasons: dict[str, str]
    facts: Facts


def choose_length(
    budget: float,
    began: float,
    recipe: Recipe,
    planned: int,
    data: tuple[Dataset, Division],
    spec: NetworkSpec,
    compute: Compute,
    beside: Path,
    heed: Callable[[], None],
    constants: Preprocessing,
) -> Length:
    """As many steps as end `budget` seconds after `began` (monotonic).

    Args:
        planned: the steps of the recipe as it stands, to whose length the drops of its schedule belong.
        beside: where the run folder will be made.
        constants: of the training images.

    Raises:
        UsageError: not one step fits, or the schedule does not fit into the steps that do.
    """
    dataset, division = data
    Trial(
        recipe, spec, compute, dataset, division, constants
    )  # loads what is loaded once a process, and is no cost of the run
    trial = Trial(recipe, spec, compute, dataset, division, constants)
    costs = measure_costs(trial, min(_LONGEST, _MEASURED * budget), beside, heed)
    work, spent = Work.of(recipe, division, dataset), time.monotonic() - began
    steps, said = longest(budget - spent, costs, work), in_words(budget)
    if steps == 0:
        need = (spent + expected(1, costs, work)) * (1 + SLACK)
        what = f"within {said} not one step fits: reading, measuring and evaluating alone take {in_words(need)}"
        raise UsageError(what, "--budget", "give more time")
    try:
        schedule = in_proportion(recipe.schedule, planned, steps)
    except ValueError as fault:
        what = f"{said} give {steps:,} steps where the recipe has {planned:,}, and {fault}"
        raise UsageError(what, "--budget", "give more time, or another schedule") from None
    total = expected(steps, costs, work)
    rate = work.batch_size / costs.steps[-1]
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=total)
    changes: list[Override] = [("steps", steps)]
    validating = work.validation * costs.evaluated_image
    reasons = {
        "steps": f"{work.epochs(steps):.4g} epochs in {said}: measured {rate:,.0f} images/s at full size, "
        f"{validating:.2g} s a validation, {costs.checkpoint:.2g} s a checkpoint"
    }
    if isinstance(schedule, Steps) and schedule != recipe.schedule:
        changes.append(("schedule.drops", list(schedule.drops)))
        reasons["schedule.drops"] = f"in proportion to the length, which was {planned:,} steps"
    facts = {
        "seconds": budget,
        "spent": round(spent, 3),
        "expected": round(total, 3),
        "slack": SLACK,
        "ends": ends.isoformat(timespec="seconds"),
        "epochs": work.epochs(steps),
        "images_per_second": rate,
        "costs": {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(costs).items()},
    }
    return Length(tuple(changes), reasons, facts)
