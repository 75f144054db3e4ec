"""Every operation of TrivialAugment against Pillow's, and the draws against the paper's table."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from residual.data.trivial import BINS, OPERATIONS, apply, choose

STRENGTHS = (0, 7, 15, 30)


def pictures(count=6, channels=3):
    """Smooth images with some noise, one nearly dark, one of a single value."""
    random = np.random.default_rng(0)
    ramps = np.linspace(0, 255, 24)[:, None] * np.ones(20)[None]
    images = np.stack([np.stack([np.roll(ramps, 3 * i + c, c % 2) for c in range(channels)]) for i in range(count)])
    images = (images * 0.7 + random.integers(0, 70, images.shape)).clip(0, 255)
    images[1] *= 0.2
    images[2] = 93
    return torch.from_numpy(images.astype(np.uint8))


def by_pillow(image, kind, strength, sign):
    """uint8 CHW after Pillow's operation, with the strengths of the paper's wide space."""
    picture = Image.fromarray(
        image.permute(1, 2, 0).squeeze(2).numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy()
    )
    share = strength / (BINS - 1)
    factor = 1 + sign * 0.99 * share
    width, height = picture.size
    middle = ((width - 1) / 2, (height - 1) / 2)

    def plainly(*coefficients):
        return picture.transform(picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST)

    def affine(a, b, c, d, e, f):
        # Pillow counts from the corner of pixel 0, and takes its middle.
        x, y = middle[0] + 0.5, middle[1] + 0.5
        return plainly(a, b, c + x - a * x - b * y, d, e, f + y - d * x - e * y)

    angle = np.deg2rad(sign * 135 * share)
    shear, pixels = sign * 0.99 * share, sign * int(32 * share)
    result = {
        "identity": lambda: picture,
        "shear-x": lambda: plainly(1, shear, 0, 0, 1, 0),
        "shear-y": lambda: plainly(1, 0, 0, shear, 1, 0),
        "translate-x": lambda: affine(1, 0, pixels, 0, 1, 0),
        "translate-y": lambda: affine(1, 0, 0, 0, 1, pixels),
        "rotate": lambda: affine(np.cos(angle), np.sin(angle), 0, -np.sin(angle), np.cos(angle), 0),
        "brightness": lambda: ImageEnhance.Brightness(picture).enhance(factor),
        "colour": lambda: ImageEnhance.Color(picture).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(picture).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(picture).enhance(factor),
        "posterize": lambda: ImageOps.posterize(picture, 8 - round(share * 6)),
        "solarize": lambda: ImageOps.solarize(picture, 255 - 255 * share),
        "autocontrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
    }[kind]()
    return np.atleast_3d(np.asarray(result)).transpose(2, 0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", OPERATIONS)
def test_an_operation_equals_pillows(kind, channels):
    images = pictures(channels=channels)
    for strength in STRENGTHS:
        for sign in (-1, 1):
            count = len(images)
            row = [list(OPERATIONS).index(kind), strength, sign]
            found = apply(images, torch.tensor([row] * count)).numpy().astype(int)
            expected = np.stack([by_pillow(image, kind, strength, sign) for image in images]).astype(int)
            apart = np.abs(found - expected)
            if kind in ("shear-x", "shear-y", "rotate"):  # where a place falls between two pixels, either may be taken
                assert (apart > 0).mean() < 0.03
            else:
                assert apart.max() <= (1 if kind in ("colour", "contrast", "sharpness", "brightness") else 0)


def test_every_operation_and_strength_is_drawn_alike():
    draws = choose(60_000, torch.Generator().manual_seed(0))
    kinds, strengths, signs = draws.unbind(1)
    assert (kinds.bincount(minlength=14).double() / 60_000 - 1 / 14).abs().max() < 0.006
    assert (strengths.bincount(minlength=BINS).double() / 60_000 - 1 / BINS).abs().max() < 0.005
    assert signs.unique().tolist() == [-1, 1]
    assert abs(float(signs.double().mean())) < 0.02
