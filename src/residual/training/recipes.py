"""The named recipes: one literal table, each with its source and where it departs from it."""

from __future__ import annotations

import os
from functools import cache
from itertools import islice
from pathlib import Path

from residual.data.augment import AugmentSettings
from residual.data.datasets import DataSettings
from residual.data.formats import SUFFIXES
from residual.data.layout import EXPECTED, OTHER_IMAGES
from residual.data.places import holds_photographs, names_photographs
from residual.errors import UsageError, log, nearest
from residual.models import NetworkSettings
from residual.training.freezing import HEAD_ONLY, StartSettings
from residual.training.optimiser import OptimiserSettings
from residual.training.recipe import EvaluationSettings, LossSettings, Recipe, read_recipe
from residual.training.schedules import OneCycle, Plateau, Steps, WarmUp

DEFAULT = "digits"
PHOTOS = "photos"
DEFAULT_FINETUNE, PHOTOS_FINETUNE = "digits-finetune", "photos-finetune"

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
            "per-pixel mean. For 110 layers add --set schedule.hold.rate=0.01, the paper's warm-up."
        ),
        departures=(
            "one device, so batch normalisation sees 128 images and not 64; for the paper's two GPUs add "
            "--set network.norm_group=64",
            "pixels are divided by 255",
            "weight decay on convolution and fully connected weights, of which the paper does not speak",
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
    "cifar100-paper": Recipe(
        name="cifar100-paper",
        source=(
            "He et al. 2016 (Identity Mappings), appendix: the CIFAR-10 recipe of He et al. 2015, with .01 for the "
            "first 400 iterations."
        ),
        departures=(
            "the paper's networks for CIFAR-100 are resnet-164-bottleneck, preact-164-bottleneck and "
            "preact-1001-bottleneck, here it is resnet-110",
            "one device, so batch normalisation sees 128 images and not 64",
            "pixels are divided by 255",
            "weight decay on convolution and fully connected weights, of which the paper does not speak",
        ),
        batch_size=128,
        steps=64_000,
        data=DataSettings(
            dataset="cifar-100", normalisation="per-pixel-mean", augment=AugmentSettings(pad_crop=4, mirror=True)
        ),
        network=NetworkSettings(name="resnet-110"),
        optimiser=OptimiserSettings(momentum=0.9, weight_decay=1e-4),
        schedule=Steps(rate=0.1, drops=(32_000, 48_000), warmup=WarmUp(steps=400, rate=0.01, shape="constant")),
    ),
    "cifar10-onecycle": Recipe(
        name="cifar10-onecycle",
        source=(
            "Ours, the robust choice where time is no matter: network and augmentation of He et al. 2015, section 4.2; "
            "one cycle after Smith 2018 with momentum mirrored .95 - .85 - .95, Nesterov, weight decay 5e-4."
        ),
        batch_size=128,
        epochs=100,
        data=DataSettings(dataset="cifar-10", augment=AugmentSettings(pad_crop=4, mirror=True)),
        network=NetworkSettings(name="resnet-20"),
        optimiser=OptimiserSettings(momentum=0.95, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(peak=0.2, momentum_low=0.85, end_divisor=1e4),
    ),
    "cifar10-smith": Recipe(
        name="cifar10-smith",
        source=(
            "Smith and Topin 2017 (Super-convergence), section 5 and its published solver files: rate .1 - 3 - .1 on "
            "straight lines over 10,000 iterations at momentum .9, batch 1,000 of which each of 8 GPUs normalises 125, "
            "weight decay 1e-4, mirror images and no crop."
        ),
        departures=(
            "mean and deviation per channel",
            "weight decay on convolution and fully connected weights alone",
        ),
        batch_size=1000,
        steps=10_000,
        data=DataSettings(dataset="cifar-10", augment=AugmentSettings(mirror=True)),
        network=NetworkSettings(name="resnet-56", norm_group=125),
        optimiser=OptimiserSettings(momentum=0.9, weight_decay=1e-4),
        schedule=OneCycle(peak=3.0, rise=0.5, start_divisor=30, end_divisor=30, shape="linear"),
    ),
    "seed001-onecycle": Recipe(
        name="seed001-onecycle",
        source=(
            "The network of seed 001 and its training as fastai's fit_one_cycle gives it by default: AdamW (fastai "
            "calls it Adam), decay .01, peak 3e-3, moments .95 - .85 - .95 and .99. "
            "For SGD add --set optimiser.kind=sgd --set optimiser.weight_decay=5e-4."
        ),
        departures=("the seed leaves optimiser, batch size and length open; these are ours",),
        batch_size=64,
        epochs=5,
        data=DataSettings(dataset="cifar-10", augment=AugmentSettings(pad_crop=4, mirror=True)),
        network=NetworkSettings(name="fastbook-resnet50"),
        optimiser=OptimiserSettings(kind="adamw", momentum=0.95, weight_decay=0.01, decay_on="weights"),
        schedule=OneCycle(peak=3e-3, momentum_low=0.85),
    ),
    PHOTOS: Recipe(
        name=PHOTOS,
        source=(
            "Ours, for a folder of photographs: one cycle after Smith 2018, label smoothing after Szegedy et al. 2016, "
            "mirror images, and crops of the area after Szegedy et al. 2015."
        ),
        departures=(
            "crops of 35 to 100 % of the area: theirs begin at 8 %, which suits long training on a million images; for "
            "short training on few we judge 35 % to be better, unmeasured",
        ),
        batch_size=32,
        epochs=30,
        data=DataSettings(dataset="folder", augment=AugmentSettings(mirror=True, crop_scale=(0.35, 1.0))),
        network=NetworkSettings(name="resnet-18"),
        optimiser=OptimiserSettings(momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(peak=0.02, end_divisor=1e4),
        loss=LossSettings(label_smoothing=0.1),
        evaluation=EvaluationSettings(batch_size=50),
    ),
    "imagenet-paper": Recipe(
        name="imagenet-paper",
        source=(
            "He et al. 2015, section 3.4: batch 256, rate .1 divided by 10 when the error plateaus, 600k iterations, "
            "shorter side uniform in [256, 480], 224 crop or its mirror, per-pixel mean, colour noise .1, weight decay "
            "1e-4, momentum .9, no dropout."
        ),
        departures=(
            "the paper does not say what a plateau is: here 5 epochs without a running training error lower by .1 "
            "points, at most 3 times; the validation images are those it reports, so they steer nothing",
            "one device, so batch normalisation sees 256 images and not a GPU's share of them; add "
            "--set network.norm_group=32 for eight",
            "pixels are divided by 255; the mean image is that of 10,000 centre crops",
            "weight decay on convolution and fully connected weights, of which the paper does not speak",
            "the paper reports ten crops: residual evaluate --protocol 10-crop",
        ),
        batch_size=256,
        steps=600_000,
        data=DataSettings(
            dataset="folder",
            image_size=224,
            channels=3,
            normalisation="per-pixel-mean",
            augment=AugmentSettings(mirror=True, short_side=(256, 480), colour_noise=0.1),
        ),
        network=NetworkSettings(name="resnet-50"),
        optimiser=OptimiserSettings(momentum=0.9, weight_decay=1e-4),
        schedule=Plateau(rate=0.1, factor=0.1, watch="training", patience=5, threshold=1e-3, most=3),
        evaluation=EvaluationSettings(batch_size=50),
    ),
    "imagenet-steps": Recipe(
        name="imagenet-steps",
        source=(
            "torchvision's reference training of its first ResNet-50 weights (76.13 %), after Gross and Wilber 2016 "
            "(fb.resnet.torch): 90 epochs, batch 256, rate .1 divided by 10 after 30 and 60 of them, crops of 8 to "
            "100 % of the area, mirror images, momentum .9, weight decay 1e-4 on every parameter, stride in the 3x3. "
            "Goyal et al. 2017, section 5.1, divide once more after 80: --set 'schedule.shares=[0.3333,0.6667,0.8889]'."
        ),
        departures=(
            "mean and deviation are those of the images trained on, not the customary constants",
            "one device, so batch normalisation sees 256 images and not the 32 of each of eight GPUs; add "
            "--set network.norm_group=32",
        ),
        batch_size=256,
        epochs=90,
        data=DataSettings(
            dataset="folder",
            image_size=224,
            channels=3,
            crop=224 / 256,
            augment=AugmentSettings(mirror=True, crop_scale=(0.08, 1.0)),
        ),
        network=NetworkSettings(name="resnet-50-v1.5"),
        optimiser=OptimiserSettings(momentum=0.9, weight_decay=1e-4, decay_on="all"),
        schedule=Steps(rate=0.1, drops=(), shares=(1 / 3, 2 / 3)),
        evaluation=EvaluationSettings(batch_size=50),
    ),
    "fast": Recipe(
        name="fast",
        source=(
            "Ours, what is done today where time is short; give it some with --budget 15m. As cifar10-fast, with label "
            "smoothing .1 (Szegedy et al. 2016) and averaged weights (Polyak and Juditsky 1992). From about 100 epochs "
            "on, or with a larger network, add holes (data.augment.cutout=8, DeVries and Taylor 2017, or "
            "data.augment.erase=0.25, Zhong et al. 2017), mixed images (data.augment.mixup=0.2, Zhang et al. 2018; "
            "data.augment.cutmix=1.0, Yun et al. 2019) or data.augment.trivial=true (Mueller and Hutter 2021). Every "
            "part is a setting of its own; data.augment.sizes=[] switches progressive resizing off (Howard 2018)."
        ),
        departures=(
            "holes, mixed images and TrivialAugment are off: a small network of a quarter of an hour still underfits",
        ),
        batch_size=128,
        epochs=37,
        data=DataSettings(
            dataset="cifar-10",
            augment=AugmentSettings(pad_crop=4, mirror=True, mirror_by="turns", sizes=((0.35, 20), (0.65, 24))),
        ),
        network=NetworkSettings(name="resnet-20"),
        optimiser=OptimiserSettings(momentum=0.95, nesterov=True, weight_decay=5e-4, average=0.99),
        schedule=OneCycle(peak=0.2, momentum_low=0.85, end_divisor=1e4),
        loss=LossSettings(label_smoothing=0.1),
    ),
    "fast-photos": Recipe(
        name="fast-photos",
        source=(
            "Ours, as `fast` for a folder of photographs: residual train fast-photos --data PHOTOS/ --budget 15m. As "
            "photos, with averaged weights, random erasing (Zhong et al. 2017), TrivialAugment (Mueller and Hutter "
            "2021) and progressive resizing (Howard 2018): half and three quarters of 224 pixels at first."
        ),
        departures=(
            "mixed images are off, since few photographs are seen few times; data.augment.cutmix=1.0 for many epochs",
            "unmeasured: no data set of photographs comes with the program",
        ),
        batch_size=32,
        epochs=30,
        data=DataSettings(
            dataset="folder",
            augment=AugmentSettings(
                mirror=True, crop_scale=(0.35, 1.0), trivial=True, erase=0.1, sizes=((0.4, 112), (0.7, 168))
            ),
        ),
        network=NetworkSettings(name="resnet-18"),
        optimiser=OptimiserSettings(momentum=0.95, nesterov=True, weight_decay=5e-4, average=0.99),
        schedule=OneCycle(peak=0.02, momentum_low=0.85, end_divisor=1e4),
        loss=LossSettings(label_smoothing=0.1),
        evaluation=EvaluationSettings(batch_size=50),
    ),
    PHOTOS_FINETUNE: Recipe(
        name=PHOTOS_FINETUNE,
        source=(
            "Ours, for photographs and weights named with --from: `photos` with half its rate and a third of its "
            "length; the head learns alone at first, then the stages from the last one down, each 2.6 times slower "
            "than the next, after Howard and Ruder 2018 (ULMFiT), section 3, who had it for text. Of a network of four "
            "stages the stem stays as it is."
        ),
        batch_size=32,
        epochs=10,
        data=DataSettings(dataset="folder", augment=AugmentSettings(mirror=True, crop_scale=(0.35, 1.0))),
        network=NetworkSettings(name="resnet-18"),
        start=StartSettings(freeze=HEAD_ONLY, unfreeze=(0.15, 0.25, 0.35, 0.45), rate_divisor=2.6),
        optimiser=OptimiserSettings(momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(peak=0.01, end_divisor=1e4),
        loss=LossSettings(label_smoothing=0.1),
        evaluation=EvaluationSettings(batch_size=50),
    ),
    DEFAULT_FINETUNE: Recipe(
        name=DEFAULT_FINETUNE,
        source=(
            "Ours, for the embedded digits and weights named with --from: `digits` with half its length, a quarter of "
            "its rate and smaller batches; head and stages learn as in `photos-finetune`."
        ),
        batch_size=16,
        epochs=12,
        data=DataSettings(dataset="digits", augment=AugmentSettings(shift=3)),
        network=NetworkSettings(name="resnet-20"),
        start=StartSettings(freeze=HEAD_ONLY, unfreeze=(0.15, 0.3, 0.45), rate_divisor=2.6),
        optimiser=OptimiserSettings(momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=OneCycle(peak=0.05, end_divisor=1e4),
    ),
}


def network_is_given(recipe: Recipe) -> bool:
    """Whether someone chose the recipe's network: it is not that of one of these recipes."""
    return recipe.name not in RECIPES or recipe.network != RECIPES[recipe.name].network


def _photographs(name: str, started: bool) -> Recipe | None:
    """The recipe for photographs in a folder, archive, table or pack; None where the name means something else."""
    if not names_photographs(name):
        return None
    recipe = RECIPES[PHOTOS_FINETUNE if started else PHOTOS]
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"path": name})})


