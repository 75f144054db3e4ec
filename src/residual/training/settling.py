"""Settings that a recipe leaves open and the data decide.

They are written to run.json before step 0, each with its reason, and used again on resume.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from residual.data.batches import check_crops
from residual.data.datasets import DataSettings
from residual.data.source import Dataset, FileSource
from residual.errors import ModelError, UsageError, argument, log
from residual.files import Facts
from residual.models import NetworkSpec, resolve
from residual.models.heads import SIDE
from residual.models.networks import last_maps
from residual.training.compute import Compute
from residual.training.recipe import Recipe, override
from residual.training.schedules import Cosine, OneCycle, hold_of

FEW_IMAGES, FEW_OF_A_CLASS = 1000, 100  # below which images to train on are few for a network that was drawn
STEPS = 2  # steps an epoch has at least where the batch size is settled here


def settle(recipe: Recipe, dataset: Dataset, images: int, asked: Collection[str]) -> tuple[dict[str, Any], Facts]:
    """What was left open, by path, and the reasons.

    Args:
        images: how many are trained on.
        asked: the settings that were given by hand; these stay as they are.
    """
    check_crops(dataset.train, dataset.image_size, recipe.data.augment)
    chosen, reasons = dict(dataset.chosen), dict(dataset.reasons)
    share = recipe.data.validation
    if "data.validation" in asked and share not in (0, DataSettings().validation) and dataset.validation is not None:
        what = "data.validation = %g holds nothing out: these data have %s validation images of their own (%s)"
        log.warning(what, share, f"{len(dataset.validation):,}", dataset.origin)
    if isinstance(dataset.train, FileSource) and images < recipe.batch_size and "batch_size" not in asked:
        chosen["batch_size"] = 1 << max(1, images // STEPS).bit_length() - 1
        reasons["batch_size"] = f"{images:,} training images are fewer than a batch of {recipe.batch_size:,}"
    unfit = images < recipe.batch_size and "batch_size" in asked  # which is refused, and that alone is of interest
    if isinstance(dataset.train, FileSource) and recipe.start.weights is None and not unfit:
        _tell_of_few(images, len(dataset.class_names), dataset.origin)
    return chosen, reasons


@cache
def _tell_of_few(images: int, classes: int, place: str) -> None:
    """Say, once of a place, that so few images are better learnt from by trained weights."""
    if images < FEW_IMAGES or images < FEW_OF_A_CLASS * classes:
        log.info(
            "%s images of %s classes are few to train a network from scratch; published weights do far better: "
            "`residual train %s --from torchvision:resnet18` (downloaded once, see docs/fine-tuning.md)",
            f"{images:,}",
            f"{classes:,}",
            argument(place),
        )


_HIGH_FOR_ADAM = 0.02


@cache
def tell_once(line: str) -> None:
    """Say, once however many trainings a search has, what is to be thought of."""
    log.warning(line)


def doubts(recipe: Recipe, asked: Collection[str]) -> list[str]:
    """What settings do together that few would mean, a line each, with the way out.

    Args:
        asked: the settings that were given by hand.

    Raises:
        UsageError: they undo each other.
    """
    if recipe.data.sampling == "balanced" and recipe.loss.class_weights in ("balanced", "effective"):
        what = "data.sampling shows every class as often, and loss.class_weights would then count the rare ones more"
        raise UsageError(what, "loss.class_weights", "leave one of the two out")
    schedule, evaluation, found = recipe.schedule, recipe.evaluation, list[str]()
    if evaluation.patience and evaluation.best == "none":
        metric = "top1" if evaluation.patience_on == "auto" else evaluation.patience_on
        found.append(
            f"evaluation.patience ends the run {evaluation.patience:,} validations after the best one, and the last "
            f"weights are kept: --set evaluation.best={metric} keeps the best"
        )
    if evaluation.patience and isinstance(schedule, OneCycle | Cosine):
        found.append(
            f"evaluation.patience may end the run before the rate has fallen ({schedule.kind}), which is when most is "
            "gained: a schedule of steps or plateaus suits it better"
        )
    if evaluation.best != "none" and evaluation.precise_statistics:
        found.append(
            "evaluation.precise_statistics measures the statistics of the last weights alone, and evaluation.best "
            "compares them with earlier ones of running statistics: leave one of the two out"
        )
    name = "peak" if isinstance(schedule, OneCycle) else "rate"
    rate = schedule.peak if isinstance(schedule, OneCycle) else schedule.rate
    if recipe.optimiser.kind != "sgd" and rate > _HIGH_FOR_ADAM and f"schedule.{name}" not in asked:
        found.append(
            f"the recipe's rate of {rate:g} is one for SGD, and the optimiser is {recipe.optimiser.kind}: "
            f"--set schedule.{name}=0.001, or ask `residual find-lr`"
        )
    # A second cosine comes down from where the first has ended, and means it.
    if not isinstance(schedule, OneCycle) and not (isinstance(schedule, Cosine) and schedule.first):
        begins = [("schedule.warmup.rate", schedule.warmup.rate)] if schedule.warmup.steps else []
        begins += [("schedule.hold.rate", hold.rate)] if (hold := hold_of(schedule)) is not None else []
        found += [
            f"{path} of {first:g} is above the rate of {rate:g}, and so the rate falls where it should rise: "
            f"--set {path}={rate / 10:g}"
            for path, first in begins
            if first > rate
        ]
    low = getattr(schedule, "momentum_low", None)
    if low is not None and low > recipe.optimiser.momentum:
        found.append(
            f"schedule.momentum_low of {low:g} is above optimiser.momentum of {recipe.optimiser.momentum:g}: momentum "
            "is highest where the rate is, and a cycle has it the other way"
        )
    return found


def check_network(recipe: Recipe) -> NetworkSpec:
    """Refuse a network that cannot be built, before the images are known.

    Returns:
        The network for ten classes: all else is as it will be, but for a stem that follows the size of the images.

    Raises:
        UsageError: no such network, or its parts do not fit together.
    """
    return resolve(recipe.network, 10)


def check_sizes(spec: NetworkSpec, dataset: Dataset) -> None:
    """Refuse to judge at another size a network whose head reads maps of one size.

    Raises:
        UsageError: with the setting.
    """
    if dataset.test_size is not None and spec.head != "average":
        what = f"the hidden layers of {spec.name} read maps of one size"
        raise UsageError(what, "data.test_size", "leave it out, or name a network that averages its maps")


def check_device(recipe: Recipe, spec: NetworkSpec, dataset: Dataset, compute: Compute) -> None:
    """Refuse what the device of a run would compute otherwise than it was asked for, and images of too few pixels.

    Raises:
        UsageError: with the setting.
    """
    small = next((side for _, side in recipe.data.augment.sizes if side < spec.least_side), None)
    if small is not None:
        what = f"pooling of {spec.name} leaves nothing of images of {small} pixels"
        raise UsageError(what, "data.augment.sizes", f"choose sides of at least {spec.least_side}")
    kind = compute.torch_device.type
    if (
        kind == "mps" and recipe.compute.recompute and (spec.shortcut_dropout or spec.stochastic_depth)
    ):  # torch puts no generator of mps back
        what = "on mps dropout would draw anew what is computed once more"
        raise UsageError(
            what, "compute.recompute", "set it to false, or network.shortcut_dropout and stochastic_depth to 0"
        )
    if kind == "cuda" and compute.deterministic and spec.head == "vgg":
        sizes = [dataset.image_size, *((side, side) for _, side in recipe.data.augment.sizes)]
        unlike = next((size for size in sizes if last_maps(spec, size) != (SIDE, SIDE)), None)
        if unlike is not None:
            found = " x ".join(map(str, last_maps(spec, unlike)))
            what = f"on a GPU torch cannot bring maps of {found} to those of {SIDE} x {SIDE} that {spec.name} reads"
            what += " in a fixed order"
            raise UsageError(what, "compute.deterministic", "leave --deterministic out, or give --device cpu")


def settled(recipe: Recipe, facts: Facts, where: object) -> Recipe:
    """The recipe of a run with what was settled when it began.

    Raises:
        ModelError: run.json was altered.
    """
    chosen = facts.get("settled", {})
    if not isinstance(chosen, dict):
        raise ModelError("run.json is damaged", where, "restore it from a copy")
    if "batch_sizes_tried" in facts.get("chosen", {}):  # what a trial has found goes before it
        chosen = {path: value for path, value in chosen.items() if path != "batch_size"}
    return override(recipe, chosen.items(), where) if chosen else recipe
