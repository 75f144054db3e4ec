"""Folders of small photographs, drawn at test time: every class has a colour of its own, every image its own noise."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, colour: int = 0, size: tuple[int, int] = (40, 36), grey: bool = False) -> Image.Image:
    """An image of (width, height): noise around a colour."""
    chance = np.random.default_rng([seed, colour])
    middle = np.random.default_rng(colour).integers(40, 215, 3)
    pixels = (middle + chance.integers(-40, 41, (size[1], size[0], 3))).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if grey else pixels)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def fill(folder: Path, count: int, colour: int, first: int = 0, size: tuple[int, int] = (40, 36)) -> Path:
    """Write `count` images of one class, PNG and JPEG by turns."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        form, suffix = (("JPEG", "jpg"), ("PNG", "png"))[number % 2]
        (folder / f"{number:03}.{suffix}").write_bytes(encoded(picture(number, colour, size), form))
    return folder


def photographs(root: Path, classes: Iterable[str] = ("cat", "dog", "owl"), count: int = 12) -> Path:
    """ROOT/CLASS/IMAGES."""
    for colour, name in enumerate(classes):
        fill(root / name, count, colour)
    return root


def divided(
    root: Path, parts: Iterable[str] = ("train", "val", "test"), classes: Iterable[str] = ("cat", "dog", "owl")
) -> Path:
    """ROOT/PART/CLASS/IMAGES, no image twice."""
    for place, part in enumerate(parts):
        for colour, name in enumerate(classes):
            fill(root / part / name, 12 if place == 0 else 5, colour, 100 * place)
    return root
