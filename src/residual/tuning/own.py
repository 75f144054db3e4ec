"""What is a worker's own and what a training's: settings that may differ, runs that must not, and whose fault it was.

A failure is written down as an individual's only where its settings cause it, whoever trains it. What a worker named
wrongly, its launcher cannot do, or stands in the way on its disk ends that worker, and the individual waits.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from residual.errors import Fault, NonFiniteError, ResidualError, StorageError, UsageError, check, lacks_memory
from residual.files import Damaged, Facts, read_regular, readable, replace_file, storage
from residual.runs.folder import RunFolder
from residual.runs.summary import flat
from residual.training.launching import Order, train_here
from residual.training.progress import Record, Silent
from residual.training.recipe import Override, Recipe, differences, override, to_recipe
from residual.tuning.space import Space

FREE = ("compute.", "checkpoint.", "data.path")
"""What may differ between the workers of a study: the same figures up to rounding."""
_BROUGHT = ("network.", "start.weights")
"""What a run that begins from trained weights has from them, under names of its own."""
_LARGEST = 1 << 24


def check_own(own: Iterable[Override], recipe: Recipe, space: Space) -> tuple[Override, ...]:
    """A worker's own settings, if they are such and the recipe takes them; a path of the images left open is none.

    Raises:
        UsageError: with every fault.
    """
    found = tuple(pair for pair in own if pair != ("data.path", None))
    wrong = [Fault(path, value, "it is the same for all workers") for path, value in found if not path.startswith(FREE)]
    wrong += [
        Fault(path, value, "it is a gene as well", "leave it out") for path, value in found if path in space.paths
    ]
    check("this worker cannot start", wrong, "its own settings")
    override(recipe, found, "this worker's own settings")
    return found


def begun(path: Path, recipe: Recipe, whose: str) -> RunFolder | None:
    """The run that was begun at a place for these settings; None where nothing stands there yet.

    Raises:
        StorageError: the run is another's, or something else stands there.
    """
    if (path / "run.json").is_file():
        run = RunFolder.open(path)
        assert_own(run, recipe, whose)
        return run
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise StorageError(f"something else stands where {whose} is to be trained", path, "take it away")
    return None


def assert_own(run: RunFolder, recipe: Recipe, whose: str) -> None:
    """The settings of a run are those asked for; else it is another's, and never counted for this one.

    Raises:
        StorageError: names what differs.
    """
    stored = to_recipe(run.facts()["recipe"], run.path)
    free = FREE if recipe.start.weights is None else (*FREE, *_BROUGHT)
    unlike = differences(stored.model_dump(mode="json"), recipe.model_dump(mode="json"))
    found = [f"{path} {old!r}, not {new!r}" for path, (old, new) in unlike.items() if not path.startswith(free)]
    if found:
        what = f"the run is not that of {whose}: {'; '.join(found)[:300]}"
        raise StorageError(what, run.path, "take the folder away: it is left from other work")


# -- failures ----------------------------------------------------------------------------------------------


def reason_of(error: Exception, order: Order) -> str | None:
    """Why a training failed, where its own settings are the cause; None where it is the worker or the machine."""
    if lacks_memory(error):
        size = override(order.recipe, order.changes).batch_size
        return f"out of memory at batch size {size}: {' '.join(str(error).split())[:200]}"
    if isinstance(error, UsageError):
        return _refusal(order)
    return str(error) if isinstance(error, NonFiniteError) else None


class _Began(Exception):
    """A training has come to its first step."""


class _First(Silent):
    def began(self, plan: Record) -> None:
        raise _Began


def _refusal(order: Order) -> str | None:
    """Why these settings are refused in this process as well, without a launcher and in a place of its own, if so."""
    with storage(order.out):
        place = tempfile.TemporaryDirectory(prefix="residual-", ignore_cleanup_errors=True)
    with place:
        alone = Order(order.recipe, order.changes, order.own, Path(place.name) / order.out.name, order.command)
        try:
            train_here(alone, _First(), lambda: None)
        except UsageError as error:
            return str(error)
        except (_Began, ResidualError):
            return None
    return None


def settings_of(recipe: Recipe, changes: Iterable[Override]) -> Facts:
    """The settings of a training by path, those apart in which workers may differ; also where they do not fit."""
    table = flat(recipe.model_dump(mode="json")) | dict(changes)
    found: Facts = json.loads(json.dumps({path: v for path, v in table.items() if not path.startswith(FREE)}))
    return found


def note_failure(path: Path, facts: Facts, settings: Facts) -> None:
    """Write down what came of a training that has no result, beside its run: a database may get lost.

    Raises:
        StorageError: the disk refused.
    """
    replace_file(path, readable({**facts, "settings": settings}))


def read_failure(path: Path, settings: Facts) -> Facts | None:
    """What was written down of a training with these settings; notes of earlier releases hold none.

    Raises:
        StorageError: the note is another training's, or cannot be read.
    """
    if not path.is_file():
        return None
    try:
        found: Any = json.loads(read_regular(path, _LARGEST))
        reason = found["reason"]
    except (OSError, ValueError, RecursionError, Damaged, TypeError, KeyError):
        raise StorageError("the note of a failure cannot be read", path, "restore it, or take it away") from None
    stored = found.get("settings", {})
    unlike = [name for name, value in settings.items() if name in stored and stored[name] != value]
    if unlike:
        listed = "; ".join(f"{name} {stored[name]!r}, not {settings[name]!r}" for name in unlike)
        raise StorageError(f"the failure is not that of this training: {listed[:300]}", path, "take it away")
    return {**found, "reason": str(reason)}
