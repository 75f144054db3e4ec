"""Colour augmentation: noise along the colours' principal axes, and jitter of brightness, contrast and saturation.

Noise (Krizhevsky et al. 2012, section 4.1; He et al. 2015, section 3.4): to every pixel of an image is added the sum
of the eigenvectors of the covariance of RGB values over the training images, each times its eigenvalue times a draw
from N(0, .1), drawn once for the image. The papers do not say on which scale; here values are pixels / 255.

Jitter (Howard 2013; Gross and Wilber 2016): factors uniform in [1 - s, 1 + s], brightness first, then contrast around
the image's mean grey, then saturation around each pixel's grey.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Generator, Tensor

from residual.data.sending import sent
from residual.data.source import FileSource, Source, expect

GREY: Final = (0.299, 0.587, 0.114)
"""Shares of R, G and B in a pixel's grey (ITU-R BT.601), as Pillow weighs them."""
JITTERS: Final = 3
_MOST = 2000  # images whose colours are measured
_PART = 1 << 22  # values read at a time


def principal_colours(source: Source, indices: Tensor) -> Tensor:
    """axes_CC float32: row i is the i-th eigenvector of the covariance of pixels / 255, times its eigenvalue.

    Sums are taken over integers, so the order of the images does not matter. At most 2,000 images are read for it,
    evenly spread over those named (the training part, never the held images).
    """
    if len(indices) > _MOST:
        indices = indices[torch.arange(_MOST) * len(indices) // _MOST]
    _, channels, height, width = source.read(indices[:1]).shape
    total = torch.zeros(channels, dtype=torch.float64)
    square = torch.zeros(channels, channels, dtype=torch.float64)
    parts = indices.split(max(1, _PART // (channels * height * width)))
    for number, part in enumerate(parts):
        # Products and sums of at most 4 million values below 256 are whole numbers that float64 holds exactly.
        pixels = source.read(part).transpose(0, 1).flatten(1).double()
        if isinstance(source, FileSource):
            for following in parts[number + 1 : number + 2]:
                expect(source, following)
        total += pixels.sum(1)
        square += pixels @ pixels.T
    count = len(indices) * height * width
    mean = total / count
    covariance = (square / count - mean.outer(mean)) / 255**2
    values, vectors = torch.linalg.eigh(covariance)
    # The sign of an eigenvector is anyone's choice; the draws are symmetrical, but must mean the same on resume.
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    axes: Tensor = ((vectors * signs) * values.clamp_min(0)).T.float()
    return axes


def draw_noise(count: int, chance: Generator, strength: float) -> Tensor:
    """Draws (N, 3) from N(0, strength); a grey image uses the first."""
    return torch.randn(count, 3, generator=chance) * strength


def add_noise(images: Tensor, draws: Tensor, axes: Tensor, std: Tensor) -> Tensor:
    """Normalised images NCHW with the noise of draws along axes_CC; std_C11 is what they were divided by."""
    shift = draws[:, : len(axes)] @ axes / std.flatten()
    return images + shift.to(images.device, images.dtype)[:, :, None, None]


def draw_jitter(count: int, chance: Generator, strength: float) -> Tensor:
    """Factors (N, 3) of brightness, contrast and saturation."""
    return 1 + strength * (2 * torch.rand(count, JITTERS, generator=chance) - 1)


def jitter(pixels: Tensor, factors: Tensor) -> Tensor:
    """uint8 NCHW with brightness, contrast and saturation changed; rounded once, at the end."""
    brightness, contrast, saturation = (f.view(-1, 1, 1, 1) for f in factors.to(pixels.device).unbind(1))
    images = (pixels.float() * brightness).clamp_(0, 255)
    images = torch.lerp(_grey(images).mean((1, 2, 3), keepdim=True), images, contrast).clamp_(0, 255)
    images = torch.lerp(_grey(images).expand_as(images), images, saturation).clamp_(0, 255)
    return images.round_().to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images
    weights = sent(torch.tensor(GREY, dtype=images.dtype), images.device)
    return (images * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
