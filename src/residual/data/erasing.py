"""Holes in images: cutout and random erasing. A hole is zero, which after normalisation is the mean pixel.

images are float NCHW; draws are uniform in [0, 1), one row per image. Sources: DeVries and Taylor 2017
(Improved Regularization of Convolutional Neural Networks with Cutout), section 3.2; Zhong et al. 2017
(Random Erasing Data Augmentation), algorithm 1 and its variant that erases with the mean value (RE-M).
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

COLUMNS: Final = 5
"""Draws of `erase`: whether, area, aspect, top, left."""
AREA: Final = (0.02, 0.4)
ASPECT: Final = (0.3, 1 / 0.3)


def _hole(images: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """The images with rows [top, bottom) and columns [left, right) at zero; int64 N each."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device).view(1, 1, -1, 1)
    columns = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    edges = [edge.to(images.device).view(-1, 1, 1, 1) for edge in (top, bottom, left, right)]
    inside = (rows >= edges[0]) & (rows < edges[1]) & (columns >= edges[2]) & (columns < edges[3])
    return images.masked_fill(inside, 0)


def cutout(images: Tensor, draws: Tensor, side: int) -> Tensor:
    """A square of `side` pixels around a pixel drawn from the whole image; what lies outside the image is lost."""
    height, width = images.shape[2:]
    top = (draws[:, 0] * height).long() - side // 2
    left = (draws[:, 1] * width).long() - side // 2
    return _hole(images, top, top + side, left, left + side)


def erase(images: Tensor, draws: Tensor, share: float) -> Tensor:
    """In a `share` of the images, a rectangle of 2 to 40 % of the area, 0.3 to 3.3 times as high as wide.

    A rectangle higher or wider than the image is cut to it, where the paper draws again: each image then
    needs one row of draws, whatever comes out. The aspect is drawn by its logarithm, as in torchvision, so that high
    and wide are equally likely; the paper draws it as it is.
    """
    height, width = images.shape[2:]
    area = (AREA[0] + (AREA[1] - AREA[0]) * draws[:, 1]) * height * width
    low, high = (math.log(edge) for edge in ASPECT)
    aspect = (low + (high - low) * draws[:, 2]).exp()
    rows = (area * aspect).sqrt().round().long().clamp(1, height)
    columns = (area / aspect).sqrt().round().long().clamp(1, width)
    top = (draws[:, 3] * (height - rows + 1)).long()
    left = (draws[:, 4] * (width - columns + 1)).long()
    chosen = draws[:, 0] < share
    zero = torch.zeros_like(top)
    return _hole(images, top, torch.where(chosen, top + rows, zero), left, torch.where(chosen, left + columns, zero))
