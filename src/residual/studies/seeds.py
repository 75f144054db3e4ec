"""One recipe over several seeds: mean and spread instead of one lucky run.

Each seed is a run of its own in `<study>/seed-<n>`, resumable as any run; a study that was interrupted goes on
where it was, and one of other settings is refused by its runs. Shares lie in [0, 1], losses are in nats; the spread is
the sample standard deviation. The same call in several processes shares the runs (`side_by_side`). Where torchrun
starts a study, each of its trainings is one of all processes; every machine must see the folder.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from residual.errors import ResidualError, UsageError
from residual.files import Facts, readable, replace_file
from residual.launch import launched, speaks
from residual.runs.folder import RunFolder, runs_root
from residual.runs.summary import model_figures
from residual.studies.side_by_side import Job, train_all
from residual.training.places import lasting_weights
from residual.training.progress import Listener, Silent
from residual.training.recipe import Changes, Override, Recipe, as_overrides
from residual.training.recipes import recipe_of
from residual.training.train import resume, train

SUMMARY = "study.json"
_FIGURES = ("top1", "top3", "top5", "loss")


@dataclass(frozen=True)
class Spread:
    """Mean and sample deviation of a figure over the seeds (None for one seed), and its values in their order."""

    mean: float
    std: float | None
    values: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, tuple(values))

    def as_dict(self) -> Facts:
        return {"mean": self.mean, "std": self.std, "values": list(self.values)}


@dataclass(frozen=True)
class SeedStudy:
    """The finished runs of a study, and by split the spread of each figure of their models."""

    folder: Path
    recipe: str
    seeds: tuple[int, ...]
    runs: tuple[RunFolder, ...]
    final: Mapping[str, Mapping[str, Spread]]
    seconds: Spread

    def as_dict(self) -> Facts:
        return {
            "format": 1,
            "kind": "seeds",
            "recipe": self.recipe,
            "seeds": list(self.seeds),
            "runs": [run.name for run in self.runs],
            "final": {
                split: {name: spread.as_dict() for name, spread in figures.items()}
                for split, figures in self.final.items()
            },
            "seconds": self.seconds.as_dict(),
        }


def study_seeds(
    recipe: Recipe | str | os.PathLike[str],
    seeds: Sequence[int],
    *,
    set: Changes = (),
    out: str | os.PathLike[str] | None = None,
    listener: Callable[[int], Listener] = lambda seed: Silent(),
) -> SeedStudy:
    """Train a recipe once for every seed; what is finished already, or at work elsewhere, is not trained again.

    Args:
        recipe: a recipe, or the name of one.
        seeds: the seeds, all different.
        set: values to change, by path; not the seed.
        out: the folder of the study; without it `runs/seeds-<recipe>`.
        listener: makes the listener of each seed's run.

    Raises:
        UsageError: no seeds, or twice the same, or a run there has other settings.
        Interrupted: the run at work is saved; the same call goes on.
    """
    check_seeds(seeds)
    changes = as_overrides(set)
    if any(path == "seed" for path, _ in changes):
        raise UsageError("the study sets the seed itself", "seed", "leave it out and name the seeds")
    plain = recipe_of(recipe, started="start.weights" in dict(changes))
    folder = Path(out).expanduser() if out is not None else usual_place("seeds", plain, changes)
    return finished(folder, plain, seeds, train_all(seed_jobs(folder, plain, seeds, changes, listener)))


def usual_place(study: str, recipe: Recipe, changes: Iterable[Override]) -> Path:
    """The folder of a study under the runs; recipes for anyone's images are told apart by the name of these."""
    path = dict(changes).get("data.path") or recipe.data.path
    tail = f"-{Path(path).resolve().name}" if recipe.data.dataset == "folder" and path else ""
    return runs_root() / f"{study}-{recipe.name}{tail}"


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse no seeds, the same twice, and negative ones."""
    if not seeds or len({*seeds}) < len(seeds) or min(seeds) < 0:
        raise UsageError(f"the seeds {list(seeds)} are no study", "seeds", "give different numbers, 0 or above")


def seed_jobs(
    folder: Path,
    recipe: Recipe,
    seeds: Sequence[int],
    changes: Sequence[Override],
    listener: Callable[[int], Listener],
    name: str = "",
) -> list[Job]:
    """The runs of a recipe over seeds, to be trained, all from the same weights. `name` goes before theirs."""
    changes = lasting_weights(changes, next(_begun_from(folder, seeds), None))

    def job(seed: int) -> Job:
        place, asked = folder / f"seed-{seed}", [*changes, ("seed", seed)]

        def work() -> RunFolder:
            if launched() is None and os.path.lexists(place):  # of several processes the training finds out itself
                return resume(place, recipe=recipe, set=asked, listener=listener(seed))
            return train(recipe, set=asked, out=place, listener=listener(seed))

        return Job(place, f"{name}seed {seed}", work)

    return [job(seed) for seed in seeds]


def _begun_from(folder: Path, seeds: Iterable[int]) -> Iterator[str]:
    """The weights that runs there began from."""
    for place in (folder / f"seed-{seed}" for seed in seeds):
        with suppress(ResidualError):
            if isinstance(weights := RunFolder.open(place).facts()["recipe"]["start"]["weights"], str):
                yield weights


def finished(folder: Path, recipe: Recipe, seeds: Sequence[int], runs: Sequence[RunFolder]) -> SeedStudy:
    """The study of finished runs, also as a file in its folder."""
    study = summarise(folder, recipe.name, seeds, runs)
    if speaks():
        replace_file(folder / SUMMARY, readable(study.as_dict()))
    return study


def summarise(folder: Path, recipe: str, seeds: Sequence[int], runs: Sequence[RunFolder]) -> SeedStudy:
    """The spread of every figure over finished runs."""
    results = [result for run in runs if (result := run.result()) is not None]
    found = [model_figures(result) for result in results]
    splits = [split for split in ("validation", "test") if all(split in figures for figures in found)]
    final = {
        split: {name: Spread.of([figures[split][name] for figures in found]) for name in _FIGURES} for split in splits
    }
    seconds = Spread.of([result["seconds"] for result in results])
    return SeedStudy(folder, recipe, tuple(seeds), tuple(runs), final, seconds)
