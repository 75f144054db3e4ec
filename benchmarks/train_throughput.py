"""Images per second of `residual train` beside those of the usual loop, in one run, turn by turn.

Ours is a real run from its beginning: recipe, run folder, session, loop; the clock is read where the loop tells its
listener of a step, so a timed step holds all that a step does: batch, augmentation, forward, loss, backward, the test
for values that are not finite, the update, the running sums, the listener. No evaluation and no checkpoint falls into
the timed steps. Theirs is `usual_loop`, with as many workers as were quickest. Both have the same network, batches of
128 and all threads of torch; theirs works in a process of its own. After each stretch of ours one of theirs follows,
while the listener's call waits; each begins with steps that are not timed, and the first pair is thrown away.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import torch

from benchmarks.usual_loop import UsualImages, UsualProcess
from campaigns.running import write_result
from residual.data.datasets import DataSettings, open_dataset
from residual.data.source import Dataset, MemorySource, everything
from residual.errors import DataError
from residual.files import Facts
from residual.models import NetworkSpec
from residual.runs.folder import RunFolder
from residual.training import opening
from residual.training import train as training
from residual.training.progress import Lines

NETWORKS = ("resnet-20", "resnet-56")
SETTINGS = {
    "data.validation": 0.0,
    "data.normalisation": "mean-std",
    "evaluation.every_epochs": 1e6,
    "checkpoint.every_seconds": None,
}


class Enough(Exception):
    """All is measured; the run need not go on."""


def find_data() -> tuple[Dataset, str]:
    """The official CIFAR-10 where it is found, else random pixels of its shape; and which of the two."""
    try:
        return open_dataset(DataSettings(dataset="cifar-10")), "CIFAR-10"
    except DataError:
        chance = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=chance)
        source = MemorySource(images, torch.arange(50_000) % 10)
        names = tuple(f"class {number}" for number in range(10))
        dataset = Dataset(
            name="cifar-10",
            train=source,
            test=source,
            class_names=names,
            channels=3,
            image_size=(32, 32),
            checksums={},
            origin="random",
        )
        return dataset, "random pixels of CIFAR-10's shape"


class Turns(Lines):
    """Times stretches of the run it listens to, and lets the usual loop work after each."""

    def __init__(self, images: UsualImages, rounds: int, steps: int, warm: int, workers: Sequence[int]) -> None:
        super().__init__(lambda line: None)
        self.images, self.rounds, self.steps, self.warm, self.workers = images, rounds, steps, warm, workers
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.tried: dict[int, float] = {}
        self.chosen: Facts = {}

    def began(self, plan: Facts) -> None:
        super().began(plan)
        facts = RunFolder(Path(plan["run"])).facts()
        self.chosen, spec = facts["chosen"], NetworkSpec.model_validate(facts["network"])
        self.usual = UsualProcess(spec, self.images, self.chosen["device"])
        for workers in self.workers:
            self.tried[workers] = self.usual.rate(workers, max(1, self.steps // 2), self.warm)
        self.best = max(self.tried, key=self.tried.__getitem__)

    def stepped(self, step: int, images: int) -> None:
        super().stepped(step, images)
        place = step % (self.warm + self.steps)
        if place == self.warm:
            self.start = time.perf_counter()
        elif place == 0:
            self.ours.append(self.steps * images / (time.perf_counter() - self.start))
            self.theirs.append(self.usual.rate(self.best, self.steps, self.warm))
            if len(self.ours) > self.rounds:
                raise Enough


def spread(values: Sequence[float]) -> Facts:
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "values": list(values)}


def compare(network: str, dataset: Dataset, rounds: int, steps: int, warm: int, workers: Sequence[int]) -> Facts:
    """Both rates in images per second, and ours divided by theirs."""
    source = dataset.train
    pixels = source.read(everything(source)).permute(0, 2, 3, 1).contiguous().numpy()
    turns = Turns(UsualImages(pixels, source.labels.tolist()), rounds, steps, warm, workers)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(opening, "open_dataset", return_value=dataset):
        try:
            changes = SETTINGS | {"network.name": network}
            training.train("cifar10-paper", set=changes, out=Path(folder) / "run", listener=turns)
        except Enough:
            pass
        finally:
            turns.usual.end()
    ours, theirs = turns.ours[1:], turns.theirs[1:]
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "ours": spread(ours),
        "theirs": {**spread(theirs), "workers": turns.best, "tried": turns.tried},
        "ratio": {**spread(pairs), "of medians": statistics.median(ours) / statistics.median(theirs)},
        "compute": turns.chosen,
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="train-throughput", description="images/s of ours and of the usual loop")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of stretches that count")
    parser.add_argument("--steps", type=int, default=20, help="timed steps in each")
    parser.add_argument("--trial", action="store_true", help="write no result file")
    given = parser.parse_args(argv)
    began, (dataset, what) = time.monotonic(), find_data()
    networks = {}
    for network in NETWORKS:
        found = compare(network, dataset, given.rounds, given.steps, warm=5, workers=(0, 1, 2))
        ratio = found["ratio"]
        print(
            f"{network}: ours {found['ours']['median']:,.0f}, theirs {found['theirs']['median']:,.0f} images/s "
            f"({found['theirs']['workers']} workers): {ratio['of medians']:.2f} times as fast, "
            f"from {ratio['least']:.2f} to {ratio['most']:.2f}",
            flush=True,
        )
        networks[network] = found
    if not given.trial:
        value = {"data": what, "rounds": given.rounds, "steps": given.steps, "batch_size": 128, "networks": networks}
        write_result("train-throughput", value, began)
    return 0


if __name__ == "__main__":
    sys.argv.insert(1, "train-throughput")  # as `make campaign train-throughput` gives it
    sys.exit(main(sys.argv[2:]))
