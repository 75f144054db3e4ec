"""A trial before step 0: a network like the run's takes real steps on the run's own images, and is thrown away.

Nothing of the run is touched. The batches are had by their step, the network is another one, the learning rate is
zero, and torch's generators are put back. Times are seconds by a monotonic clock, after warm-up, and include reading
and augmenting the images; on a GPU its queue is empty before a clock is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import Tensor

from residual.chance import seed_device
from residual.data.batches import Batches
from residual.data.datasets import Division
from residual.data.preprocessing import Preprocessing
from residual.data.source import Dataset, everything
from residual.errors import StorageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.evaluate import evaluate
from residual.evaluation.scores import Tally
from residual.files import TEMPORARY, remove_folder, storage
from residual.models import NetworkSpec, build, overwrite_activations, put
from residual.sealed import read_folder, write_folder
from residual.training import compiling
from residual.training.averaging import Averaging
from residual.training.compute import Compute
from residual.training.freezing import make_freezing
from residual.training.optimiser import OptimiserPart, alike, make_optimiser, set_rate
from residual.training.recipe import Recipe
from residual.training.room import Room
from residual.training.scaling import Scaling
from residual.training.state import Part, TrainState
from residual.training.step import Guard, train_step
from residual.training.weighing import class_weights

WARM, FEWEST = 3, 3
"""Steps before the clock starts, and the fewest that are timed."""
_AHEAD = 2
_ENDLESS = 1 << 40


class Trial:
    """A network at work beside the run. `opening` is the seconds it took to make it ready, as the run will need.

    `constants` are those of the training images, which the run will take as well.
    """

    def __init__(
        self,
        recipe: Recipe,
        spec: NetworkSpec,
        compute: Compute,
        dataset: Dataset,
        division: Division,
        constants: Preprocessing,
    ) -> None:
        began = time.monotonic()
        compute = replace(compute, compile=recipe.compute.compile == "default")  # of auto nobody knows yet
        self.recipe, self.compute, self.dataset, self.division = recipe, compute, dataset, division
        compute.prepare()
        self.constants = constants
        self.network = build(spec, recipe.seed)
        put(self.network, compute.torch_device, compute.memory_format).train()
        overwrite_activations(self.network)
        self.network.recompute = recipe.compute.recompute
        compiling.prepare(self.network, compute)
        freezing = make_freezing(self.network, recipe.start, 1) if not recipe.start.unfreeze else None
        if freezing is not None:  # what learns later is timed as if it learned from the start: no run takes longer
            freezing.apply(0)
        self.optimiser = make_optimiser(
            self.network, recipe.optimiser, freezing.group if freezing is not None else alike
        )
        set_rate(self.optimiser, 0.0, recipe.optimiser.momentum)
        self.averaging = Averaging(self.network, recipe.optimiser.average) if recipe.optimiser.average else None
        self.weights = class_weights(recipe.loss, dataset, division)
        self.opening = time.monotonic() - began

    def batches(self, side: int | None, batch_size: int | None = None) -> Batches:
        """The run's batches, all at one side; None for full size."""
        recipe, sizes = self.recipe, () if side is None else ((0.5, side),)
        return Batches(
            self.dataset.train,
            self.division.training,
            self.constants,
            recipe.data.augment.model_copy(update={"sizes": sizes}),
            batch_size or recipe.batch_size,
            recipe.seed,
            self.compute.torch_device,
            _ENDLESS,
            recipe.data.sampling,
            self.weights,
        )

    def step_seconds(
        self, batches: Batches, seconds: float, heed: Callable[[], None], halving: bool = True
    ) -> tuple[float, float]:
        """The mean time of a step, and what the first ones took beyond it.

        Args:
            seconds: for how long steps are timed.
            heed: asked before every step; raises where a signal came.
            halving: whether a batch that the memory does not hold is cut in parts, as in a run, or raises.
        """
        settings, device = self.recipe.optimiser, self.compute.torch_device
        room = Room(self.network, {}, batches.batch_size, settings.accumulate) if halving else None
        scaling = Scaling(self.optimiser) if self.compute.precision == "float16" else None
        guard, tally = Guard.on(device, scaling=scaling), Tally.empty(device)
        step, began, timed = 0, time.monotonic(), 0.0
        warm = 0.0
        while True:
            heed()
            for _ in range(10 if device.type != "cpu" and step >= WARM else 1):
                seed_device(step, device)
                if room is not None:
                    room.enter(step)
                batch = batches.batch_at(step)
                for following in range(step + 1, step + 1 + _AHEAD):
                    batches.expect(following)
                smoothing = self.recipe.loss.label_smoothing
                made = train_step(
                    self.network, self.optimiser, batch, self.compute, smoothing, step, settings, guard, room
                )
                if self.averaging is not None:
                    self.averaging.stepped()
                tally.add(made.logits, made.labels, made.loss_sum)
                step += 1
            if step <= WARM or device.type != "cpu":
                synchronise(device)
            now = time.monotonic()
            if step <= WARM:
                warm = now - began
                continue
            timed = now - began - warm
            if timed >= seconds and step >= WARM + FEWEST:
                break
        mean = timed / (step - WARM)
        return mean, max(0.0, warm - WARM * mean)

    def epoch_seconds(self, batches: Batches) -> float:
        """What drawing the order and the augmentation of an epoch takes."""
        began = time.monotonic()
        batches.sequence(1)
        batches.draws(1)
        return time.monotonic() - began

    def evaluation_seconds(self, seconds: float, heed: Callable[[], None]) -> float:
        """The time of one image in an evaluation; 0 where there are no images to evaluate."""
        source, indices = self.dataset.held, self.division.validation
        if not len(indices):
            source, indices = self.dataset.test, everything(self.dataset.test)
        if not len(indices):
            return 0.0
        sight = self.constants.of(self.dataset.geometry, self.dataset.test_size)
        size, device = self.recipe.evaluation.batch_size, self.compute.torch_device
        parts = indices.split(size)

        def judge(part: Tensor) -> None:
            heed()
            with compiling.at_rest(self.compute):
                evaluate(self.network, source, part, sight, device, size)

        judge(parts[0])
        began, images = time.monotonic(), 0
        for part in parts:
            judge(part)
            images += len(part)
            if time.monotonic() - began >= seconds:
                break
        return (time.monotonic() - began) / images

    def checkpoint_seconds(self, beside: Path) -> float:
        """The time of a checkpoint on the disk of the run: made, written, made durable, read back.

        Raises:
            StorageError: there is no such disk.
        """
        while not beside.is_dir():
            if beside.parent == beside:  # a drive that is not there
                raise StorageError("there is no such drive", beside, "name another folder with --out")
            beside = beside.parent
        sight = self.constants.of(self.dataset.geometry, self.dataset.test_size)
        classifier = Classifier(self.network, sight, self.dataset.class_names, {})
        parts: dict[str, Part] = {"optimiser": OptimiserPart(self.network, self.optimiser)}
        if self.averaging is not None:
            parts["average"] = self.averaging
        with storage(beside):
            folder = Path(mkdtemp(prefix=TEMPORARY, dir=beside))
        try:
            began = time.monotonic()
            contents = TrainState(classifier, parts).pack("", {})
            write_folder(folder / "checkpoint", contents, "checkpoint", {})
            read_folder(folder / "checkpoint", "checkpoint")
            return time.monotonic() - began
        finally:
            remove_folder(folder)


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Leave torch's generators, those of the device included, as they were, and what it was told of determinism."""
    told = _determinism()
    benchmark = torch.backends.cudnn.benchmark
    on_cpu = device.type == "cpu"
    more = {} if on_cpu else {"device_type": device.type}
    try:
        with torch.random.fork_rng(devices=[] if on_cpu else [device.index or 0], **more):
            yield
    finally:
        if _determinism() != told:  # to tell torch imports its compiler
            torch.use_deterministic_algorithms(told[0], warn_only=told[1])
        torch.backends.cudnn.benchmark = benchmark


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def synchronise(device: torch.device) -> None:
    """Wait for what the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
