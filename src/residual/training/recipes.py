"""The named recipes: one literal table, each with its source and where it departs from it."""

from __future__ import annotations

import os
from pathlib import Path

from residual.data.augment import AugmentSettings
from residual.data.datasets import DataSettings
from residual.errors import UsageError, nearest
from residual.models import NetworkSettings
from residual.training.optimiser import OptimiserSettings
from residual.training.recipe import EvaluationSettings, LossSettings, Recipe, read_recipe
from residual.training.schedules import OneCycle, Steps

DEFAULT = "digits"
PHOTOS = "photos"

RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        name="digits",
        source="Ours. One cycle after Smith 2018; shifts instead of mirror images, since a mirrored digit is no digit.",
        batch_size=64,
        epochs=24,
        data=DataSettings(dataset="digits", augment=AugmentSettings(shift=3)),
        network=NetworkSettings(name="resnet-20"),
        optimiser=OptimiserSettings(momentum=0.95, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(peak=0.2, momentum_low=0.85, end_divisor=1e4),
    ),
    "cifar10-fast": Recipe(
        name="cifar10-fast",
        source=(
            "Ours, for a quarter of an hour on two cores: network and crop of He et al. 2015, section 4.2; one cycle "
            "with mirrored momentum after Smith 2018; Nesterov and weight decay 5e-4 as public re-runs have them; "
            "mirror images by turns after Jordan 2024; progressive resizing after Howard 2018."
        ),
        batch_size=128,
        epochs=37,
        data=DataSettings(
            dataset="cifar-10",
            augment=AugmentSettings(pad_crop=4, mirror=True, mirror_by="turns", sizes=((0.35, 20), (0.65, 24))),
        ),
        network=NetworkSettings(name="resnet-20"),
        optimiser=OptimiserSettings(momentum=0.95, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(peak=0.2, momentum_low=0.85, end_divisor=1e4),
    ),
    "cifar10-paper": Recipe(
        name="cifar10-paper",
        source=(
            "He et al. 2015, section 4.2: 64k iterations, rate .1 divided by 10 at 32k and 48k, option A, "
            "per-pixel mean. Departs from it: one device, so batch normalisation sees 128 images and not 64; pixels "
            "are divided by 255; weight decay on convolution and fully connected weights, of which the paper does not "
            "speak. For 110 layers add --set schedule.hold.rate=0.01, the paper's warm-up."
        ),
        batch_size=128,
        steps=64_000,
        data=DataSettings(
            dataset="cifar-10", normalisation="per-pixel-mean", augment=AugmentSettings(pad_crop=4, mirror=True)
        ),
        network=NetworkSettings(name="resnet-20"),
        optimiser=OptimiserSettings(momentum=0.9, weight_decay=1e-4),
        schedule=Steps(rate=0.1, drops=(32_000, 48_000)),
    ),
    PHOTOS: Recipe(
        name=PHOTOS,
        source=(
            "Ours, for a folder of photographs: one cycle after Smith 2018, label smoothing after Szegedy et al. 2016, "
            "mirror images and a random crop of the image padded by an eighth of its side."
        ),
        batch_size=32,
        epochs=30,
        data=DataSettings(dataset="folder", pad_share=0.125, augment=AugmentSettings(mirror=True)),
        network=NetworkSettings(name="resnet-18"),
        optimiser=OptimiserSettings(momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(peak=0.02, end_divisor=1e4),
        loss=LossSettings(label_smoothing=0.1),
        evaluation=EvaluationSettings(batch_size=50),
    ),
}


def _photographs(name: str) -> Recipe | None:
    """The recipe for photographs in a folder of that name; None where the name means something else."""
    ends = name.endswith(("/", os.sep))
    try:
        if not ends and (not name or Path(name).suffix.lower() == ".toml" or not Path(name).expanduser().is_dir()):
            return None
    except (OSError, RuntimeError, ValueError):
        return None
    recipe = RECIPES[PHOTOS]
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": name})})


def find_recipe(name: str) -> Recipe:
    """A recipe by its name, or read from a file whose name ends in .toml; or that for a folder of photographs.

    Raises:
        UsageError: none of these; names the nearest known recipe.
    """
    if name in RECIPES:
        return RECIPES[name]
    if (photographs := _photographs(name)) is not None:
        return photographs
    suffix = Path(name).suffix.lower()
    if suffix in (".yaml", ".yml", ".json"):
        raise UsageError("recipes are TOML files", name[:200], "`residual recipes digits` prints one to start from")
    if suffix in (".zip", ".tar", ".gz", ".tgz"):
        raise UsageError("photographs are read from a folder, not from an archive", name[:200], "unpack it first")
    if suffix == ".toml" or "/" in name or "\\" in name:
        return read_recipe(Path(os.path.expanduser(name)))
    what = f"no recipe is named {name[:80]!r}, and no folder"
    raise UsageError(what, "recipe", nearest(name[:80], list(RECIPES)))
