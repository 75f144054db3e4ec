"""Fine-tuning against training from scratch, on few images and at equal steps, over seeds.

Digits: a network trained on 0 to 6 learns 7, 8, 9 from 20 images each; every seed has a pre-training of its own.
CIFAR-10: seven classes, then the other three from 50 images each; one pre-training serves all seeds. A seed is also
the number of the draw, so each has other images, the same for every arm. Test images of the three classes are read
once, at the last step. Rates and the number of steps were settled on validation images of other draws.
Every run stands in its own folder under runs/fine-tuning, so an interrupted campaign goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from campaigns.running import RESULTS, ROOT, cifar_folder, spread, write_result
from residual.errors import UsageError
from residual.evaluation.classifier import Classifier
from residual.files import Facts
from residual.models.parts import part_of
from residual.runs.folder import RunFolder
from residual.studies.student import mean_of
from residual.training.train import resume, train

RUNS = ROOT / "runs" / "fine-tuning"
Settings = Mapping[str, Any]
HEAD_ALONE = {"start.freeze": "head-only", "start.unfreeze": [], "start.rate_divisor": 1.0}


@dataclass(frozen=True)
class Problem:
    """Classes to learn first and then, and how: every group of settings stands beside those of `both`."""

    title: str
    recipe: str
    first: Sequence[str]
    then: Sequence[str]
    per_class: int
    before: Settings
    both: Settings
    tuned: Settings
    scratch: Settings
    own_first: bool
    """Whether every seed has a pre-training of its own."""
    locate: Callable[[], Settings] = dict


def _cifar() -> Settings:
    return {"data.path": cifar_folder()}


PROBLEMS = {
    "digits": Problem(
        title="digits 0 to 6, then 7, 8, 9",
        recipe="digits",
        first=list("0123456"),
        then=list("789"),
        per_class=20,
        before={"epochs": 8},
        both={"batch_size": 16, "steps": 20},
        tuned={
            "schedule.peak": 0.2,
            "schedule.momentum_low": None,
            "optimiser.momentum": 0.9,
            "start.freeze": "head-only",
            "start.unfreeze": [0.15, 0.3, 0.45],
            "start.rate_divisor": 2.6,
        },
        scratch={"schedule.peak": 0.05},
        own_first=True,
    ),
    "cifar-10": Problem(
        title="CIFAR-10: seven classes, then cat, deer, dog",
        recipe="cifar10-fast",
        first=["airplane", "automobile", "bird", "frog", "horse", "ship", "truck"],
        then=["cat", "deer", "dog"],
        per_class=50,
        before={"epochs": 8},
        both={"batch_size": 32, "steps": 300, "data.augment.sizes": []},
        tuned={
            "schedule.peak": 0.1,
            "schedule.momentum_low": None,
            "optimiser.momentum": 0.9,
            "start.freeze": "head-only",
            "start.unfreeze": [0.15, 0.3, 0.45],
            "start.rate_divisor": 2.6,
        },
        scratch={"schedule.peak": 0.2},
        own_first=False,
        locate=_cifar,
    ),
}


def finished(path: Path, recipe: str, settings: Settings, start_from: Path | None = None) -> RunFolder:
    """The run in that folder: begun, gone on with, or already there."""
    if (path / "run.json").is_file():
        return resume(path)
    return train(recipe, set=settings, start_from=start_from, out=path, command="make campaign fine-tuning")


def top1(run: RunFolder) -> float:
    """The share of test images answered rightly, at the last step."""
    result = run.result()
    if result is None:
        raise RuntimeError(f"{run.path} did not finish")
    return float(result["final"]["test"]["top1"])


def unchanged(run: RunFolder) -> tuple[int, int]:
    """Of the tensors below the head, statistics included, how many are bit for bit those it began from; and all."""
    before, after = Classifier.load(run.start_path).network, Classifier.load(run.model_path).network
    stages, state = len(before.spec.depths), after.state_dict()
    below = {name: tensor for name, tensor in before.state_dict().items() if part_of(name, stages) <= stages}
    return sum(torch.equal(tensor, state[name]) for name, tensor in below.items()), len(below)


def compare(problem: Problem, seeds: int, folder: Path, own: Settings) -> Facts:
    """All arms over the seeds, their means, and the paired differences from training from scratch."""
    place = {**problem.locate(), **own}
    rows: list[Facts] = []
    frozen = [0, 0]
    for seed in range(seeds):
        first = seed if problem.own_first else 0
        before = {**place, **problem.before, "data.classes": list(problem.first), "data.validation": 0.0}
        base = finished(folder / f"before-{first}", problem.recipe, {**before, "seed": first})
        few = {**place, **problem.both, "data.classes": list(problem.then), "data.per_class": problem.per_class}
        few |= {"data.draw": seed, "data.validation": 0.0, "seed": seed, "evaluation.every_epochs": 1e6}
        arms = {
            "fine-tuned": finished(folder / f"tuned-{seed}", problem.recipe, {**few, **problem.tuned}, base.path),
            "head alone": finished(
                folder / f"head-{seed}", problem.recipe, {**few, **problem.tuned, **HEAD_ALONE}, base.path
            ),
            "from scratch": finished(folder / f"scratch-{seed}", problem.recipe, {**few, **problem.scratch}),
        }
        same, all_of_them = unchanged(arms["head alone"])
        frozen = [frozen[0] + same, frozen[1] + all_of_them]
        rows.append({"seed": seed, "before": top1(base), **{name: top1(run) for name, run in arms.items()}})
        print(f"{problem.title}, seed {seed}: " + ", ".join(f"{n} {top1(r):.2%}" for n, r in arms.items()), flush=True)
    names = ["fine-tuned", "head alone", "from scratch"]
    facts, result = arms["fine-tuned"].facts(), arms["from scratch"].result() or {}
    return {
        "title": problem.title,
        "network": facts["network"]["name"],
        "first": list(problem.first),
        "then": list(problem.then),
        "images_of_each": problem.per_class,
        "test_images": result["final"]["test"]["images"],
        "steps": result["steps"],
        "batch_size": facts["chosen"]["batch_size"],
        "seeds": list(range(seeds)),
        "pre_trainings": seeds if problem.own_first else 1,
        "settings": {
            "recipe": problem.recipe,
            "before": dict(problem.before),
            "both": dict(problem.both),
            "fine-tuned": dict(problem.tuned),
            "head alone": {**problem.tuned, **HEAD_ALONE},
            "from scratch": dict(problem.scratch),
        },
        "rows": rows,
        "test_top1": {name: spread([row[name] for row in rows]) for name in names},
        "before_top1": spread(sorted({row["before"] for row in rows})) if problem.own_first else rows[0]["before"],
        "paired_differences": {
            name: mean_of([row[name] - row["from scratch"] for row in rows]).as_dict()
            for name in names
            if name != "from scratch"
        },
        "frozen_tensors": {"unchanged": frozen[0], "all": frozen[1]},
    }


def judge(found: Mapping[str, Facts]) -> int:
    """0 where fine-tuning is better by the paired intervals and nothing frozen has moved, else 1; said in words."""
    code = 0
    for name, one in found.items():
        tuned, scratch = one["test_top1"]["fine-tuned"], one["test_top1"]["from scratch"]
        difference, frozen = one["paired_differences"]["fine-tuned"], one["frozen_tensors"]
        low = (difference["interval"] or [-1.0])[0]
        print(
            f"{name}: fine-tuned {tuned['mean']:.2%}, from scratch {scratch['mean']:.2%}, difference "
            f"{100 * difference['mean']:+.2f} points; frozen tensors unchanged: {frozen['unchanged']} of "
            f"{frozen['all']}"
        )
        if low <= 0 or frozen["unchanged"] != frozen["all"]:
            code = 1
    return code


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign fine-tuning")
    parser.add_argument("--only", choices=list(PROBLEMS), help="one of the two; the other's figures stay as they are")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="threads of the CPU; 0 lets torch choose")
    options = parser.parse_args(argv)
    if options.seeds < 2:
        raise UsageError("one seed has no spread", "--seeds", "give 2 or more")
    began = time.monotonic()
    stored = RESULTS / "fine-tuning.json"
    kept = json.loads(stored.read_bytes()) if options.only and stored.is_file() else None
    old = kept["problems"] if kept else {}
    names = [options.only] if options.only else list(PROBLEMS)
    own = {"compute.threads": options.threads, "compute.precision": "float32"}
    new: dict[str, Facts] = {}
    for name in names:
        start = time.monotonic()
        new[name] = compare(PROBLEMS[name], options.seeds, RUNS / name, own)
        new[name]["seconds"] = round(time.monotonic() - start, 1)
    found = {name: (old | new)[name] for name in PROBLEMS if name in old | new}
    write_result("fine-tuning", {"problems": found}, began, kept)
    return judge(new)
