"""One individual: its recipe, its run folder, and its training, from the beginning or from where another left it.

Fitness is top-1 on the validation images at the last step, in [0, 1]; over several seeds, their mean. Settings that
make a training impossible or let it diverge are the individual's own fault and end in a failure with its reason; what
is wrong with the machine, the disk or the data ends the worker instead, and the individual waits for another.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from residual.errors import DataError, NonFiniteError, OutOfMemory, UsageError
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.training.launching import Order, Trainer, train_here
from residual.training.progress import Listener, Record, Silent
from residual.training.recipe import Override, Recipe, override
from residual.tuning.own import assert_own, begun, note_failure, read_failure, reason_of, settings_of
from residual.tuning.space import Genes, Space

WHOSE = "the individual"
OUTCOMES = "outcomes"
"""Where, in a study's folder, stands what came of individuals that have no result: a ledger made anew takes it."""
Judge = Callable[[float, float, float], bool]
"""Told an epoch, those of the whole training and top-1 of its validation; whether the training is to be ended."""


@dataclass(frozen=True)
class Plan:
    """What a study trains, and with what of its own this worker does it."""

    study: str
    recipe: Recipe
    space: Space
    folder: Path
    seeds: int = 1
    own: tuple[Override, ...] = ()
    trainer: Trainer = train_here

    def overrides(self, genes: Genes, seed: int) -> list[Override]:
        several = [("seed", self.recipe.seed + seed)] if self.seeds > 1 else []
        return [*self.space.overrides(genes), *several]

    def run_of(self, number: int, seed: int) -> Path:
        tail = f"-seed-{seed}" if self.seeds > 1 else ""
        return self.folder / f"trial-{number:04d}{tail}"


@dataclass(frozen=True)
class Outcome:
    state: TrialState
    fitness: float | None = None
    facts: Facts = field(default_factory=dict)


class Lost(Exception):
    """The individual was given to another worker, since ours gave no sign of life."""


class Pruned(Exception):
    """The training does worse than closed generations did by then."""


class Unfit(Exception):
    """The settings of the individual cannot be trained with."""


class Watch(Silent):
    """Hands a training's events on, and ends it where it was lost or is not worth its time (`judge`, if any)."""

    def __init__(self, inner: Listener, lost: Callable[[], bool], judge: Judge | None = None) -> None:
        self._inner, self._lost, self._judge, self._epochs = inner, lost, judge, math.inf

    def began(self, plan: Record) -> None:
        self._epochs = plan["epochs"]
        self._inner.began(plan)

    def saved(self, step: int) -> None:
        self._inner.saved(step)

    def ended(self) -> None:
        self._inner.ended()

    def check(self) -> None:
        """
        Raises:
            Lost: the individual is another worker's.
        """
        if self._lost():
            raise Lost

    def stepped(self, step: int, images: int) -> None:
        self.check()
        self._inner.stepped(step, images)

    def recorded(self, record: Record) -> None:
        self._inner.recorded(record)
        if self._judge is not None and _judged(record) and self._judge(record["epoch"], self._epochs, record["top1"]):
            raise Pruned(f"top-1 {record['top1']:.4f} after epoch {record['epoch']:g}")

    def remember(self, run: RunFolder) -> None:
        """Tell again what a run on disk had reached, which a ledger made anew does not know; nothing ends by it."""
        for record in run.records() if self._judge is not None else ():
            if self._judge is not None and _judged(record):
                self._judge(record["epoch"], self._epochs, record["top1"])


def _judged(record: Record) -> bool:
    return bool(record["kind"] == "evaluation" and record["split"] == "validation" and not record["final"])


