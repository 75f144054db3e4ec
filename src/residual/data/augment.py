"""Augmentation of whole batches: chance in `choose`, arithmetic in the other functions.

One table of draws per kind and epoch: row i belongs to sample i, whatever batch, rank or thread meets
it. `on_pixels` works on uint8 NCHW, `augment` on float NCHW after normalisation, so that a border or a
hole of zeros is the mean pixel (He et al. 2015, section 4.2: 4 pixels padded on each side, a 32x32 crop
of the padded image or its mirror). What joins two images stands in `mixing`, the sides of progressive
resizing in `resizing`, crops of photographs in `windows`, colours in `colour`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Generator, Tensor
from torch.nn.functional import pad

from residual.chance import stream
from residual.data import colour, erasing, trivial, windows
from residual.data.mixing import Alpha
from residual.data.resizing import Stages, check_stages
from residual.data.sending import sent

Share = Annotated[float, Field(gt=0, le=1)]
Side = Annotated[int, Field(ge=8, le=8192)]


class AugmentSettings(BaseModel, frozen=True, extra="forbid"):
    """Which draws are made. What suits a data set is not the same everywhere: a digit has no mirror image."""

    pad_crop: int = Field(0, ge=0, le=64, description="pixels of zeros around the image before a random crop")
    shift: int = Field(0, ge=0, le=64, description="largest move in pixels; edge pixels are repeated")
    mirror: bool = Field(False, description="horizontal flip, half of the time")
    mirror_by: Literal["chance", "turns"] = Field(
        "chance", description="chance: drawn each time; turns: each image is flipped every second epoch (Jordan 2024)"
    )
    dihedral: bool = Field(
        False, description="one of the eight rotations and flips of a square, for images with no right way up (D4)"
    )
    rotate: float = Field(
        0.0, ge=0, le=180, description="largest random rotation in degrees, either way; corners become the mean"
    )
    trivial: bool = Field(False, description="TrivialAugment, wide: one operation, any strength (Müller, Hutter 2021)")
    cutout: int = Field(
        0, ge=0, le=512, description="side in pixels of a square set to the mean (DeVries, Taylor 2017)"
    )
    erase: float = Field(0.0, ge=0, le=1, description="share of images with a rectangle erased (Zhong et al. 2017)")
    mixup: Alpha = Field(0.0, description="alpha of mixup (Zhang et al. 2018); 0 is none")
    cutmix: Alpha = Field(0.0, description="alpha of CutMix (Yun et al. 2019); with mixup too, each half of the time")
    crop_scale: tuple[Share, Share] | None = Field(
        None, description="for photographs: random resized crop of this share of the area (Szegedy et al. 2015)"
    )
    short_side: tuple[Side, Side] | None = Field(
        None, description="of photographs: shorter side drawn from this range, then a random crop (He et al. 2015, 3.4)"
    )
    colour_noise: float = Field(
        0.0,
        ge=0,
        le=10,
        description="PCA colour noise: its standard deviation, 0.1 in Krizhevsky et al. 2012 and He et al. 2015",
    )
    colour_jitter: float = Field(
        0.0, ge=0, lt=1, description="brightness, contrast and saturation by up to this share (Howard 2013)"
    )
    sizes: Stages = Field((), description="progressive resizing: [share of the run, side in pixels], then full size")

    @model_validator(mode="after")
    def _parts_fit(self) -> AugmentSettings:
        if self.mirror_by == "turns" and not self.mirror:
            raise ValueError("mirror_by is 'turns' and mirror is false; set mirror to true")
        for name, pair in (("crop_scale", self.crop_scale), ("short_side", self.short_side)):
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name} has {pair[0]:g} before {pair[1]:g}; give the smaller one first")
        if self.crop_scale is not None and self.short_side is not None:
            raise ValueError("crop_scale and short_side are both given; a photograph is cropped in one way, choose one")
        check_stages(self.sizes)
        return self


@dataclass(frozen=True)
class Draws:
    """What was drawn for N samples: one table of N rows for each kind that is switched on."""

    tables: Mapping[str, Tensor]

    def rows(self, samples: Tensor) -> Draws:
        return Draws({kind: table.index_select(0, samples) for kind, table in self.tables.items()})

    def on(self, device: torch.device) -> Draws:
        """The same on a device, but for what the host is asked: which crop is decoded, which operation applied."""
        here = ("window", "trivial")
        return Draws({kind: table if kind in here else sent(table, device) for kind, table in self.tables.items()})

    @staticmethod
    def joined(parts: Sequence[Draws]) -> Draws:
        """The rows of several, one after the other."""
        return Draws({kind: torch.cat([part.tables[kind] for part in parts]) for kind in parts[0].tables})


def _offsets(pixels: int) -> Callable[[int, Generator], Tensor]:
    """Moves in pixels (N, 2) in [0, 2 * pixels], both ends included."""
    return lambda count, chance: torch.randint(2 * pixels + 1, (count, 2), generator=chance)


def _uniform(columns: int) -> Callable[[int, Generator], Tensor]:
    return lambda count, chance: torch.rand(count, columns, generator=chance)


def _halves(count: int, chance: Generator) -> Tensor:
    return torch.rand(count, generator=chance) < 0.5


def choose(count: int, settings: AugmentSettings, seed: int, epoch: int) -> Draws:
    """The draws of `count` samples in one epoch."""
    kinds: dict[str, tuple[object, Callable[[int, Generator], Tensor]]] = {
        "crop": (settings.pad_crop, _offsets(settings.pad_crop)),
        "shift": (settings.shift, _offsets(settings.shift)),
        "mirror": (settings.mirror and settings.mirror_by == "chance", _halves),
        "dihedral": (settings.dihedral, lambda n, g: torch.randint(8, (n,), generator=g)),
        "rotate": (settings.rotate, _uniform(1)),
        "trivial": (settings.trivial, trivial.choose),
        "cutout": (settings.cutout, _uniform(2)),
        "erase": (settings.erase, _uniform(erasing.COLUMNS)),
        "window": (settings.crop_scale or settings.short_side, _uniform(windows.COLUMNS)),
        "colour_noise": (settings.colour_noise, lambda n, g: colour.draw_noise(n, g, settings.colour_noise)),
        "colour_jitter": (settings.colour_jitter, lambda n, g: colour.draw_jitter(n, g, settings.colour_jitter)),
    }
    tables = {
        kind: draw(count, stream(seed, "augment", kind, epoch)) for kind, (wanted, draw) in kinds.items() if wanted
    }
    if settings.mirror and settings.mirror_by == "turns":
        first = _halves(count, stream(seed, "augment", "mirror", "turns"))
        tables["mirror"] = first ^ bool(epoch % 2)
    return Draws(tables)


def move(images: Tensor, offsets: Tensor, pixels: int, border: str) -> Tensor:
    """Pad by `pixels` on each side (`border`: "constant" zeros or "replicate") and cut at offsets (N, 2)."""
    if pixels == 0:
        return images
    count, _, height, width = images.shape
    windows = pad(images, (pixels, pixels, pixels, pixels), mode=border).unfold(2, height, 1).unfold(3, width, 1)
    rows, columns = offsets.to(images.device).unbind(1)
    return windows[torch.arange(count, device=images.device), :, rows, columns]


_LARGE: Final = 1 << 15
"""Values of an image from which on images are mirrored one by one."""


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror the images named by the mask N left-right."""
    if images.device.type == "cpu" and images[:1].numel() >= _LARGE:
        found = images.clone()  # a third of the time of computing both and choosing
        for row in torch.nonzero(mirrored).flatten().tolist():
            found[row] = images[row].flip(2)
        return found
    return torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def orient(images: Tensor, which: Tensor) -> Tensor:
    """Square images in one of eight orientations, N numbers of three bits: left-right, upside down, then transposed."""
    which = which.to(images.device).view(-1, 1, 1, 1)
    images = torch.where(which & 1 > 0, images.flip(3), images)
    images = torch.where(which & 2 > 0, images.flip(2), images)
    return torch.where(which & 4 > 0, images.transpose(2, 3), images)


