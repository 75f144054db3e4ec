"""One individual: its recipe, its run folder, and its training, from the beginning or from where another left it.

Fitness is top-1 on the validation images at the last step, in [0, 1]; over several seeds, their mean. Settings that
make a training impossible or let it diverge are the individual's own fault and end in a failure with its reason; what
is wrong with the machine, the disk or the data ends the worker instead, and the individual waits for another.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from residual.errors import DataError, NonFiniteError, OutOfMemory, StorageError, UsageError, lacks_memory
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.training.launching import Order, Trainer, train_here
from residual.training.progress import Listener, Record, Silent
from residual.training.recipe import Override, Recipe, differences, override, to_recipe
from residual.tuning.space import Genes, Space

FREE = ("compute.", "checkpoint.", "data.path")
"""What may differ between the workers of a study: the same figures up to rounding."""


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


class Watch(Silent):
    """Hands a training's events on, and ends it where it was lost or is not worth its time."""

    def __init__(self, inner: Listener, lost: Callable[[], bool], judge: Callable[[float, float], bool]) -> None:
        self._inner, self._lost, self._judge = inner, lost, judge

    def began(self, plan: Record) -> None:
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
        validated = record["kind"] == "evaluation" and record["split"] == "validation"
        if validated and not record["final"] and self._judge(record["epoch"], record["top1"]):
            raise Pruned(f"top-1 {record['top1']:.4f} after epoch {record['epoch']:g}")


def train_individual(
    plan: Plan, number: int, genes: Genes, watch: Watch, same_data: Callable[[Facts], bool]
) -> Outcome:
    """Train an individual with every seed, or go on with it, or find it finished.

    Raises:
        Interrupted, StorageError, DataError, EnvironmentFault, Lost: it is not finished; what is done is kept.
    """
    began, top1, figures, names = time.monotonic(), [], [], []
    try:
        for seed in range(plan.seeds):
            changes = plan.overrides(genes, seed)
            recipe = override(plan.recipe, changes, "the individual's genes")
            run = _train(plan, plan.run_of(number, seed), recipe, changes, watch)
            _assert_own(run, recipe)
            facts, result = run.facts(), run.result()
            if not same_data(facts["data"]["checksums"]):
                raise DataError("these are not the images the study began with", run.path, "name the same data")
            final = (result or {})["final"]["validation"]
            top1.append(final["top1"])
            figures.append(final)
            names.append(run.name)
    except (UsageError, NonFiniteError) as error:
        return _failed(TrialState.FAIL, str(error), began)
    except Pruned as error:
        return _failed(TrialState.PRUNED, f"behind the median of closed generations: {error}", began)
    except (MemoryError, RuntimeError, OutOfMemory) as error:
        if not lacks_memory(error):
            raise
        reason = f"out of memory at batch size {plan.recipe.batch_size}: {' '.join(str(error).split())[:200]}"
        return _failed(TrialState.FAIL, reason, began)
    mean = {name: statistics.fmean(one[name] for one in figures) for name in ("loss", "top1", "top3", "top5")}
    facts = {"runs": names, "top1": top1, "validation": mean, "seconds": round(time.monotonic() - began, 3)}
    return Outcome(TrialState.COMPLETE, mean["top1"], facts)


def _failed(state: TrialState, reason: str, began: float) -> Outcome:
    return Outcome(state, None, {"reason": reason, "seconds": round(time.monotonic() - began, 3)})


def _train(plan: Plan, path: Path, recipe: Recipe, changes: Sequence[Override], watch: Watch) -> RunFolder:
    own = [(name, value) for name, value in plan.own if value is not None]
    if (path / "run.json").is_file():
        run = RunFolder.open(path)
        _assert_own(run, recipe)
        if run.result() is not None:
            return run
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StorageError("something else stands where an individual is to be trained", path, "take it away")
    command = f"residual tune --study {plan.study!r}"  # not as it was typed: an address may hold a password
    return plan.trainer(Order(plan.recipe, changes, own, path, command), watch, watch.check)


def _assert_own(run: RunFolder, recipe: Recipe) -> None:
    """The settings of a run are those of the individual; else it is another's, and never counted for this one."""
    stored = to_recipe(run.facts()["recipe"], run.path)
    unlike = differences(stored.model_dump(mode="json"), recipe.model_dump(mode="json"))
    found = [f"{path} {old!r}, not {new!r}" for path, (old, new) in unlike.items() if not path.startswith(FREE)]
    if found:
        what = f"the run is not that of the individual: {'; '.join(found)[:300]}"
        raise StorageError(what, run.path, "take the folder away: it is left from another study")


def last_step(plan: Plan, number: int) -> int:
    """The newest checkpoint of an individual over all its seeds, in steps; 0 without any. For telling progress."""
    steps: list[Any] = []
    for seed in range(plan.seeds):
        run = RunFolder(plan.run_of(number, seed))
        steps += run.steps()[:1]
    return sum(steps)