def train_individual(
    plan: Plan, number: int, genes: Genes, watch: Watch, same_data: Callable[[Facts], bool]
) -> Outcome:
    """Train an individual with every seed, or go on with it, or find it finished.

    Raises:
        Interrupted, StorageError, DataError, EnvironmentFault, Lost: it is not finished; what is done is kept.
        UsageError: this worker cannot train it as it was started.
    """
    began, top1, figures, names = time.monotonic(), [], [], []
    before = _noted(plan, number, genes, watch)
    if before is not None:
        return before
    try:
        for seed in range(plan.seeds):
            changes = plan.overrides(genes, seed)
            recipe = _recipe(plan, changes)
            run = _train(plan, plan.run_of(number, seed), recipe, changes, watch)
            assert_own(run, recipe, WHOSE)
            facts, result = run.facts(), run.result()
            if not same_data(facts["data"]["checksums"]):
                raise DataError("these are not the images the study began with", run.path, "name the same data")
            final = (result or {})["final"].get("validation")
            if final is None:
                what = f"a share of {recipe.data.validation:g} held out none of the images, and fitness is read there"
                raise DataError(what, run.path, "begin a study with a larger --set data.validation")
            top1.append(final["top1"])
            figures.append(final)
            names.append(run.name)
    except Unfit as error:
        return _failed(TrialState.FAIL, str(error), began)
    except Pruned as error:
        return _failed(TrialState.PRUNED, f"behind the median of closed generations: {error}", began)
    mean = {name: statistics.fmean(one[name] for one in figures) for name in ("loss", "top1", "top3", "top5")}
    facts = {"runs": names, "top1": top1, "validation": mean, "seconds": round(time.monotonic() - began, 3)}
    return Outcome(TrialState.COMPLETE, mean["top1"], facts)


def _failed(state: TrialState, reason: str, began: float) -> Outcome:
    return Outcome(state, None, {"reason": reason, "seconds": round(time.monotonic() - began, 3)})


def _recipe(plan: Plan, changes: Iterable[Override]) -> Recipe:
    try:
        return override(plan.recipe, changes, "the individual's genes")
    except UsageError as error:
        raise Unfit(str(error)) from None


def _train(plan: Plan, path: Path, recipe: Recipe, changes: list[Override], watch: Watch) -> RunFolder:
    run = begun(path, recipe, WHOSE)
    if run is not None:
        watch.remember(run)
        if run.result() is not None:
            return run
    command = f"residual tune --study {plan.study!r}"  # not as it was typed: an address may hold a password
    order = Order(plan.recipe, changes, plan.own, path, command)
    try:
        return plan.trainer(order, watch, watch.check)
    except (UsageError, NonFiniteError, OutOfMemory, MemoryError, RuntimeError) as error:
        reason = reason_of(error, order)
        if reason is None:
            raise
        raise Unfit(reason) from None


def note_outcome(plan: Plan, number: int, genes: Genes, outcome: Outcome) -> None:
    """Write down an outcome for which no result stands in a run: a failure, or a training that was ended.

    Raises:
        StorageError: the disk refused.
    """
    facts = {"state": outcome.state.name, **outcome.facts}
    note_failure(_note_of(plan, number), facts, settings_of(plan.recipe, plan.space.overrides(genes)))


def _noted(plan: Plan, number: int, genes: Genes, watch: Watch) -> Outcome | None:
    """The outcome that was written down of an individual, if any."""
    found = read_failure(_note_of(plan, number), settings_of(plan.recipe, plan.space.overrides(genes)))
    if found is None:
        return None
    if (plan.run_of(number, 0) / "run.json").is_file():
        watch.remember(RunFolder(plan.run_of(number, 0)))
    state = TrialState.PRUNED if found.get("state") == TrialState.PRUNED.name else TrialState.FAIL
    return Outcome(state, None, {name: found[name] for name in ("reason", "seconds") if name in found})


def _note_of(plan: Plan, number: int) -> Path:
    return plan.folder / OUTCOMES / f"{number:04d}.json"


def last_step(plan: Plan, number: int) -> int:
    """The newest checkpoint of an individual over all its seeds, in steps; 0 without any. For telling progress."""
    steps: list[Any] = []
    for seed in range(plan.seeds):
        run = RunFolder(plan.run_of(number, seed))
        steps += run.steps()[:1]
    return sum(steps)
