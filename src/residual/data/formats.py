"""The formats of image files that are read, and what Pillow is let do with the older ones of them.

JPEG, PNG and WebP hold most photographs. BMP, GIF, TIFF and binary PNM hold older collections, scans and what
microscopes and traffic cameras write. Their pixels are read at once when they are opened, since Pillow raises all kinds
of errors of a damaged one, and what would take much memory or time for a small file is refused before.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Final

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError, _imaging

from residual.data import netpbm, tiff
from residual.data.limits import BITS, NotRead, mind_size

_OF_FORMAT: Final = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
SUFFIXES: Final = tuple(suffix for suffixes in _OF_FORMAT.values() for suffix in suffixes)
KINDS: Final = "PNG, JPEG, WebP, GIF, BMP, TIFF or PPM"
INVERTED: Final = "white is zero"
"""In `info` of an opened image: its numbers are darkness, and Pillow has left them so."""
_BY_PILLOW: Final = tuple(form for form in _OF_FORMAT if form != "PPM")
_USUAL: Final = ("PNG", "JPEG", "MPO", "WEBP")
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B", "I;16L", "I;16N")
_MARKS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", *tiff.MARKS)
_RUNS: Final = 16_000_000  # pixels of a BMP of runs, which Pillow reads in Python
_SHORT: Final = "decoder error -9"  # so libtiff's decoder tells that memory was short
_BOMB: Final = re.compile(r"\((\d+) pixels\)")

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it has to say of a file is told in our own words


def begins_so(head: bytes) -> bool:
    """Whether the first twelve bytes of a file are those of a format that is read."""
    if head.startswith(_MARKS) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return True
    if head[:2] == b"BM":
        return len(head) == 12 and head[6:10] == bytes(4)  # two reserved fields
    return netpbm.begins_so(head)


def is_named_so(name: str, form: str) -> bool:
    """Whether a file name ends as those of a format do, or has no suffix."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].lower()
    return "." not in last or last.endswith(_OF_FORMAT.get("JPEG" if form == "MPO" else form, ()))


@contextmanager
def _damage_told() -> Iterator[None]:
    """Whatever Pillow raises of a damaged file as an `OSError` or a `ValueError`, in words for a reader."""
    try:
        yield
    except Image.DecompressionBombError as error:
        found = _BOMB.search(str(error))
        raise ValueError(f"{int(found[1]):,} pixels are too many" if found else str(error)) from None
    except (MemoryError, ValueError, SyntaxError, UnidentifiedImageError):
        raise
    except OSError as error:
        if _SHORT in str(error):
            raise MemoryError from None
        if "decoder error" in str(error):
            raise ValueError("its pixels are damaged") from None
        raise
    except Exception as error:  # TypeError, KeyError, struct.error, ...: whatever reading the damage stumbled over
        raise ValueError(str(error) or type(error).__name__) from None


def identified(data: bytes) -> Image.Image:
    """An image whose format and size are known; the pixels of the usual formats are not read.

    Raises:
        NotRead: it is of a kind that is not read.
        OSError, ValueError, SyntaxError, MemoryError: there is none.
    """
    if netpbm.is_related(data):
        return netpbm.opened(data)
    about = tiff.head(data) if tiff.begins_so(data) else None
    with _damage_told():
        try:
            image = Image.open(io.BytesIO(data), formats=_BY_PILLOW)
        except UnidentifiedImageError:
            if about is None:
                raise
            raise NotRead(about.words) from None
    if about is not None and isinstance(image, TiffImagePlugin.TiffImageFile):
        if image.mode not in _MODES:
            raise NotRead(about.words)
        if image.mode.startswith("I;16"):
            image.info[INVERTED] = about.photometric == 0
        image.info[BITS] = max(about.bits)
    return image


def ready(image: Image.Image) -> Image.Image:
    """An image of an older format with its pixels; those of the usual ones are read when their size is needed.

    Raises:
        OSError, ValueError, SyntaxError, MemoryError: they cannot be read.
    """
    if image.format in _USUAL:
        return image
    mind_size(*image.size)
    with _damage_told():
        runs = isinstance(image, ImageFile.ImageFile) and any(tile[0] == "bmp_rle" for tile in image.tile)
        if runs and image.width * image.height > _RUNS:
            raise ValueError(f"{image.width} x {image.height} pixels are too many for a BMP of runs")
        if image.format == "TIFF":
            _hush_libtiff()
        image.load()
        if image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            opaque = image.convert("RGB")  # its fourth byte was never meant
            opaque.format = image.format
            return opaque
    return image


@lru_cache
def _hush_libtiff() -> None:
    """Have Pillow's libtiff write nothing on standard error; what is wrong with a file is told in one line.

    Where it is linked so that it cannot be reached, as on Windows, its lines stand before ours.
    """
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            handler = getattr(library, name)
            handler.argtypes, handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            handler(None)


def frames(data: bytes) -> int:
    """How many images a file holds, of which the first is read; 1 where they cannot be counted, at most 1,000."""
    try:
        if tiff.begins_so(data):
            return tiff.head(data).pages
        with identified(data) as image, _damage_told():
            if image.format not in ("PNG", "WEBP", "GIF"):
                return 1  # the second image of an MPO is a preview or the other eye's
            return int(getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError):
        return 1


def is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether a file holds more than 8 bits a channel."""
    if image.format in ("TIFF", "PPM"):
        return int(image.info.get(BITS, 8)) > 8
    return image.mode.startswith("I") or (image.format == "PNG" and data[24:25] == b"\x10")
