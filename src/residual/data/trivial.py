"""TrivialAugment, wide: one operation an image, drawn with its strength from all there are; nothing to tune.

pixels are uint8 NCHW, 0-255. A row of draws is (operation, strength 0..30, sign): int64 N3. Strengths and
operations: Müller and Hutter 2021 (TrivialAugment), table 2, wide space. Each operation equals Pillow's;
geometry takes the nearest pixel and fills with zero; a shear leaves the upper or left edge in its place, as in the
authors' code, and does not turn about the middle. Colour and contrast see Pillow's grey: the rounded
(299 R + 587 G + 114 B) / 1000; an image that is not of three channels is its own grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Generator, Tensor
from torch.nn.functional import conv2d, grid_sample

from residual.data.sending import sent

BINS: Final = 31


def _grey(images: Tensor) -> Tensor:
    """Float N1HW, or the images where they have no three channels."""
    if images.shape[1] != 3:
        return images
    weights = sent(torch.tensor([19595.0, 38470.0, 7471.0]), images.device)  # Pillow's, of 65,536
    return ((images * weights.view(1, 3, 1, 1)).sum(1, keepdim=True) + 32768).div(65536).floor()


def _blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """base + factor (images - base), cut to 0..255 and to whole numbers as Pillow does."""
    return (base + factor * (images - base)).clamp(0, 255).floor()


def _wide(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _factor(strength: Tensor, sign: Tensor) -> Tensor:
    return _wide(1 + sign * 0.99 * strength / (BINS - 1))


def _identity(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return images


def _brightness(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _blend(torch.zeros_like(images), images, _factor(strength, sign))


def _colour(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _blend(_grey(images), images, _factor(strength, sign))


def _contrast(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    mean = (_grey(images).mean((1, 2, 3)) + 0.5).floor()
    return _blend(_wide(mean), images, _factor(strength, sign))


def _sharpness(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    channels, height, width = images.shape[1:]
    smooth = images.clone()
    if height > 2 and width > 2:
        kernel = torch.ones(3, 3)
        kernel[1, 1] = 5
        kernels = sent(kernel / 13, images.device).expand(channels, 1, 3, 3)
        smooth[:, :, 1:-1, 1:-1] = (conv2d(images, kernels, groups=channels) + 0.5).clamp(0, 255).floor()
    return _blend(smooth, images, _factor(strength, sign))


def _posterize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    bits = 8 - (strength / ((BINS - 1) / 6)).round()
    step = _wide(2 ** (8 - bits))
    return (images / step).floor() * step


def _solarize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    threshold = _wide(255 - 255 * strength / (BINS - 1))
    return torch.where(images < threshold, images, 255 - images)


def _autocontrast(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    if images.device.type == "mps":  # which has no doubles
        return _autocontrast(images.cpu(), strength, sign).to(images.device)
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = (high - low).clamp_min(1).double()  # Pillow computes with doubles, and the cut to whole numbers sees it
    scale = torch.full_like(span, 255) / span  # a plain `255 / span` multiplies with a rounded reciprocal
    stretched = (images * scale - low * scale).clamp(0, 255).floor().float()
    return torch.where(high > low, stretched, images)


def _equalize(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    count, channels, height, width = images.shape
    planes = images.long().view(count * channels, -1)
    histogram = torch.zeros(len(planes), 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(1, planes, torch.ones_like(planes))
    brightest = planes.amax(1, keepdim=True)
    step = (height * width - histogram.gather(1, brightest)) // 255
    before = histogram.cumsum(1) - histogram
    table = ((step // 2 + before) // step.clamp_min(1)).clamp_max(255)
    table = torch.where(step == 0, torch.arange(256, device=images.device), table)
    return table.gather(1, planes).view(images.shape).to(images.dtype)


def _sampled(images: Tensor, matrix: Tensor, mode: str = "nearest") -> Tensor:
    """The images with output pixel (x, y) taken from matrix_N23 (x, y, 1), pixels counted from the middle."""
    height, width = images.shape[2:]
    xs = torch.arange(width, device=images.device, dtype=torch.float32) - (width - 1) / 2
    ys = torch.arange(height, device=images.device, dtype=torch.float32) - (height - 1) / 2
    ones = torch.ones(height, width, device=images.device)
    grid = torch.stack([xs.expand(height, width), ys.view(-1, 1).expand(height, width), ones], -1)
    places = torch.einsum("hwk,nck->nhwc", grid, matrix)
    halves = sent(torch.tensor([width / 2, height / 2]), images.device)
    shares = (places / halves).to(images.dtype)
    return grid_sample(images, shares, mode=mode, padding_mode="zeros", align_corners=False)


def _matrix(a: Tensor | float, b: Tensor | float, c: Tensor | float, *rest: Tensor | float) -> Tensor:
    """matrix_N23 of six entries, row by row, numbers or N each."""
    entries = [a, b, c, *rest]
    like = next(entry for entry in entries if isinstance(entry, Tensor))
    columns = [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for entry in entries]
    return torch.stack(columns, 1).view(-1, 2, 3)


def _shear_x(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    shear = sign * 0.99 * strength / (BINS - 1)
    return _sampled(images, _matrix(1, shear, shear * (images.shape[2] / 2), 0, 1, 0))  # the upper edge stays


def _shear_y(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    shear = sign * 0.99 * strength / (BINS - 1)
    return _sampled(images, _matrix(1, 0, 0, shear, 1, shear * (images.shape[3] / 2)))  # the left edge stays


def _translate_x(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _sampled(images, _matrix(1, 0, sign * (32 * strength / (BINS - 1)).floor(), 0, 1, 0))


def _translate_y(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    return _sampled(images, _matrix(1, 0, 0, 0, 1, sign * (32 * strength / (BINS - 1)).floor()))


def _rotate(images: Tensor, strength: Tensor, sign: Tensor) -> Tensor:
    angle = sign * math.radians(135) * strength / (BINS - 1)
    cos, sin = angle.cos(), angle.sin()
    return _sampled(images, _matrix(cos, sin, 0, -sin, cos, 0))


def turned(images: Tensor, degrees: Tensor) -> Tensor:
    """Float NCHW turned about their middle, each by its N degrees, counter-clockwise, bilinear; zeros come in."""
    angle = degrees.to(images.device).deg2rad()
    cos, sin = angle.cos(), angle.sin()
    return _sampled(images, _matrix(cos, -sin, 0, sin, cos, 0), "bilinear")


Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
OPERATIONS: Final[dict[str, Operation]] = {
    "identity": _identity,
    "shear-x": _shear_x,
    "shear-y": _shear_y,
    "translate-x": _translate_x,
    "translate-y": _translate_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "colour": _colour,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
"""Each takes float NCHW with whole numbers 0..255, strength N in 0..30 and sign N of -1 or 1, and gives the same."""


def choose(count: int, chance: Generator) -> Tensor:
    """int64 N3: the operation, its strength, its sign."""
    kinds = torch.randint(len(OPERATIONS), (count,), generator=chance)
    strengths = torch.randint(BINS, (count,), generator=chance)
    signs = torch.randint(2, (count,), generator=chance) * 2 - 1
    return torch.stack([kinds, strengths, signs], 1)


def apply(pixels: Tensor, draws: Tensor) -> Tensor:
    """uint8 NCHW, each image after its operation."""
    found = pixels.clone()
    order = torch.argsort(draws[:, 0], stable=True)
    counts = torch.bincount(draws[:, 0], minlength=len(OPERATIONS)).tolist()  # on the CPU, as the draws are
    rows, strengths, signs = sent(torch.stack([order, *draws[order, 1:].unbind(1)]), pixels.device).unbind(0)
    start = 0
    for number, (operation, count) in enumerate(zip(OPERATIONS.values(), counts, strict=True)):
        part, start = slice(start, start + count), start + count
        if number and count:
            changed = operation(
                pixels.index_select(0, rows[part]).float(), strengths[part].float(), signs[part].float()
            )
            found.index_copy_(0, rows[part], changed.to(torch.uint8))
    return found
