"""Protocols: which views of an image a network answers for, and how the answers become one.

Choose, then do: `choose` says what is looked at, as frames (how the image is made ready) with their views (where it is
cut, and whether it is mirrored); `ready`, `cut` and `combine` do it. images_NCHW uint8 or float, logits_VNK float, V
the views. Sources: Krizhevsky et al. 2012, section 4.1 (four corners, centre, mirrors); He et al. 2015, sections 3.4
and 4.1 (fully convolutional, shorter sides 224, 256, 384, 480 and 640 for a network trained on 224).

`1-crop`      the image in the network's size, as it is.
`10-crop`     corners and centre with their mirrors. Image files: of the image whose shorter side is 256 for a crop of
              224, in proportion for others. Images held in memory have no more pixels than the network's size: of the
              normalised image with zeros around it, an eighth of a side (4 for 32, as in training: He et al., 4.2).
`multi-scale` the whole image and its mirror at five sizes, in proportion to the paper's. Where the last maps are
              averaged, the fully connected layer's answer to that average is the mean of its answers at every place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from residual.data.geometry import USUAL, Geometry
from residual.data.preprocessing import Preprocessing

Protocol = Literal["1-crop", "10-crop", "multi-scale"]
Average = Literal["probabilities", "logits"]
Place = Literal["whole", "top left", "top right", "bottom left", "bottom right", "centre"]
Size = tuple[int, int]

CORNERS: tuple[Place, ...] = ("top left", "top right", "bottom left", "bottom right", "centre")
TRAINED, TEN_CROP, SCALES = 224, 256, (224, 256, 384, 480, 640)
_AT_ONCE = 1 << 22
"""Logits that are averaged at once, over all views or members."""


class Frame(NamedTuple):
    """What is cut from: the image covering `size` (H, W), or as it is where that is None, with zeros around it."""

    size: Size | None = None
    zeros: int = 0


class View(NamedTuple):
    place: Place = "whole"
    mirrored: bool = False


@dataclass(frozen=True)
class Plan:
    """What a protocol looks at, in order, and how the answers are averaged."""

    protocol: Protocol
    average: Average
    frames: tuple[tuple[Frame, tuple[View, ...]], ...]
    words: str

    @property
    def views(self) -> int:
        return sum(len(views) for _, views in self.frames)


def choose(
    protocol: Protocol,
    image_size: Size,
    sized: bool,
    average: Average = "probabilities",
    geometry: Geometry = USUAL,
) -> Plan:
    """The views of a protocol for a network trained on images of (H, W).

    Args:
        sized: whether images can be had in other sizes than the network's.
        geometry: how the single view of an image file comes about, as the preprocessing has it.
    """
    side = min(image_size)
    if protocol == "1-crop":
        words = f"1-crop: the image at {_by(image_size)}{_made(geometry, side) if sized else ''}, single view"
        return Plan(protocol, average, ((Frame(), (View(),)),), words)
    ending = f"{average} averaged"
    if protocol == "10-crop":
        views = tuple(View(place, mirrored) for mirrored in (False, True) for place in CORNERS)
        if sized:
            size = scaled(image_size, TEN_CROP)
            frame, what = Frame(size), f"the image resized to a shorter side of {min(size)}"
        else:
            zeros = max(1, side // 8)
            around = (image_size[0] + 2 * zeros, image_size[1] + 2 * zeros)
            frame, what = Frame(None, zeros), f"the image in a border of {zeros} zeros, {_by(around)}"
        words = f"10-crop: four corners, centre and mirrors, {_by(image_size)}, of {what}; {ending}"
        return Plan(protocol, average, ((frame, views),), words)
    sizes = [scaled(image_size, scale) for scale in SCALES]
    both = (View(), View(mirrored=True))
    named = ", ".join(str(min(size)) for size in sizes)
    words = f"multi-scale: the whole image and its mirror, densely, at shorter sides of {named}; {ending}"
    return Plan(protocol, average, tuple((Frame(size), both) for size in sizes), words)


def _made(geometry: Geometry, side: int) -> str:
    """How the single view of a file is made."""
    larger = round(side / geometry.share)
    seen = f", the centre of {{}} of {larger}"
    words = {
        "crop": seen.format("a shorter side"),
        "pad": seen.format("a longer side") if larger > side else ", padded to a square",
        "squash": seen.format("both sides") if larger > side else ", squashed to a square",
    }[geometry.resize]
    return words if geometry.interpolation == "bilinear" else f"{words}, {geometry.interpolation}"


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def scaled(image_size: Size, scale: int) -> Size:
    """(H, W) in the proportion of `scale` to the 224 pixels of the paper, rounded to the nearest pixel."""
    height, width = (math.floor(side * scale / TRAINED + 0.5) for side in image_size)
    return height, width


def corner(place: Place, of: Size, size: Size) -> tuple[int, int]:
    """Top and left of a crop of (H, W) in an image of (H, W); an odd rest lies at the bottom and on the right."""
    down, right = of[0] - size[0], of[1] - size[1]
    if place == "centre":
        return down // 2, right // 2
    return (down if place.startswith("bottom") else 0), (right if place.endswith("right") else 0)


def ready(pixels_NCHW: Tensor, frame: Frame, view: View, preprocessing: Preprocessing) -> Tensor:
    """float32 NCHW, what the network sees, of uint8 images that are as the frame says except for the zeros.

    Constants belong to a crop, wherever it was cut; to an image with zeros around it before they are put there, as
    in training; to a whole image of another size when a mean image is brought to that size. A view is mirrored last.
    """
    if frame.zeros:
        images = pad(preprocessing.normalise(pixels_NCHW), (frame.zeros,) * 4)
        images = cut(images, view.place, preprocessing.image_size)
    else:
        pixels_NCHW = cut(pixels_NCHW, view.place, preprocessing.image_size)
        images = preprocessing.with_size(_size(pixels_NCHW)).normalise(pixels_NCHW)
    return images.flip(3) if view.mirrored else images


def cut(images_NCHW: Tensor, place: Place, size: Size) -> Tensor:
    """NCHW of (H, W), or the whole images."""
    if place == "whole":
        return images_NCHW
    top, left = corner(place, _size(images_NCHW), size)
    return images_NCHW[:, :, top : top + size[0], left : left + size[1]]


def _size(images_NCHW: Tensor) -> Size:
    return images_NCHW.shape[2], images_NCHW.shape[3]


def combine(logits: Sequence[Tensor] | Tensor, average: Average) -> Tensor:
    """float32 NK from the logits NK of views or of members of an ensemble.

    Means of logits are logits; means of probabilities are given as their logarithms, whose softmax they are. Of a
    single view the logits are given as they are.
    """
    if len(logits) == 1:
        return logits[0].float()
    # In slices of rows: float64 of all at once would take several times the memory that the answers have.
    rows = max(1, _AT_ONCE // max(1, len(logits) * logits[0].shape[1]))
    slices = zip(*(one.split(rows) for one in logits), strict=True)
    return torch.cat([_mean(torch.stack(part).double(), average) for part in slices])


def _mean(logits_VNK: Tensor, average: Average) -> Tensor:
    if average == "logits":
        return logits_VNK.mean(0).float()
    return (logits_VNK.log_softmax(2).logsumexp(0) - math.log(len(logits_VNK))).float()
