"""Arms beside each other: one recipe with several sets of changes, each over the same seeds.

Every run is a folder of its own, `<study>/<arm>/seed-<n>`, resumable as any run; the same call goes on and trains
nothing twice, and in several processes shares the runs. Errors are in percent, losses in nats. The training error is
the running one of the last record (augmented images, moving weights), as the papers draw it; the test error that of the
last step, single view.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from residual.analysis.bands import Band, band
from residual.analysis.curves import curves
from residual.errors import NonFiniteError, UsageError
from residual.files import Facts
from residual.models import resolve
from residual.runs.folder import RunFolder
from residual.studies.arm_table import Arms, drops
from residual.studies.evidence import Budget, Definition, Evidence, RecipeFacts, made, recipe_identity
from residual.studies.seeds import check_seeds, finished, seed_jobs, usual_place
from residual.studies.side_by_side import end_all
from residual.training.progress import Listener, Silent
from residual.training.recipe import Override, Recipe, override
from residual.training.recipes import find_recipe

FULL = 64_000
"""The paper's iterations."""
WHOLE = 50_000
"""Training images of CIFAR."""
PRIVATE = ("data.path", "data.threads", "compute.", "checkpoint.", "seed")
_SPLITS: tuple[Literal["validation", "test"], ...] = ("validation", "test")


@dataclass(frozen=True)
class Compared:
    """The finished runs of every arm, in the order of the seeds, and the recipe each arm was trained with."""

    folder: Path
    recipe: str
    seeds: tuple[int, ...]
    runs: Mapping[str, tuple[RunFolder, ...]]
    recipes: Mapping[str, RecipeFacts]
    lost: Mapping[str, Mapping[int, NonFiniteError]] = field(default_factory=dict)
    """By arm and seed the runs that came to no end, since their loss became no number. An arm that lost all of its
    seeds has no runs here."""

    def left(self, arm: str) -> tuple[int, ...]:
        """The seeds of an arm's runs, in their order."""
        return tuple(seed for seed in self.seeds if seed not in self.lost.get(arm, {}))

    def figures(self) -> dict[str, Facts]:
        """By arm: training, validation and test error and last training loss, each over the seeds; seconds."""
        return {arm: arm_figures(runs) for arm, runs in self.runs.items()}

    def series(self) -> Facts:
        """By arm and by curve: steps, mean and deviation of training and test (or validation) error."""
        found: Facts = {}
        for arm, runs in self.runs.items():
            traced = [curves(run.records()) for run in runs]
            names = ("training error", "validation error", "test error", "training loss")
            bands = {name: one for name in names if (one := band(traced, name)) is not None}
            found[arm] = {name: points(one, _epoch_steps(runs[0])) for name, one in bands.items()}
        return found


OTHERS: Final = "others"
"""In the points of a network those of its further runs."""


def spread(values: Sequence[float]) -> Facts:
    """Mean, median, sample deviation (None for one seed), least, most and the values."""
    return {
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "least": min(values),
        "most": max(values),
        "values": list(values),
    }


def add_points(series: Facts, name: str, points: Facts) -> None:
    """Points of a run of a network; those of its other seeds stand beside the first one's."""
    if name in series:
        series[name].setdefault(OTHERS, []).append(points)
    else:
        series[name] = points


def points(one: Band, steps_of_an_epoch: float) -> Facts:
    """A band as lists."""
    steps = [round(epoch * steps_of_an_epoch) for epoch in one.epochs]
    return {"step": steps, "mean": list(one.mean), "std": list(one.std)}


def _epoch_steps(run: RunFolder) -> float:
    facts = run.facts()
    return float(facts["data"]["training"] / facts["chosen"]["batch_size"])


