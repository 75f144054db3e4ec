"""`residual tune`."""

from __future__ import annotations

import json as json_
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

from cyclopts import Parameter

from residual.cli.asked import asked
from residual.cli.text import Number, Whole, printable

if TYPE_CHECKING:
    from residual.files import Facts
    from residual.training.progress import Record
    from residual.tuning.study import Study

Many = Annotated[list[str], Parameter(allow_repeating=True, negative=())]


def tune(
    recipe: str | None = None,
    /,
    *,
    study: str | None = None,
    sampler: str | None = None,
    rule: Many | None = None,
    space: str | None = None,
    gene: Many | None = None,
    generations: Whole | None = None,
    population: Whole | None = None,
    seeds: Whole | None = None,
    search_seed: Whole | None = None,
    prune: Literal["none", "median"] | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    data: str | None = None,
    epochs: Number | None = None,
    batch_size: Whole | None = None,
    network: str | None = None,
    seed: Whole | None = None,
    set: Many | None = None,
    device: str | None = None,
    storage: str | None = None,
    grace: Number = 30.0,
    launch: str | None = None,
    budget: str | None = None,
    log: Literal["auto", "plain", "json"] = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Search good settings for a recipe; without arguments, for the embedded digits in a few minutes.

    With the name of an existing study, the command continues it, or joins the workers that are running it.

    Parameters
    ----------
    recipe
        A named recipe, a recipe.toml file, or a folder of photographs; every individual has its
        settings, except for the genes.
    study
        The study's name; its runs lie in runs/NAME. Without it, a new one: tune-1, tune-2 ...
    sampler
        ga, ga-001 (seed 001's algorithm), nsgaii, tpe, cmaes or random.
    rule
        A rule of the sampler, as in `--rule threshold=0.3`; may be given several times.
    space
        default or seed001: learning rate, weight decay and momentum.
    gene
        A setting to search, as in `--gene schedule.peak=log:1e-3:3`, `int:1:4`, `choice:A,B`; alone, or with --space
        beside the genes of that space.
    generations
        Generations after the first, which is random except for one individual with the recipe's own values.
    population
        Individuals of a generation, those that survive included.
    seeds
        How often each individual is trained, with consecutive seeds; its fitness is the mean.
    search_seed
        The random seed of the search; --seed is that of the trainings.
    prune
        median stops a training, after its first third, whose best validation top-1 is below the median of what complete
        generations had reached by the same epoch.
    from_
        Begin every training from trained weights, as in `residual train`; photographs and digits then get the settings
        for fine-tuning.
    data
        The folder or archive with the images.
    epochs
        Passes over the training images.
    batch_size
        Images per step.
    network
        A named network.
    seed
        The seed of every individual's training.
    set
        Any setting by path.
    device
        The device of this worker.
    storage
        postgresql://USER@HOST/DATABASE or sqlite:///FILE; without it $RESIDUAL_STORAGE, else a file in runs/NAME.
    grace
        Seconds without a sign of life after which a worker on another machine is held to be dead.
    launch
        A launcher that begins the processes of each training, as in `--launch 'torchrun --nproc-per-node 4'`.
    budget
        The time, as 90s, 15m or 2h, after which no further training begins; the study can be gone on with.
    log
        Lines for people, or JSON lines.
    json
        The study as one JSON value on standard output, as `residual study show --json` gives it; progress goes to
        standard error.
    """
    from residual.environment import check_versions

    check_versions()
    from residual.tuning import need_optuna

    need_optuna()
    from residual.errors import Fault, check
    from residual.training.durations import seconds_of
    from residual.training.launching import parse_launcher
    from residual.training.progress import Unbroken, unbroken
    from residual.tuning.own import FREE
    from residual.tuning.study import Wish
    from residual.tuning.study import tune as work

    flags = {"from": from_, "data": data, "epochs": epochs, "batch_size": batch_size, "network": network}
    changes = asked(set, **flags, seed=seed, device=device)
    least = [("--population", population, 2), ("--generations", generations, 0), ("--seeds", seeds, 1)]
    given = [
        (name, value, low) for name, value, low in [*least, ("--search-seed", search_seed, 0)] if value is not None
    ]
    wrong = [Fault(name, value, f"must be {low} or more") for name, value, low in given if value < low]
    wrong += [] if 2 <= grace <= 86_400 else [Fault("--grace", grace, "must be between 2 and 86400, a day")]
    check("this study cannot start", wrong, "residual tune")
    wish = Wish(
        recipe,
        tuple((path, value) for path, value in changes if not path.startswith("compute.")),
        sampler,
        _rules(rule or []),
        space,
        tuple(gene or []),
        population,
        generations,
        search_seed,
        seeds,
        prune,
    )
    words = () if launch is None else parse_launcher(launch)
    limit = None if budget is None else seconds_of(budget, "--budget")
    told = Telling(log, sys.stderr if json else None)
    own = tuple((path, value) for path, value in changes if path.startswith(FREE))
    address = storage or os.environ.get("RESIDUAL_STORAGE")
    heard: Facts = {"tell": unbroken(told, "search"), "listener": Unbroken(told)}
    found = work(study, wish, storage=address, own=own, grace=grace, launch=words, budget=limit, **heard)
    _say_end(found, "json" if json else log, address)
    return 0


class Telling:
    """Says what happens in a study: a line when an individual begins and ends, and at times one of a validation."""

    def __init__(self, log: str, stream: TextIO | None = None) -> None:
        self._json, self._stream = log == "json", stream
        self._since, self._epochs, self._share = time.monotonic(), 0.0, 0.0

    def __call__(self, event: Facts) -> None:
        if self._json:
            print(json_.dumps(event), file=self._stream, flush=True)
        else:
            for line in describe(event):
                print(printable(line), file=self._stream, flush=True)
        self._since = time.monotonic()

    def began(self, plan: Record) -> None:
        self._epochs, self._share = plan["epochs"], plan["epochs"] / plan["steps"]

    def stepped(self, step: int, images: int) -> None: ...

    def recorded(self, record: Record) -> None:
        validated = record["kind"] == "evaluation" and record["split"] == "validation"
        if validated and not record["final"] and not self._json and time.monotonic() - self._since > 10:
            from residual.training.progress import passes

            place = f"epoch {passes(record['epoch'], self._share)}/{passes(self._epochs, self._share)}"
            print(f"    {place}: validation top-1 {record['top1']:.2%}", file=self._stream, flush=True)
            self._since = time.monotonic()

    def saved(self, step: int) -> None: ...

    def ended(self) -> None: ...


def _rules(texts: list[str]) -> dict[str, Any]:
    """The rules of `--rule`, each once."""
    from residual.errors import Fault, check
    from residual.training.values import parse_override

    rules = [parse_override(text) for text in texts]
    names = [name for name, _ in rules]
    twice = [Fault(name, "a rule", "given twice", "give it once") for name in {*names} if names.count(name) > 1]
    check("this study cannot start", sorted(twice, key=lambda fault: fault.subject), "--rule")
    return dict(rules)


def describe(event: Facts) -> list[str]:
    """An event of a study as lines of words."""
    if event["kind"] == "study":
        algorithm = dict(event["algorithm"])
        name = algorithm.pop("name")
        rules = ", ".join(f"{key}={value}" for key, value in algorithm.items())
        recipe = event["recipe"]
        lines = [
            f"study    {event['name']} ({event['storage']})",
            f"recipe   {recipe['name']}, {recipe['network']['name']}, {recipe['optimiser']['kind']}",
            f"sampler  {name}: {rules}; search seed {event['seed']}",
        ]
        lines += [f"gene     {path}  {ranged}" for path, ranged in event["space"]["genes"].items()]
        lines += ["first    the recipe's own values"] if event.get("own") is not None else []
        if recipe["data"]["dataset"] == "folder" and not recipe["data"]["test"]:
            lines.append("images   a folder test/, or --set data.test=0.1, keeps some aside that nothing is chosen on")
        return lines
    if event["kind"] == "generation":
        survivors = f", {len(event['survivors'])} survive" if event["survivors"] else ""
        place = f"{event['generation']}/{event['generations']}"
        return [f"generation {place}: {len(event['children'])} to be trained{survivors}"]
    head = f"  individual {event['number']}"
    match event["event"]:
        case "begun":
            return [f"{head}: {genes(event['genes'])}"]
        case "taken up":
            return [f"{head}: its worker is gone; it is taken up from step {event['step']:,}"]
        case "complete":
            text = f"top-1 {event['fitness']:.2%}"
        case "pruned":
            text = f"pruned, {event['reason']}"
        case _:
            text = f"failed: {event['reason']}"
    best = "" if event["best"] is None else f"; best {event['best']:.2%} (individual {event['best_number']})"
    left = "" if event["seconds_left"] is None else f", {_clock(event['seconds_left'])} left"
    return [f"{head}: {text}{best}; {event['done']} of {event['expected']}{left}"]


def genes(table: dict[str, Any]) -> str:
    shown = {path: f"{value:.4g}" if isinstance(value, float) else value for path, value in table.items()}
    return ", ".join(f"{path}={value}" for path, value in shown.items())


def _how_sure(folder: Path, best: Facts) -> str:
    """Of how many images the best figure is, and how far it may lie from what more of them would give."""
    from residual.evaluation.intervals import wilson
    from residual.runs.folder import RunFolder

    if len(best["runs"]) != 1:
        return ""
    images = int(RunFolder(folder / best["runs"][0]).facts()["data"]["validation"])
    low, high = wilson(round(best["fitness"] * images), images)
    return f" of {images:,} images, 95 % interval {100 * low:.1f} to {100 * high:.1f} %, the best of several"


def _judged_by(run: Path) -> str:
    """What a final training must be given so that there is a figure of it: a test set, where the data have none."""
    from residual.runs.folder import RunFolder

    data = RunFolder(run).facts()["data"]
    return " --set data.test=0.1" if data["name"] == "folder" and not data.get("test") else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _say_end(study: Study, log: str, address: str | None) -> None:
    from residual.cli.drawing import wanted
    from residual.cli.study import draw
    from residual.errors import argument
    from residual.tuning.address import after_command
    from residual.tuning.summary import summarise

    summary = summarise(study)
    study.close()
    picture = draw(summary, study.folder) if wanted() else None
    if log == "json":
        print(json_.dumps({"kind": "result", **summary}), flush=True)
        return
    best = summary["best"]
    unfinished = summary["status"] != "finished"
    if unfinished:
        done = sum(summary["counts"][word] for word in ("trained", "failed", "pruned"))
        most = summary["population"] * (summary["generations"] + 1)
        print(f"the budget is spent before the study is finished: {done:,} of at most {most:,} individuals are done")
    if best is None and unfinished:
        print("no individual is finished")
    elif best is None:
        print("finished: every individual failed; `residual study show` tells why")
    else:
        sure = _how_sure(study.folder, best)
        print(f"best     individual {best['number']}: validation top-1 {best['fitness']:.2%}{sure}")
        print(printable(f"         {genes(best['genes'])}"))
        if (own := summary["own"]) is not None:
            print(f"before   the recipe's own values: validation top-1 {own:.2%}")
    if picture is not None:
        print(printable(f"figure   {picture}"))
    name, after = argument(study.name), after_command(address)
    ways = [f"residual tune --study {name}{after}"] if unfinished else []
    for place, way in enumerate([*ways, f"residual study show {name}{after}"]):
        print(printable(f"{'         ' if place else 'next     '}{way}"))
    if best is not None and best["runs"]:
        recipe = study.folder / best["runs"][0] / "recipe.toml"
        judged = _judged_by(study.folder / best["runs"][0])
        print(printable(f"         residual train {argument(recipe)} --protocol final --seed 1{judged}"))
        if judged:
            print("         (its test images are of those the search has trained and chosen on, and flatter)")
