"""Anyone's image files as tensors, for training and prediction: `encoded` says which are opened, and by which rules.

An image is brought to its size as `geometry` says; or, in training, a crop drawn by `windows` is cut out and resized.
A JPEG of at least twice the size asked for is decoded at a half, a quarter or an eighth of its size, never below the
size asked for. Pixels stay in the order in which decoders give them until they are in the size of the model: torch
resizes them so in two thirds of the time, to the same values.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

from residual.data.encoded import Encoded, Picture, opened, read_file
from residual.data.formats import SUFFIXES
from residual.data.geometry import USUAL, Geometry, Interpolation
from residual.data.layout import begins_as_image, not_read
from residual.data.limits import PIXEL_LIMIT
from residual.data.preprocessing import Preprocessing
from residual.data.trees import passed_over
from residual.data.windows import Window
from residual.errors import DataError, log


def find_images(places: Iterable[Path]) -> list[Path]:
    """The files named, and the image files of the folders named (sorted, sub-folders included); says what is left out.

    A name that stands nowhere and has *, ? or [ is a pattern, which the shell of Windows, and quotes, leave as it is.

    Raises:
        DataError: a place does not exist, a pattern fits nothing, or a folder holds no image.
    """
    found: list[Path] = []
    for place in chain.from_iterable(map(_fitting, places)):
        try:
            is_folder, exists = place.is_dir(), place.exists()
            inside, left = _inside(place) if is_folder else ([place], "")
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", str(place)[:200], "check the name") from None
        if not exists:
            raise DataError("no such file or folder", place, "check the name")
        if not inside:
            what = f"no image in this folder{'; ' * bool(left)}{left}"
            raise DataError(what, place, f"expected files named {', '.join(SUFFIXES)}")
        if left:
            log.warning("%s (%s)", left, place)
        found.extend(inside)
    return found


def _fitting(place: Path) -> list[Path]:
    """The place itself, or what fits a pattern, sorted, each image once: `**` finds folders and what is in them."""
    if not glob.has_magic(str(place)) or os.path.lexists(place):
        return [place]
    found = [Path(name) for name in sorted(glob.glob(str(place), recursive=True))]
    found = [one for one in found if not passed_over(one.name)]
    folders = {one for one in found if one.is_dir()}
    found = [one for one in found if folders.isdisjoint(one.parents)]
    if not found:
        raise DataError("no file or folder fits this pattern", place, "check the name")
    return found


def _inside(folder: Path) -> tuple[list[Path], str]:
    """The images in a folder, and in words what else lies there; what training passes over is as if it were not."""
    paths: list[Path] = []
    closed: list[OSError] = []
    linked = 0
    for place, folders, files in os.walk(folder, onerror=closed.append):
        folders[:] = [name for name in folders if not passed_over(name)]
        linked += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        paths += (Path(place, name) for name in files if not passed_over(name))
    found, unused = [], Counter[str]()
    for path in sorted(paths):
        suffix = path.suffix.lower()
        if not path.is_file():
            continue
        if suffix in SUFFIXES or (not suffix and begins_as_image(path)):
            found.append(path)
        else:
            unused[suffix] += 1
    words = [not_read(unused).removeprefix("not used: ")] * bool(unused)
    words += [f"{linked:,} links to folders"] * bool(linked)
    words += [f"{len(closed):,} folders that cannot be read"] * bool(closed)
    return found, f"not used: {' and '.join(words)}" if words else ""


def decode(path: Path, channels: int) -> Tensor:
    """uint8 CHW of an image file in its own size, C = 1 (grey) or 3 (RGB).

    Raises:
        DataError: as `decode_bytes`, or the file cannot be read.
    """
    return decode_bytes(read_file(path), channels, path)


def decode_bytes(data: bytes, channels: int, where: object, side: int | None = None) -> Tensor:
    """uint8 CHW of an encoded image, C = 1 (grey) or 3 (RGB).

    Args:
        where: what the image is called in an error.
        side: the shorter side that is needed; a large JPEG may be decoded smaller, but not below it.

    Raises:
        DataError: not one of the allowed formats, damaged, or more than 100 million pixels.
    """
    with opened(data, where) as image:
        pixels = Encoded(image).array(channels, None if side is None else (side, side))
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy(order="C"))


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 CHW of a copy of uint8 HWC; the channels of a pixel stay side by side in memory."""
    # numpy copies: torch would start threads of its own in every thread that decodes.
    return torch.from_numpy(np.array(pixels, order="C")).permute(2, 0, 1)


def _resized(image: Tensor, size: tuple[int, int], interpolation: Interpolation = "bilinear") -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    return interpolate(image.unsqueeze(0), size=size, mode=interpolation, antialias=True, align_corners=False)[0]


def cover(
    image: Tensor, size: tuple[int, int], where: object = "", interpolation: Interpolation = "bilinear"
) -> Tensor:
    """uint8 CHW resized (antialiased) in its own proportions, as small as covers (H, W).

    Raises:
        DataError: so narrow an image that it would have to grow beyond 100 million pixels.
    """
    height, width = image.shape[1:]
    if fault := too_narrow(height, width, size):
        raise DataError(fault, where, "cut it nearer to a square")
    return _resized(image, USUAL.inner(height, width, size), interpolation)


def too_narrow(height: int, width: int, size: tuple[int, int], geometry: Geometry = USUAL) -> str:
    """What is wrong with an image that would grow beyond 100 million pixels on its way to (H, W); nothing else."""
    larger = geometry.around(size)
    least = max(larger) ** 2 * max(height, width)  # what it would have at most, times its shorter side
    if geometry.resize != "crop" or least < PIXEL_LIMIT // 2 * min(height, width):
        return ""
    grown = USUAL.inner(height, width, larger)
    if grown[0] * grown[1] <= PIXEL_LIMIT:
        return ""
    return f"{width} x {height} pixels are too narrow: they would grow to {grown[1]} x {grown[0]}"


def _centre(image: Tensor, size: tuple[int, int]) -> Tensor:
    top, left = (image.shape[1] - size[0]) // 2, (image.shape[2] - size[1]) // 2
    return image[:, top : top + size[0], left : left + size[1]]


def fit(image: Tensor, size: tuple[int, int], where: object = "") -> Tensor:
    """uint8 CHW brought to (H, W): the shorter side resized as by `cover`, then the centre cut."""
    return _centre(cover(image, size, where), size)


def covering(
    picture: Picture,
    channels: int,
    size: tuple[int, int],
    where: object,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """uint8 CHW of a picture whole, as small as covers (H, W)."""
    return cover(to_tensor(picture.array(channels, (max(size), max(size)))), size, where, interpolation)


def fitted(picture: Picture, channels: int, size: tuple[int, int], where: object, geometry: Geometry = USUAL) -> Tensor:
    """uint8 CHW of a picture brought to (H, W): what evaluation, prediction and plain training all see."""
    larger = geometry.around(size)
    if geometry.resize == "crop":
        return _centre(covering(picture, channels, larger, where, geometry.interpolation), size)
    width, height = picture.size
    inner = geometry.inner(height, width, larger)
    image = _resized(to_tensor(picture.array(channels, inner[::-1])), inner, geometry.interpolation)
    above, left = (larger[0] - inner[0]) // 2, (larger[1] - inner[1]) // 2
    around = (left, larger[1] - inner[1] - left, above, larger[0] - inner[0] - above)
    return _centre(pad(image, around) if any(around) else image, size)


def cropped(
    picture: Picture,
    channels: int,
    size: tuple[int, int],
    window: Window,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """uint8 CHW of a crop of a picture, cut out and then resized to (H, W)."""
    (width, height), (high, wide) = picture.size, size
    left, top, across, down = window.box(width, height, size)
    # The whole may be decoded so much smaller that the crop still has the pixels that are needed of it.
    pixels = picture.array(channels, (ceil(width * wide / across), ceil(height * high / down)))
    rows, columns = pixels.shape[0] / height, pixels.shape[1] / width
    up, aside = round(top * rows), round(left * columns)
    cut = pixels[up : max(up + 1, round((top + down) * rows)), aside : max(aside + 1, round((left + across) * columns))]
    return _resized(to_tensor(cut), size, interpolation)


def decode_fitted(
    data: bytes, channels: int, size: tuple[int, int], where: object, geometry: Geometry = USUAL
) -> Tensor:
    """uint8 CHW of an encoded image brought to (H, W), as `fitted`."""
    with opened(data, where) as image:
        return fitted(Encoded(image), channels, size, where, geometry)


def read_image(path: Path, preprocessing: Preprocessing) -> Tensor:
    """uint8 CHW of a file in the geometry a model was trained on.

    Raises:
        DataError: the file cannot be read or is no image.  UsageError: the model takes other channels than files have.
    """
    sight = preprocessing
    sight.mind_pictures(path)
    return decode_fitted(read_file(path), sight.channels, sight.image_size, path, sight.geometry)
