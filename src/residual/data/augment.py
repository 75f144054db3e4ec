"""Augmentation of whole batches: chance in `choose`, arithmetic in the other functions.

One table per epoch holds the draws of every sample: row i belongs to sample i, whatever batch, rank
or thread meets it. Images are float NCHW after normalisation, so that a padded border of zeros is
the mean pixel (He et al. 2015, section 4.2: 4 pixels padded on each side, a 32x32 crop of the padded
image or its mirror).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, Field
from torch import Tensor
from torch.nn.functional import pad

from residual.chance import stream


class AugmentSettings(BaseModel, frozen=True, extra="forbid"):
    """Which draws are made. What suits a data set is not the same everywhere: a digit has no mirror image."""

    pad_crop: int = Field(0, ge=0, le=64, description="pixels of zeros around the image before a random crop")
    shift: int = Field(0, ge=0, le=64, description="largest move in pixels; edge pixels are repeated")
    mirror: bool = Field(False, description="mirror left-right, half of the time")


@dataclass(frozen=True)
class Draws:
    """What was drawn for N samples: moves in pixels (N, 2) for each kind, mirror N bool."""

    crop: Tensor
    shift: Tensor
    mirror: Tensor

    def rows(self, samples: Tensor) -> Draws:
        return Draws(*(table.index_select(0, samples) for table in (self.crop, self.shift, self.mirror)))


def choose(count: int, settings: AugmentSettings, seed: int, epoch: int) -> Draws:
    """The draws of `count` samples in one epoch; offsets lie in [0, 2 * pixels], both ends included."""

    def offsets(kind: str, pixels: int) -> Tensor:
        return torch.randint(2 * pixels + 1, (count, 2), generator=stream(seed, "augment", kind, epoch))

    draws = torch.rand(count, generator=stream(seed, "augment", "mirror", epoch))
    mirrored = draws < 0.5 if settings.mirror else torch.zeros(count, dtype=torch.bool)
    return Draws(offsets("crop", settings.pad_crop), offsets("shift", settings.shift), mirrored)


def move(images: Tensor, offsets: Tensor, pixels: int, border: str) -> Tensor:
    """Pad by `pixels` on each side (`border`: "constant" zeros or "replicate") and cut at offsets (N, 2)."""
    if pixels == 0:
        return images
    count, _, height, width = images.shape
    windows = pad(images, (pixels, pixels, pixels, pixels), mode=border).unfold(2, height, 1).unfold(3, width, 1)
    rows, columns = offsets.to(images.device).unbind(1)
    return windows[torch.arange(count, device=images.device), :, rows, columns]


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror the images named by the mask N left-right."""
    return torch.where(mirrored.to(images.device).view(-1, 1, 1, 1), images.flip(3), images)


def augment(images: Tensor, draws: Draws, settings: AugmentSettings) -> Tensor:
    """Normalised images NCHW after shift, crop and mirror."""
    images = move(images, draws.shift, settings.shift, "replicate")
    images = move(images, draws.crop, settings.pad_crop, "constant")
    return flip(images, draws.mirror) if settings.mirror else images
