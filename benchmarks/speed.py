"""Training and inference beside the usual loop and beside the machine's limit, by turns, one network after the other.

Ours in training is a real run: recipe, run folder, session, loop; the clock is read where the loop tells its listener
of a step. In inference it is `evaluate`, as `residual evaluate` and the evaluations of a run call it, in float32.
Theirs is `usual_loop`, float32 NCHW in a process of its own, with as many workers as were quickest and all threads of
torch. The limit is a product of two large matrices, in bfloat16 and in float32, measured in every turn. A turn is a
stretch of each; its first steps are not timed, and the first turn is thrown away. Every network has a process of its
own.

Images are CIFAR-10's, and photographs of 500 x 375 pixels made for it, as JPEG files. GFLOP/s count two operations a
multiply-add of convolutions and fully connected layers; a step of training counts three times the forward pass. Memory
is the most that the training process held above what it held before its network, in bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from PIL import Image

from benchmarks.limit import SIDES, Memory, product
from benchmarks.train_throughput import Enough, find_data, spread
from benchmarks.usual_loop import Usual, UsualImages, UsualPhotographs, UsualProcess
from campaigns.running import environment, write_result
from residual.data.datasets import divide, open_dataset
from residual.data.preprocessing import measure
from residual.data.source import Dataset, everything
from residual.evaluation.evaluate import evaluate
from residual.files import Facts
from residual.models import NetworkSpec, build, put
from residual.runs.folder import RunFolder
from residual.training import opening
from residual.training import train as training
from residual.training.progress import Lines
from residual.training.recipe import override
from residual.training.recipes import RECIPES


@dataclass(frozen=True)
class Case:
    """A network, what it is trained on, and how long a stretch is: timed steps, batches of inference, steps to warm."""

    network: str
    recipe: str
    batch_size: int
    steps: int
    answers: int
    warm: int
    share: float
    """Of the time of the whole benchmark."""
    workers: tuple[int, ...] = (0, 1, 2)
    """Numbers of workers that the usual loop is tried with."""


CASES = {
    case.network: case
    for case in (
        Case("resnet-20", "cifar10-paper", 128, steps=20, answers=16, warm=4, share=0.25),
        Case("resnet-56", "cifar10-paper", 128, steps=8, answers=8, warm=2, share=0.3),
        Case("resnet-50", "imagenet-steps", 32, steps=2, answers=2, warm=1, share=0.45),
    )
}
QUIET = {"data.validation": 0.0, "evaluation.every_epochs": 1e6, "checkpoint.every_seconds": None}
LEAST, MOST = 3, 20
"""Turns that count, however short or long the time is."""


def photographs(folder: Path, number: int) -> tuple[list[str], list[int]]:
    """So many JPEG files of 500 x 375 pixels in two classes: smooth colours with a little noise."""
    chance, files = torch.Generator().manual_seed(0), []
    for place in range(number):
        coarse = torch.rand(1, 3, 12, 16, generator=chance)
        smooth = torch.nn.functional.interpolate(coarse, size=(375, 500), mode="bicubic").squeeze(0)
        pixels = (smooth + 0.04 * torch.randn(3, 375, 500, generator=chance)).clamp(0, 1).mul(255).byte()
        file = folder / ("even", "odd")[place % 2] / f"{place:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(file, quality=90)
        files.append(str(file))
    return files, [place % 2 for place in range(number)]


class Stretches(Lines):
    """Times stretches of the run it listens to, and lets others work after each until it is told that it is enough."""

    def __init__(self, case: Case, others: Callable[[], bool]) -> None:
        super().__init__(lambda line: None)
        self.case, self.others = case, others
        self.rates: list[float] = []

    def began(self, plan: Facts) -> None:
        super().began(plan)
        facts = RunFolder(Path(plan["run"])).facts()
        self.chosen, self.counted = facts["chosen"], facts["counted"]

    def stepped(self, step: int, images: int) -> None:
        super().stepped(step, images)
        place = step % (self.case.warm + self.case.steps)
        if place == self.case.warm:
            self.start = time.perf_counter()
        elif place == 0:
            self.rates.append(self.case.steps * images / (time.perf_counter() - self.start))
            if self.others():
                raise Enough


class Beside:
    """What works between two stretches of ours: the usual loop, inference of both, products of matrices."""

    def __init__(self, case: Case, dataset: Dataset, spec: NetworkSpec, usual: UsualProcess, minutes: float) -> None:
        self.case, self.usual, self.until = case, usual, time.monotonic() + 60 * minutes
        self.tried = {workers: usual.rate(workers, max(1, case.steps // 2), case.warm) for workers in case.workers}
        self.workers = max(self.tried, key=self.tried.__getitem__)
        self.network = put(build(spec, 0), torch.device("cpu")).eval()
        recipe = RECIPES[case.recipe]
        self.source = dataset.test if len(dataset.test) else dataset.train
        whole = everything(self.source)
        self.indices = whole.repeat(1 + case.answers * case.batch_size // len(whole))[: case.answers * case.batch_size]
        training_part = divide(dataset, recipe.data).training
        self.preprocessing = measure(dataset.train, training_part, recipe.data.normalisation)
        self.theirs: list[float] = []
        self.answers: dict[str, list[float]] = {"ours": [], "theirs": []}
        self.limits: dict[str, list[float]] = {"float32": [], "bfloat16": []}

    def turn(self, most: int, sides: Sequence[int]) -> bool:
        """One stretch of each; whether that was the last."""
        case = self.case
        self.theirs.append(self.usual.rate(self.workers, case.steps, case.warm))
        evaluate(self.network, self.source, self.indices[:1], self.preprocessing, torch.device("cpu"))
        start = time.perf_counter()
        evaluate(self.network, self.source, self.indices, self.preprocessing, torch.device("cpu"), case.batch_size)
        self.answers["ours"].append(len(self.indices) / (time.perf_counter() - start))
        self.answers["theirs"].append(self.usual.answer(self.workers, case.answers))
        for name, values in self.limits.items():
            values.append(product(getattr(torch, name), sides))
        counted = len(self.theirs) - 1
        return counted >= most or (counted >= min(LEAST, most) and time.monotonic() > self.until)


def judge(ours: Sequence[float], theirs: Sequence[float], flop: float, limit: float) -> Facts:
    """Both rates, their ratio turn by turn, and ours in GFLOP/s beside the limit; the first turn does not count."""
    ours, theirs = ours[1:], theirs[1:]
    median = statistics.median(ours)
    ratios = spread([a / b for a, b in zip(ours, theirs, strict=True)])
    return {
        "ours": spread(ours),
        "theirs": spread(theirs),
        "ratio": {**ratios, "of medians": median / statistics.median(theirs)},
        "gflops": median * flop / 1e9,
        "share_of_limit": median * flop / 1e9 / limit,
    }


def compare(
    case: Case, dataset: Dataset, images: Usual, changes: Facts, minutes: float, most: int, sides: Sequence[int]
) -> Facts:
    """All that is measured of one network. The data set is opened here, and given to the run as it is."""
    settings = {**QUIET, "network.name": case.network, "batch_size": case.batch_size, **changes}
    beside: list[Beside] = []

    class Both(Stretches):
        def began(self, plan: Facts) -> None:
            super().began(plan)
            spec = NetworkSpec.model_validate(RunFolder(Path(plan["run"])).facts()["network"])
            usual.append(UsualProcess(spec, images, self.chosen["device"], case.batch_size))
            beside.append(Beside(case, dataset, spec, usual[0], minutes))
            self.memory = Memory()

    usual: list[UsualProcess] = []
    turns = Both(case, lambda: beside[0].turn(most, sides))
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(opening, "open_dataset", return_value=dataset):
        try:
            with suppress(Enough):
                training.train(case.recipe, set=settings, out=Path(folder) / "run", listener=turns)
            theirs_memory = usual[0].memory(beside[0].workers)
        finally:
            for process in usual:
                process.end()
    found, forward = beside[0], 2.0 * turns.counted["multiply_adds"]
    limits = {name: statistics.median(values) for name, values in found.limits.items()}
    return {
        "turns": len(turns.rates) - 1,
        "batch_size": case.batch_size,
        "compute": turns.chosen,
        "theirs": {"workers": found.workers, "tried": found.tried},
        "limit_gflops": limits,
        "training": judge(turns.rates, found.theirs, 3 * forward, limits[turns.chosen["precision"]]),
        "inference": judge(found.answers["ours"], found.answers["theirs"], forward, limits["float32"]),
        "memory": {"ours": turns.memory.peak(), "theirs": theirs_memory},
    }


def one(name: str, minutes: float, smoke: bool) -> Facts:
    """What is measured of one network, in this process."""
    case, most, sides = CASES[name], MOST, SIDES
    changes: Facts = {}
    if smoke:
        case = dataclasses.replace(case, batch_size=8, steps=2, answers=1, warm=1)
        changes = {"network.widths": [8] * (4 if name == "resnet-50" else 3)}
        most, sides = 1, (256,)
    if case.recipe == "cifar10-paper":
        dataset, what = find_data()
        source = dataset.train
        pixels = source.read(everything(source)).permute(0, 2, 3, 1).contiguous().numpy()
        usual: Usual = UsualImages(pixels, source.labels.tolist())
        return {"data": what, **compare(case, dataset, usual, changes, minutes, most, sides)}
    with tempfile.TemporaryDirectory() as folder:
        files, labels = photographs(Path(folder), 16 if smoke else 256)
        changes = {**changes, "data.path": folder, "data.image_size": 64 if smoke else 224}
        recipe = override(RECIPES[case.recipe], list({**QUIET, **changes}.items()))
        dataset, usual = open_dataset(recipe.data), UsualPhotographs(files, labels, 64 if smoke else 224)
        return {"data": "JPEG photographs made for it", **compare(case, dataset, usual, changes, minutes, most, sides)}


def line(name: str, found: Facts) -> str:
    said = []
    for what in ("training", "inference"):
        part = found[what]
        ratio = part["ratio"]
        said.append(
            f"{what} {part['ours']['median']:,.0f} against {part['theirs']['median']:,.0f} images/s, "
            f"{ratio['of medians']:.2f} times ({ratio['least']:.2f} to {ratio['most']:.2f}), "
            f"{part['gflops']:,.0f} GFLOP/s = {part['share_of_limit']:.0%} of the limit"
        )
    return f"{name}: {'; '.join(said)}"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="speed", description="training and inference beside the usual loop")
    parser.add_argument("--minutes", type=float, default=17, help="of all networks together, a little more is used")
    parser.add_argument("--networks", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--smoke", action="store_true", help="narrow networks, one turn each, no result file")
    parser.add_argument("--one", choices=list(CASES), help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.one:
        print(json.dumps(one(given.one, given.minutes, given.smoke)))
        return 0
    began, networks = time.monotonic(), {}
    whole = sum(CASES[name].share for name in given.networks)
    for name in given.networks:
        minutes = given.minutes * CASES[name].share / whole
        command = [sys.executable, "-m", "benchmarks.speed", "--one", name, "--minutes", f"{minutes:g}"]
        command += ["--smoke"] if given.smoke else []
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
        networks[name] = json.loads(done.stdout.splitlines()[-1])
        print(line(name, networks[name]), flush=True)
    if not given.smoke:
        write_result("speed", {"minutes": given.minutes, "networks": networks}, began)
    return 0


if __name__ == "__main__":
    sys.argv.insert(1, "speed")  # as `make campaign speed` gives it
    sys.exit(main(sys.argv[2:]))