def on_pixels(pixels: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """uint8 NCHW after what is done to pixels."""
    if settings.trivial:
        pixels = trivial.apply(pixels, draws.tables["trivial"])
    return colour.jitter(pixels, draws.tables["colour_jitter"]) if settings.colour_jitter else pixels


def crops(draws: Draws, settings: AugmentSettings) -> windows.Crops | None:
    """The crops that are cut out of photographs while they are decoded; None where they are read whole."""
    if settings.crop_scale is not None:
        return windows.Crops("area", *settings.crop_scale, draws.tables["window"])
    if settings.short_side is not None:
        return windows.Crops("side", *settings.short_side, draws.tables["window"])
    return None


ORDER: Final[tuple[tuple[str, Callable[[Tensor, Tensor, AugmentSettings], Tensor]], ...]] = (
    ("shift", lambda images, draws, settings: move(images, draws, settings.shift, "replicate")),
    ("crop", lambda images, draws, settings: move(images, draws, settings.pad_crop, "constant")),
    ("rotate", lambda images, draws, settings: trivial.turned(images, (2 * draws[:, 0] - 1) * settings.rotate)),
    ("mirror", lambda images, draws, settings: flip(images, draws)),
    ("dihedral", lambda images, draws, settings: orient(images, draws)),
    ("cutout", lambda images, draws, settings: erasing.cutout(images, draws, settings.cutout)),
    ("erase", lambda images, draws, settings: erasing.erase(images, draws, settings.erase)),
)
"""What is done to normalised images, in this order."""


def augment(images: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """Normalised images NCHW after everything that `ORDER` names and the settings ask for."""
    for kind, apply in ORDER:
        if kind in draws.tables:
            images = apply(images, draws.tables[kind], settings)
    return images
