"""JPEGs through simplejpeg (extra `residual[jpeg]`), where it gives the pixels that Pillow gives.

Both hand the work to libjpeg-turbo, simplejpeg without Pillow's detour through four bytes a pixel and small pieces.
Whether their pixels are the same is tried once in every process, on images of both kinds of chroma at each scale; if
one value differs, Pillow decodes everything. Whatever simplejpeg refuses is left to Pillow, whose word counts.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from residual.errors import log

Decode = Callable[[bytes, tuple[int, int]], NDArray[np.uint8] | None]


def _decode(library: Any, data: bytes, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """uint8 HWC of a colour JPEG that is to have (width, height) pixels; None where it is not to be had so."""
    try:
        found: NDArray[np.uint8] = library.decode_jpeg(data, "RGB", min_width=size[0], min_height=size[1])
    except (ValueError, OverflowError, MemoryError):
        return None
    return found if found.shape == (size[1], size[0], 3) else None


@lru_cache
def quick_decoder() -> Decode | None:
    """The decoder, where simplejpeg is installed and agrees with Pillow."""
    try:
        import simplejpeg
    except ImportError:
        return None

    def decode(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        return _decode(simplejpeg, data, size)

    for data in _trials():
        for scale in (1, 2, 4, 8):
            with Image.open(io.BytesIO(data)) as image:
                image.draft(None, (image.width // scale, image.height // scale))
                found = decode(data, image.size)
                if found is None or not np.array_equal(found, np.asarray(image)):
                    log.info("simplejpeg is not used: its pixels are not those of Pillow at 1/%d", scale)
                    return None
    return decode


def _trials() -> list[bytes]:
    """Noise on waves, of sides that no block divides, with chroma at full and at half size."""
    y, x = np.mgrid[:203, :331]
    waves = 120 + 80 * np.stack([np.sin(x / (5 + c)) * np.cos(y / (9 - c)) for c in range(3)], -1)
    pixels = waves + np.random.default_rng(0).integers(-30, 31, waves.shape)
    image, found = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), []
    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        for progressive in (False, True):
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=90, subsampling=sampling, progressive=progressive)
            found.append(stream.getvalue())
    return found
