"""Anyone's image files, for training and prediction: decoded by content, never by name.

The allow-list is PNG, JPEG and WebP; everything else Pillow could open is refused before decoding.
Documented rules: EXIF orientation is applied; transparency is laid on black; palettes, CMYK and
16-bit greys become 8-bit RGB or grey; of an animation the first frame is taken. A JPEG of at least twice
the size asked for is decoded at a half, a quarter or an eighth of its size, never below the size asked for.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import interpolate

from residual.data.preprocessing import Preprocessing
from residual.errors import DataError
from residual.files import Damaged, read_regular

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PIXEL_LIMIT = 100_000_000
FILE_LIMIT = 1 << 28
_T = Image.Transpose
# EXIF orientation -> what brings the image upright (EXIF 2.32, section 4.6.4, tag 0x0112).
_UPRIGHT = {
    2: _T.FLIP_LEFT_RIGHT,
    3: _T.ROTATE_180,
    4: _T.FLIP_TOP_BOTTOM,
    5: _T.TRANSPOSE,
    6: _T.ROTATE_270,
    7: _T.TRANSVERSE,
    8: _T.ROTATE_90,
}


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


class Look(NamedTuple):
    """What an image file is, without its pixels: width and height as stored, and whether it is stored as grey."""

    width: int
    height: int
    grey: bool


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of at most 256 MiB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return read_regular(path, FILE_LIMIT)
    except Damaged as error:
        raise DataError(error.what, path, "name a PNG, JPEG or WebP file") from None
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", path, "check the file and its permissions") from None


@contextmanager
def _opened(data: bytes, where: object) -> Iterator[Image.Image]:
    """An image of one of the allowed formats and sizes; whatever decoding raises becomes a `DataError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF; documented above: bad EXIF is ignored
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > PIXEL_LIMIT:
                    raise DataError(f"{image.width} x {image.height} pixels are too many", where, "make it smaller")
                yield image
    except UnidentifiedImageError:
        raise DataError("not a PNG, JPEG or WebP image", where, "replace or remove it") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError) as error:
        raise DataError(f"not a readable PNG, JPEG or WebP image: {error}", where, "replace or remove it") from None


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
    with _opened(data, where) as image:
        if side is not None:
            image.draft(None, (side, side))  # other formats than JPEG take no notice
        image.load()
        return _to_tensor(_oriented(image), channels)


def inspect(data: bytes, where: object) -> Look:
    """What an encoded image is; its pixels are decoded, a JPEG's at an eighth, so that damage is found.

    Raises:
        DataError: as `decode_bytes`.
    """
    with _opened(data, where) as image:
        found = Look(image.width, image.height, image.mode in ("1", "L", "LA") or image.mode.startswith("I"))
        image.draft(None, (1, 1))
        image.load()
        return found


def _oriented(image: Image.Image) -> Image.Image:
    """The image upright; EXIF that cannot be read counts as none, since the pixels themselves are sound."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, OSError, struct.error):
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_tensor(image: Image.Image, channels: int) -> Tensor:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    # numpy turns the axes: torch would start threads of its own in every thread that decodes.
    return torch.from_numpy(np.atleast_3d(pixels).transpose(2, 0, 1).copy(order="C"))


def fit(image: Tensor, size: tuple[int, int], where: object = "") -> Tensor:
    """uint8 CHW brought to (H, W): the shorter side resized (bilinear, antialiased), then the centre cut.

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
    resized = interpolate(image.unsqueeze(0), size=grown, mode="bilinear", antialias=True, align_corners=False)[0]
    top, left = (grown[0] - height) // 2, (grown[1] - width) // 2
    return resized[:, top : top + height, left : left + width]


def decode_fitted(data: bytes, channels: int, size: tuple[int, int], where: object) -> Tensor:
    """uint8 CHW of an encoded image brought to (H, W): what training, evaluation and prediction all see."""
    return fit(decode_bytes(data, channels, where, max(size)), size, where)


def read_image(path: Path, preprocessing: Preprocessing) -> Tensor:
    """uint8 CHW of a file in the geometry a model was trained on.

    Raises:
        DataError: the file cannot be read or is no image.
    """
    return decode_fitted(read_file(path), preprocessing.channels, preprocessing.image_size, path)