def arm_figures(runs: Sequence[RunFolder]) -> Facts:
    """The figures of one arm from its runs.

    Of curves: `average_`, the mean over the points of a curve, which is lower the sooner it falls; `_fall`, its first
    point less its last; roughness, see there.
    """
    found: Facts = {}
    results = [result for run in runs if (result := run.result()) is not None]
    traced = [curves(run.records()).series for run in runs]
    for split in _SPLITS:
        if all(split in result["final"] for result in results):
            found[f"{split}_error"] = spread([100 * (1 - result["final"][split]["top1"]) for result in results])
    found["training_error"] = spread([one["training error"].values[-1] for one in traced])
    found["average_training_error"] = spread([statistics.fmean(one["training error"].values) for one in traced])
    found["training_loss"] = spread([one["training loss"].values[-1] for one in traced])
    found["average_loss"] = spread([statistics.fmean(one["training loss"].values) for one in traced])
    found["training_loss_fall"] = spread([_fall(one["training loss"].values) for one in traced])
    found["training_roughness"] = spread([roughness(one["training loss"].values) for one in traced])
    found["loss"] = spread([_late(one["training loss"].values) for one in traced])
    for split in _SPLITS:
        if all(f"{split} error" in one for one in traced):
            errors = [one[f"{split} error"].values for one in traced]
            found[f"average_{split}_error"] = spread([statistics.fmean(values) for values in errors])
            found[f"{split}_error_fall"] = spread([_fall(values) for values in errors])
            found[f"{split}_loss_fall"] = spread([_fall(one[f"{split} loss"].values) for one in traced])
            if "roughness" not in found:
                found["roughness"] = spread([roughness(one[f"{split} loss"].values) for one in traced])
                found["error_roughness"] = spread([roughness(values) for values in errors])
    counted = runs[0].facts().get("counted", {})
    found |= {name: counted[name] for name in ("parameters", "multiply_adds") if name in counted}
    return found | {"seconds": spread([result["seconds"] for result in results]), "steps": results[0]["steps"]}


