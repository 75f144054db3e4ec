"""Anyone's image files, read for prediction: decoded by content, never by name.

The allow-list is PNG, JPEG and WebP; everything else Pillow could open is refused before decoding.
Documented rules: EXIF orientation is applied; transparency is laid on black; palettes, CMYK and
16-bit greys become 8-bit RGB or grey; of an animation the first frame is taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import interpolate

from residual.data.preprocessing import Preprocessing
from residual.errors import DataError
from residual.files import Damaged, read_regular

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PIXEL_LIMIT = 100_000_000
FILE_LIMIT = 1 << 28


def find_images(places: Iterable[Path]) -> list[Path]:
    """The files named, and the image files of the folders named (sorted, sub-folders included).

    Raises:
        DataError: a place does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise DataError("no image in this folder", place, f"expected files named {', '.join(SUFFIXES)}")
            found.extend(inside)
        elif place.exists():
            found.append(place)
        else:
            raise DataError("no such file or folder", place, "check the name")
    return found


def decode(path: Path, channels: int) -> Tensor:
    """uint8 CHW of an image file, C = 1 (grey) or 3 (RGB).

    Raises:
        DataError: not one of the allowed formats, damaged, or more than 100 million pixels.
    """
    import io

    try:
        data = read_regular(path, FILE_LIMIT)
    except Damaged as error:
        raise DataError(error.what, path, "name a PNG, JPEG or WebP file") from None
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", path, "check the file and its permissions") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF; documented above: bad EXIF is ignored
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > PIXEL_LIMIT:
                    raise DataError(f"{image.width} x {image.height} pixels are too many", path, "make it smaller")
                image.load()
                return _to_tensor(_oriented(image), channels)
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, MemoryError) as error:
        raise DataError(f"not a readable PNG, JPEG or WebP image: {error}", path, "replace or remove it") from None


def _oriented(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        # Pillow meets malformed EXIF with many kinds of error; the pixels themselves are sound.
        return image


def _to_tensor(image: Image.Image, channels: int) -> Tensor:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image, np.int64) >> 8).clip(0, 255).astype(np.uint8))
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(np.atleast_3d(pixels).copy()).permute(2, 0, 1).contiguous()


def fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 CHW brought to (H, W): the shorter side resized (bilinear, antialiased), then the centre cut."""
    height, width = size
    if tuple(image.shape[1:]) == size:
        return image
    scale = max(height / image.shape[1], width / image.shape[2])
    grown = (max(height, round(image.shape[1] * scale)), max(width, round(image.shape[2] * scale)))
    resized = interpolate(image.unsqueeze(0), size=grown, mode="bilinear", antialias=True, align_corners=False)[0]
    top, left = (grown[0] - height) // 2, (grown[1] - width) // 2
    return resized[:, top : top + height, left : left + width]


def read_image(path: Path, preprocessing: Preprocessing) -> Tensor:
    """uint8 CHW of a file in the geometry a model was trained on."""
    return fit(decode(path, preprocessing.channels), preprocessing.image_size)