@cache
def _tell_of_folder(name: str) -> None:
    """Say once that a name is that of a recipe where a folder of photographs has it, too."""
    if RECIPES[name].data.dataset != "folder" and holds_photographs(Path(name)):
        log.info("%s is a recipe here; the folder of that name is meant with a slash, as %s/", name, name)


def _folders_here() -> list[str]:
    """The folders in the working folder, as a person may mean them."""
    try:
        with os.scandir() as entries:
            return [f"{e.name}/" for e in islice(entries, 1000) if not e.name.startswith(".") and e.is_dir()]
    except OSError:
        return []


def recipe_of(recipe: Recipe | str | os.PathLike[str] | None, started: bool = False) -> Recipe:
    """The recipe meant: as it is, by its name or path, or the default; see `find_recipe`."""
    if recipe is None:
        return RECIPES[DEFAULT_FINETUNE if started else DEFAULT]
    if isinstance(recipe, Recipe):
        return recipe
    if not isinstance(recipe, str | os.PathLike):
        remedy = "name one, with changes as set={...}; residual.Recipe.model_validate makes one of a whole table"
        raise UsageError(f"{type(recipe).__name__} is no recipe", "recipe", remedy)
    plain = isinstance(recipe, str) or not os.path.isdir(recipe)
    return find_recipe(os.fspath(recipe) if plain else os.path.join(recipe, ""), started)


