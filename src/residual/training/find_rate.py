"""The range test on a recipe, or on a run as far as it has come. Nothing on disk is opened for writing."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from residual.borrowed import borrowed_alone
from residual.data.batches import Batches
from residual.data.datasets import divide, open_dataset
from residual.data.preprocessing import measure
from residual.device import mind_fork
from residual.environment import check_versions
from residual.errors import Interrupted, UsageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.use import read_classifier
from residual.models import build, put, resolve
from residual.runs.folder import RunFolder, find_run
from residual.training.compute import choose
from residual.training.lr_range import RangeTest, Shape, judge, rates_of, sweep
from residual.training.opening import check_data, of_training, run_data, stored_recipe
from residual.training.recipe import Changes, Override, Recipe, as_overrides, override
from residual.training.recipes import DEFAULT, DEFAULT_FINETUNE, RECIPES, find_recipe, network_is_given
from residual.training.settling import settle, settled
from residual.training.signals import Signals
from residual.training.start import Start, prepare, read_start
from residual.training.weighing import class_weights

STEPS = 100


@dataclass(frozen=True)
class Found:
    """The range test with what it was made on."""

    test: RangeTest
    recipe: Recipe
    network: str
    step: int
    device: str
    run: RunFolder | None

    def as_dict(self) -> dict[str, Any]:
        about = {
            "recipe": self.recipe.name,
            "network": self.network,
            "step": self.step,
            "batch_size": self.recipe.batch_size,
            "momentum": self.recipe.optimiser.momentum,
            "seed": self.recipe.seed,
            "device": self.device,
        }
        return {**about, **self.test.as_dict()}


def find_rate(
    what: Recipe | str | os.PathLike[str] | None = None,
    *,
    set: Changes = (),
    start_from: str | os.PathLike[str] | None = None,
    start: float = 1e-5,
    stop: float = 10.0,
    steps: int = STEPS,
    shape: Shape = "exponential",
    stepped: Callable[[int, float], None] = lambda step, loss: None,
) -> Found:
    """Raise the learning rate over one short run and judge the loss (Smith 2017, section 3.3).

    Args:
        what: a recipe, or the name of one; or a run, whose newest weights and whose batches are then taken.
        start_from: trained weights that the recipe begins from; what they freeze at first stays frozen.
        set: values to change, by path; of a run neither its network nor its images can be changed.
        start, stop, steps, shape: the rates; the test ends early where the loss diverges.
        stepped: told of every step and its loss.

    Raises:
        UsageError: no such recipe or run, or a range that is none.
    """
    check_versions()
    mind_fork()
    rates = rates_of(start, stop, steps, shape)
    asked = as_overrides(set)
    if start_from is not None:
        asked.append(("start.weights", os.fspath(start_from)))
    paths = [path for path, _ in asked]
    if what is None:
        what = DEFAULT_FINETUNE if "start.weights" in paths else DEFAULT
    run = None if isinstance(what, Recipe) else _run(os.fspath(what))
    begun: Start | None = None
    signals = Signals()
    with borrowed_alone("residual.find_lr"), signals:
        if run is not None:
            _refuse_changed(asked, run)
            facts = run.facts()
            recipe = override(settled(stored_recipe(run, facts), facts, run.path), asked)
            dataset, division = run_data(recipe, facts, signals)
            check_data(run, facts, dataset, division)
        else:
            base = what if isinstance(what, Recipe) else find_recipe(os.fspath(what), "start.weights" in paths)
            plain = override(base, asked)
            begun = prepare(plain, paths, network_is_given(base))
            taken = begun.settled if begun is not None else {}
            dataset = open_dataset(override(plain, taken.items()).data, signals.heed)
            division = divide(dataset, plain.data)
            chosen, _ = settle(plain, dataset, len(division.training), paths)
            recipe = override(plain, [*chosen.items(), *taken.items()])
        compute, _ = choose(recipe.compute)
        compute.prepare()
        device = compute.torch_device
        if run is not None:
            classifier: Classifier = read_classifier(run.path)
            network, step = classifier.network, classifier.provenance["step"]
            started = read_start(run, facts)
            stored = classifier.preprocessing
            constants = started.preprocessing if started else of_training(stored, dataset, division)
        elif begun is not None:
            classifier = begun.fit(dataset, {})
            network, constants, step = classifier.network, classifier.preprocessing, 0
        else:
            spec = resolve(recipe.network, len(dataset.class_names), dataset.channels, dataset.image_size)
            network, step = build(spec, recipe.seed), 0
            constants = measure(dataset.train, division.training, recipe.data.normalisation)
        put(network, device, compute.memory_format)
        augment = recipe.data.augment.model_copy(update={"sizes": ()})  # at full size, where the run spends its end
        batches = Batches(
            dataset.train,
            division.training,
            constants,
            augment,
            recipe.batch_size,
            recipe.seed,
            device,
            sampling=recipe.data.sampling,
            class_weights=class_weights(recipe.loss, dataset, division),
        )
        losses = sweep(
            network,
            recipe.optimiser,
            batches.batch_at,
            compute,
            rates,
            first=step,
            smoothing=recipe.loss.label_smoothing,
            seed=recipe.seed,
            start=recipe.start,
            total=run.facts()["chosen"]["steps"] if run is not None else 1,
            stepped=stepped,
            halt=lambda: bool(signals),
        )
        if signals:
            number = signals.number or 2
            raise Interrupted("the range test was stopped", "find-lr", "nothing was changed; begin again", int(number))
    test = judge(rates, losses, math.log(len(dataset.class_names)))
    return Found(test, recipe, network.spec.name, step, compute.device, run)


def _run(name: str) -> RunFolder | None:
    """The run of that name; None where the name means a recipe, even if a run has the same."""
    if name in RECIPES:
        return None
    try:
        return find_run(name)
    except UsageError:
        return None


def _refuse_changed(asked: Iterable[Override], run: RunFolder) -> None:
    """The weights of a run fit its own network and images alone."""
    free = ("data.path", "data.threads", "data.workers", "data.augment.", "start.rate_divisor")
    kept = ("network.", "data.", "start.")
    fixed = [path for path, _ in asked if path.startswith(kept) and not path.startswith(free)]
    if fixed:
        raise UsageError(f"a run keeps its own {', '.join(fixed)}", run.path, "leave it out, or name a recipe")
