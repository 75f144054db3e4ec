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


def check_network(recipe: Recipe) -> None:
    """Refuse a network that cannot be built, before the images are known.

    Raises:
        UsageError: no such network, or its parts do not fit together.
    """
    resolve(recipe.network, 10)


def check_sizes(spec: NetworkSpec, dataset: Dataset) -> None:
    """Refuse to judge at another size a network whose head reads maps of one size.

    Raises:
        UsageError: with the setting.
    """
    if dataset.test_size is not None and spec.head != "average":
        what = f"the hidden layers of {spec.name} read maps of one size"
        raise UsageError(what, "data.test_size", "leave it out, or name a network that averages its maps")


def check_device(recipe: Recipe, spec: NetworkSpec, dataset: Dataset, compute: Compute) -> None:
    """Refuse what the device of a run would compute otherwise than it was asked for.

    Raises:
        UsageError: with the setting.
    """
    kind = compute.torch_device.type
    if kind == "mps" and recipe.compute.recompute and spec.shortcut_dropout:  # torch puts no generator of mps back
        what = "on mps dropout would draw anew what is computed once more"
        raise UsageError(what, "compute.recompute", "set it to false, or network.shortcut_dropout to 0")
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
    return override(recipe, chosen.items(), where) if chosen else recipe
