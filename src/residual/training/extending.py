"""A finished run goes on in a run of its own: the parent is only read, the child says where it began.

The child's step goes on counting where the parent's ended, so the order of the images, their augmentation and dropout
are those of a longer run. Weights, moments, averages, events and the best weights so far are taken over. What the
rate does is stated in the child's recipe: see `continued`.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from residual.borrowed import borrowed
from residual.data.batches import steps_of
from residual.device import alike_here, devices
from residual.environment import check_versions, commit, machine, versions
from residual.errors import EnvironmentFault, UsageError
from residual.evaluation.classifier import WEIGHTS
from residual.files import Facts, digest
from residual.launch import launched
from residual.runs.folder import RunFolder, create_numbered, find_run
from residual.runs.summary import flat
from residual.training import opening
from residual.training.compute import choose
from residual.training.freezing import at_the_end
from residual.training.origin import called, command_of, now
from residual.training.places import refuse_inside
from residual.training.progress import Listener, sound
from residual.training.recipe import Changes, Override, Recipe, as_overrides, override
from residual.training.schedules import AnySchedule, Cosine, OneCycle, Steps
from residual.training.settling import settled
from residual.training.signals import Signals
from residual.training.start import start_files
from residual.training.state import FACTS, STATE
from residual.training.train import resume

FREE = ("schedule.", "checkpoint.", "compute.", "data.path", "data.threads", "evaluation.every_epochs")
"""What may be changed in an extension; all else is what the state was made with."""
LOWER = 0.5
"""A second cycle rises to this share of the peak before it: Smith 2017, `triangular2`."""
_RISE = 0.05
"""Share of an extension in which a cosine rises again."""
_FORM = re.compile(r"(\d+(?:\.\d+)?)(?:\s*(epochs?|steps?))?")


@dataclass(frozen=True)
class Until:
    """The length of the whole, parent included, in one of two units."""

    value: float
    unit: str

    @staticmethod
    def of(text: str) -> Until:
        """60, 60epochs or 80000steps.

        Raises:
            UsageError: none of these.
        """
        found = _FORM.fullmatch(text.strip().lower())
        unit = "epochs" if found is None or not (found.group(2) or "").startswith("step") else "steps"
        if found is None or not 0 < float(found.group(1)) <= 1e9 or (unit == "steps" and "." in found.group(1)):
            raise UsageError(f"{text[:40]!r} is no length", "--extend-to", "write epochs, as 60, or 80000steps")
        return Until(float(found.group(1)), unit)

    def steps(self, images: int, batch_size: int) -> int:
        return int(self.value) if self.unit == "steps" else steps_of(self.value, images, batch_size)


def continued(
    schedule: AnySchedule, first: int, total: int, rate: float, length: int | None = None
) -> tuple[AnySchedule, str]:
    """The schedule of steps `first` to `total`, and in words what it does.

    Steps and plateau go on as they are: their rate depends on the iteration, or on what has happened. Drops at shares
    of the run stay where they were, or the rate would rise to what it was before them. One cycle and cosine have
    ended, so they begin a second, lower time.

    Args:
        rate: that of the parent's last step.
        length: the steps that the parent's schedule was made for, if not `first`.
    """
    if isinstance(schedule, Steps) and schedule.shares:
        places = [max(1, math.ceil(share * (first if length is None else length))) for share in schedule.shares]
        kept = schedule.model_copy(update={"shares": (), "drops": tuple(sorted((*schedule.drops, *places)))})
        return kept, f"the schedule steps goes on from {rate:.3g}, its drops where they were"
    if isinstance(schedule, OneCycle):
        peak = LOWER * schedule.peak
        divisors = {
            "start_divisor": min(1e6, max(1.0, _short(peak / rate))),
            "end_divisor": max(1.0, LOWER * schedule.end_divisor),
        }
        again = schedule.model_copy(update={"first": first, "peak": peak, **divisors})
        if rate > peak:  # it was stopped early, on its way
            return (
                again,
                f"a second cycle, at once from {rate:.3g} down to {peak:.3g}, half the peak before, and on down",
            )
        return again, f"a second cycle from {rate:.3g} up to {peak:.3g}, half the peak before, and down again"
    if isinstance(schedule, Cosine):
        lower = LOWER * schedule.rate
        rise = schedule.warmup.model_copy(
            update={"steps": max(1, round(_RISE * (total - first))), "rate": _short(rate), "shape": "linear"}
        )
        lowered = schedule.model_copy(update={"first": first, "rate": lower, "warmup": rise})
        way = "down" if rate > lower else "up"
        return lowered, f"a second cosine from {rate:.3g} {way} to {lower:.3g}, half the rate before, and down again"
    return schedule, f"the schedule {schedule.kind} goes on as it is, from {rate:.3g}"


def _short(value: float) -> float:
    """The number without the digits that only rounding left: 5000 for 5000.000000003673. Recipes are read by people."""
    return float(f"{value:.12g}")


def extend(
    run: str | os.PathLike[str] | None,
    to: str | float,
    *,
    set: Changes = (),
    out: str | os.PathLike[str] | None = None,
    listener: Listener | None = None,
    command: str | None = None,
) -> RunFolder:
    """Go on with a finished run in a new run folder, to a greater length; the finished one stays byte for byte.

    Args:
        run: the finished run, its name under `runs/`, or None for the run last touched.
        to: the length of the whole: epochs, as 60, or 80000steps.
        set: changes of the schedule, of checkpoints, of what is computed with and of where the data lie.
        out: the new run folder; without it, `runs/<recipe>-<number>`.

    Raises:
        UsageError: the run is not finished, as long already, or asked for other changes.
        ModelError: its last state cannot be used.
    """
    check_versions()
    heard, launch = sound(listener), launched()
    if launch is not None and launch.world > 1:
        what = "a run is extended by one process"
        raise UsageError(what, "--extend-to", "begin it without the launcher; several may then --resume it")
    parent = find_run(os.fspath(run) if run is not None else None)
    until, asked = Until.of(str(to)), as_overrides(set)
    facts, result = parent.facts(), parent.result()
    if result is None:
        raise UsageError("the run is not finished", parent.path, "finish it with --resume, then extend it")
    stored = opening.stored_recipe(parent, facts)
    kept = [path for path, _ in asked if not path.startswith(FREE)]
    if kept:
        raise UsageError(f"an extension keeps the run's own {', '.join(kept)}", parent.path, "leave it out")
    whole = settled(stored, facts, parent.path)
    first, steps = result["steps"], until.steps(facts["data"]["training"], whole.batch_size)
    if steps <= first:
        what = f"{until.value:g} {until.unit} are {steps:,} steps, and the run has {first:,} already"
        raise UsageError(what, "--extend-to", "name a greater length")
    origin, happened = _origin(parent, facts, result, first)
    rate = stored.schedule.rate_at(first - 1, facts["chosen"]["steps"], happened)
    schedule, why = continued(stored.schedule, first, steps, rate, facts["chosen"]["steps"])
    changes = [
        *at_the_end(stored.start, len(facts["network"]["depths"])),
        *_changes(stored, schedule, until, steps, asked),
    ]
    recipe = override(stored, changes)
    if mine := [path for path, _ in asked if path.startswith("schedule.")]:
        why = f"{why}; but for {', '.join(mine)}, which was asked for"
    compute = opening.stored_compute(parent, facts)
    reasons = {
        name: text for name, text in facts["reasons"].items() if name in (*compute.facts(), *facts.get("settled", {}))
    }
    if any(path.startswith("compute.") for path, _ in asked):
        with borrowed():
            compute, own = choose(recipe.compute)
        compute = replace(compute, compile=recipe.compute.compile == "default")
        reasons |= own
    elif not alike_here(compute.device):
        what = f"the run computes on {compute.device}, and this machine has {', '.join(devices())}"
        raise EnvironmentFault(what, parent.path, "extend it elsewhere, or add --device cpu")
    reasons |= {path: why for path, _ in changes if path.startswith("schedule.")} | {"schedule": why}
    place = Path(out).expanduser() if out is not None else create_numbered(recipe.name)
    refuse_inside(place, facts["data"]["origin"])
    processes = facts["chosen"].get("processes", 1)  # so that going on with another number is said
    before = {path: value for path, value in facts["changed"].items() if path not in ("epochs", "steps")}
    # The batch that was tried is the child's own now, and what was settled before is none of it.
    tried = ("batch_size",) if "batch_sizes_tried" in facts["chosen"] else ()
    child = {
        **{name: value for name, value in facts.items() if name != "format"},
        "residual": versions()["residual"],
        "created": now(),
        "command": command_of(command, called("extend", parent, asked, to=str(to), out=out)),
        "recipe": recipe.model_dump(mode="json"),
        "changed": before | dict(changes),
        "chosen": {**compute.facts(), "steps": steps, "batch_size": whole.batch_size, "processes": processes},
        "reasons": reasons,
        "settled": {path: value for path, value in facts.get("settled", {}).items() if path not in tried},
        "parent": origin,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(compute.device),
    }
    start = start_files(parent) if facts.get("start") else None
    signals = Signals()
    with signals:  # a run that cannot go on is not begun: it would be the last one
        opening.check_data(parent, facts, *opening.run_data(settled(recipe, facts, parent.path), facts, signals))
    RunFolder.create(place, child, recipe.to_toml(), parent.split(), start)
    return resume(place, listener=heard)


def _origin(parent: RunFolder, facts: Facts, result: Facts, step: int) -> tuple[Facts, dict[str, int]]:
    """Which state the extension goes on from, so that nobody can take another for it; and the events in it."""
    contents = opening.parent_state(parent.path, step)
    origin = {
        "run": parent.name,
        "path": str(parent.path.resolve()),
        "identity": opening.run_identity(facts),
        "step": step,
        "weights": digest(contents[WEIGHTS]),
        "state": digest(contents[STATE]),
        "schedule": facts["recipe"]["schedule"],
        "seconds": result["seconds"],
        "final": result["final"],
    }
    if "parent" in facts:
        origin["parent"] = facts["parent"]
    return origin, json.loads(contents[FACTS])["parts"]["events"]["happened"]


def _changes(recipe: Recipe, schedule: AnySchedule, until: Until, steps: int, asked: list[Override]) -> list[Override]:
    """What the recipe of the extension has changed."""
    changes: list[Override] = [(until.unit, steps if until.unit == "steps" else until.value)]
    before, after = flat(recipe.schedule.model_dump()), flat(schedule.model_dump())
    changes += [(f"schedule.{name}", value) for name, value in after.items() if before[name] != value]
    if recipe.data.augment.sizes:
        changes.append(("data.augment.sizes", []))  # small images belong to the beginning of a run
    if any(path == "schedule.kind" for path, _ in asked):
        changes = [change for change in changes if not change[0].startswith("schedule.")]
    given = {path for path, _ in asked}
    return [*(change for change in changes if change[0] not in given), *asked]