def find_recipe(name: str, started: bool = False) -> Recipe:
    """A recipe by its name, or read from a file whose name ends in .toml; or that for a folder of photographs.

    Args:
        started: whether it is to begin from trained weights.

    Raises:
        UsageError: none of these; names the nearest known recipe.
    """
    if name in RECIPES:
        _tell_of_folder(name)
        return RECIPES[name]
    if (photographs := _photographs(name, started)) is not None:
        return photographs
    suffix = Path(name).suffix.lower()
    if suffix in (".yaml", ".yml", ".json"):
        raise UsageError("recipes are TOML files", name[:200], "`residual recipes digits` prints one to start from")
    if suffix in (".zip", ".tar", ".gz", ".tgz", ".csv", ".tsv"):
        what = "no photographs here: they are read from a folder, a .tar, .tar.gz, .csv or .tsv"
        raise UsageError(what, name[:200], "check the name, or unpack the archive and name the folder")
    if suffix in (*SUFFIXES, *OTHER_IMAGES):
        remedy = f"name a folder; {EXPECTED}; `residual predict RUN IMAGE` is for single images"
        raise UsageError("a single image is nothing to train on", name[:200], remedy)
    if suffix == ".toml" or "/" in name or "\\" in name:
        return read_recipe(Path(os.path.expanduser(name)))
    what = f"no recipe is named {name[:80]!r}, and no folder"
    raise UsageError(what, "recipe", nearest(name[:80], list(RECIPES), _folders_here()))
