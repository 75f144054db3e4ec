"""Anyone's image files as tensors, for training and prediction: `encoded` says which are opened, and by which rules.

Geometry: the shorter side is resized to the size of the model (bilinear, antialiased), then the centre cut; or, in
training, a crop drawn by `windows` is cut out and resized. A JPEG of at least twice the size asked for is decoded
at a half, a quarter or an eighth of its size, never below the size asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from residual.data.encoded import PIXEL_LIMIT, SUFFIXES, Encoded, Picture, opened, read_file
from residual.data.preprocessing import Preprocessing
from residual.data.windows import Window
from residual.errors import DataError


def find_images(places: Iterable[Path]) -> list[Path]:
    """The files named, and the image files of the folders named (sorted, sub-folders included).

    Raises:
        DataError: a place does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for place in places:
        try:
            is_folder, exists = place.is_dir(), place.exists()
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES) if is_folder else [place]
            inside = [p for p in inside if p.is_file()] if is_folder else inside
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", str(place)[:200], "check the name") from None
        if not exists:
            raise DataError("no such file or folder", place, "check the name")
        if not inside:
            raise DataError("no image in this folder", place, f"expected files named {', '.join(SUFFIXES)}")
        found.extend(inside)
    return found


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
        return to_tensor(Encoded(image).array(channels, None if side is None else (side, side)))


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 CHW of uint8 HWC."""
    # numpy turns the axes: torch would start threads of its own in every thread that decodes.
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy(order="C"))


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    return interpolate(image.unsqueeze(0), size=size, mode="bilinear", antialias=True, align_corners=False)[0]


def cover(image: Tensor, size: tuple[int, int], where: object = "") -> Tensor:
    """uint8 CHW resized (bilinear, antialiased) in its own proportions, as small as covers (H, W).

    Raises:
        DataError: so narrow an image that it would have to grow beyond 100 million pixels.
    """
    height, width = size
    if tuple(image.shape[1:]) == size:
        return image
    scale = max(height / image.shape[1], width / image.shape[2])
    grown = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    if grown[0] * grown[1] > PIXEL_LIMIT:
        raise DataError(
            f"{image.shape[2]} x {image.shape[1]} pixels are too narrow: they would grow to {grown[1]} x {grown[0]}",
            where,
            "cut it nearer to a square",
        )
    return _resized(image, grown)


def fit(image: Tensor, size: tuple[int, int], where: object = "") -> Tensor:
    """uint8 CHW brought to (H, W): the shorter side resized as by `cover`, then the centre cut."""
    covering = cover(image, size, where)
    top, left = (covering.shape[1] - size[0]) // 2, (covering.shape[2] - size[1]) // 2
    return covering[:, top : top + size[0], left : left + size[1]]


def covering(picture: Picture, channels: int, size: tuple[int, int], where: object) -> Tensor:
    """uint8 CHW of a picture whole, as small as covers (H, W)."""
    return cover(to_tensor(picture.array(channels, (max(size), max(size)))), size, where)


def fitted(picture: Picture, channels: int, size: tuple[int, int], where: object, crop: float = 1.0) -> Tensor:
    """uint8 CHW of a picture brought to (H, W): what evaluation, prediction and plain training all see.

    With `crop` below 1 it is made to cover (H, W) / crop, of which the centre keeps that share.
    """
    if crop == 1:
        return fit(covering(picture, channels, size, where), size)
    (height, width), larger = size, (round(size[0] / crop), round(size[1] / crop))
    whole = covering(picture, channels, larger, where)
    top, left = (whole.shape[1] - height) // 2, (whole.shape[2] - width) // 2
    return whole[:, top : top + height, left : left + width]


def cropped(picture: Picture, channels: int, size: tuple[int, int], window: Window) -> Tensor:
    """uint8 CHW of a crop of a picture, cut out and then resized to (H, W)."""
    (width, height), (high, wide) = picture.size, size
    left, top, across, down = window.box(width, height, size)
    # The whole may be decoded so much smaller that the crop still has the pixels that are needed of it.
    pixels = picture.array(channels, (ceil(width * wide / across), ceil(height * high / down)))
    rows, columns = pixels.shape[0] / height, pixels.shape[1] / width
    up, aside = round(top * rows), round(left * columns)
    cut = pixels[up : max(up + 1, round((top + down) * rows)), aside : max(aside + 1, round((left + across) * columns))]
    return _resized(to_tensor(cut), size)


def decode_fitted(data: bytes, channels: int, size: tuple[int, int], where: object, crop: float = 1.0) -> Tensor:
    """uint8 CHW of an encoded image brought to (H, W), as `fitted`."""
    with opened(data, where) as image:
        return fitted(Encoded(image), channels, size, where, crop)


def read_image(path: Path, preprocessing: Preprocessing) -> Tensor:
    """uint8 CHW of a file in the geometry a model was trained on.

    Raises:
        DataError: the file cannot be read or is no image.
    """
    sight = preprocessing
    return decode_fitted(read_file(path), sight.channels, sight.image_size, path, sight.crop)