def _late(values: Sequence[float]) -> float:
    """The mean of the last tenth of the records, at least one."""
    return statistics.fmean(values[-max(1, len(values) // 10) :])


def _fall(values: Sequence[float]) -> float:
    """The first point of a curve less its last."""
    return values[0] - values[-1]


def roughness(values: Sequence[float]) -> float:
    """How much a curve that should fall rises: the mean over its steps of the rise, 0 where it falls."""
    rises = [max(0.0, after - before) for before, after in itertools.pairwise(values)]
    return statistics.fmean(rises) if rises else 0.0


def compare(
    study: str,
    recipe: Recipe | str,
    arms: Arms,
    seeds: Sequence[int],
    *,
    set: Iterable[Override] = (),
    out: Path | None = None,
    listener: Callable[[str, int], Listener] = lambda arm, seed: Silent(),
) -> Compared:
    """Train every arm over the seeds; runs that are finished, or at work elsewhere, are not trained again.

    Args:
        recipe: a recipe, or the name of one.
        set: values to change in all arms, by path; an arm's own come after them.
        out: the folder of the study; without it `runs/<study>-<recipe>`.
        listener: makes the listener of each run.

    Raises:
        UsageError: no arms, or a run there has other settings.  Interrupted: the same call goes on.
    """
    check_seeds(seeds)
    if not arms:
        raise UsageError("there is nothing to compare", study, "name at least one arm")
    plain = recipe if isinstance(recipe, Recipe) else find_recipe(recipe)
    common = list(set)
    folder = out or usual_place(study, plain, common)
    runs: dict[str, tuple[RunFolder, ...]] = {}
    recipes: dict[str, RecipeFacts] = {}
    for arm, changes in arms.items():  # found out before the first hour of training
        asked = {**dict(common), **changes}
        changed = public(asked)
        whole = override(plain, asked.items())
        resolve(whole.network, classes=10)  # refuses parts that do not fit, whatever the classes are
        recipes[arm] = RecipeFacts(plain.name, changed, recipe_identity(whole))
    jobs = []
    for arm, changes in arms.items():
        asked = {**dict(common), **changes}
        jobs += seed_jobs(folder / arm, plain, seeds, [*asked.items()], partial(listener, arm), f"{arm}, ")
    ended = iter(end_all(jobs))
    lost: dict[str, dict[int, NonFiniteError]] = {}
    for arm in arms:
        of_arm = {seed: next(ended) for seed in seeds}
        trained = {seed: one for seed, one in of_arm.items() if isinstance(one, RunFolder)}
        if errors := {seed: one for seed, one in of_arm.items() if isinstance(one, NonFiniteError)}:
            lost[arm] = errors
        if trained:
            runs[arm] = finished(folder / arm, plain, [*trained], [*trained.values()]).runs
    return Compared(folder, plain.name, tuple(seeds), runs, {arm: recipes[arm] for arm in runs}, lost)


def public(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of a recipe that decide its figures: not where the data lie, on what it runs, nor its seed."""
    return {path: value for path, value in changes.items() if not path.startswith(PRIVATE)}


def shortened(recipe: Recipe, steps: int | None) -> list[Override]:
    """A run of so many steps, with the drops of the rate at the same shares of it."""
    if steps is None:
        return []
    asked: list[Override] = [("steps", steps)]
    if getattr(recipe.schedule, "drops", None) and not recipe.steps:
        what = f"the recipe {recipe.name} is measured in epochs and its drops of the rate in steps"
        raise UsageError(what, "--steps", "give it steps, or drops as schedule.shares")
    if found := drops(recipe, steps):
        asked.append(("schedule.drops", found))
    return asked


def evidence_of(
    definition: Definition,
    compared: Compared,
    measured: Mapping[str, Any],
    *,
    command: str,
    series: Mapping[str, Any] | None = None,
    caveats: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    least_steps: int = 1000,
) -> Evidence:
    """The evidence of finished runs. With a run of fewer than `least_steps` it is smoke; else the device decides.

    Seeds that an arm lost are told in `settings`, so that nobody takes its runs for one of each seed.
    """
    first = next(iter(compared.runs.values()))[0]
    result = first.result() or {}
    facts = first.facts()
    steps = int(facts["chosen"]["steps"])
    least = min(int(run.facts()["chosen"]["steps"]) for runs in compared.runs.values() for run in runs)
    lost = {arm: sorted(errors) for arm, errors in compared.lost.items() if arm in compared.runs}
    told = dict(settings or {}) | ({"lost": lost} if lost else {})
    budget: Budget = "smoke" if least < least_steps else "gpu" if facts["chosen"]["device"] != "cpu" else "cpu"
    seconds = [run.result() or {} for runs in compared.runs.values() for run in runs]
    return made(
        definition,
        budget,
        command,
        measured,
        settings=told | {"steps": steps, "batch_size": facts["chosen"]["batch_size"]},
        series=series if series is not None else {"curves": compared.series()},
        recipes=compared.recipes,
        seeds=compared.seeds,
        data={name: facts["data"][name] for name in ("name", "checksums", "training", "validation", "test")},
        device=result.get("device", {}),
        caveats=tuple(caveats),
        seconds=round(sum(one.get("seconds", 0.0) for one in seconds), 1),
        **provenance([run for runs in compared.runs.values() for run in runs]),
    )


def provenance(runs: Iterable[RunFolder]) -> Facts:
    """Commit, versions and machine of every session of these runs; where they differ all of them, the first first."""
    commits: dict[str, None] = {}
    tables: dict[str, dict[str, dict[Any, None]]] = {"versions": {}, "machine": {}}
    for run in runs:
        facts = run.facts()
        for session in (entry for entry in run.sessions() if entry["event"] == "began"):
            commits[session.get("commit", "unknown") or "installed"] = None
            for table, found in tables.items():
                for name, value in (session.get(table) or facts[table]).items():
                    found.setdefault(name, {})[value] = None
    told = {table: {name: _one_or_all([*values]) for name, values in found.items()} for table, found in tables.items()}
    return {**told, "commit": ", ".join(commits) or None, "of": "the trainings"}


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else ", ".join(map(str, values))


def paper_caveats(compared: Compared) -> list[str]:
    """What a run shorter than the paper's, or trained on fewer images, must be quoted with."""
    facts = next(iter(compared.runs.values()))[0].facts()
    found = []
    if facts["chosen"]["steps"] < FULL:
        found.append(f"{facts['chosen']['steps']:,} iterations, where [1] trains for {FULL:,}")
    return [*found, *own_caveats(compared)]


def own_caveats(compared: Compared) -> list[str]:
    """What figures of fewer images, or without runs that did not train, must be quoted with."""
    facts = next(iter(compared.runs.values()))[0].facts()
    found = []
    for arm, errors in compared.lost.items():
        some = f", {len(errors)} of {len(compared.seeds)} seeds ({', '.join(map(str, errors))})"
        found.append(f"{arm} did not train{some if arm in compared.runs else ''}: {next(iter(errors.values())).what}")
    if facts["data"]["name"].startswith("cifar") and facts["data"]["training"] < WHOLE:
        found.append(f"trained on {facts['data']['training']:,} images")
    return found
