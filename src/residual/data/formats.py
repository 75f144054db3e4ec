"""The formats of image files that are read, and what Pillow is let do with the older ones of them.

JPEG, PNG and WebP hold most photographs. BMP, GIF, TIFF and binary PNM hold older collections, scans and what
microscopes and traffic cameras write. Their pixels are read at once when they are opened, since Pillow raises all kinds
of errors of a damaged one, and what would take much memory or time for a small file is refused before.
"""

from __future__ import annotations

import ctypes
import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Final

from PIL import Image, ImageFile, TiffImagePlugin, _imaging

_OF_FORMAT: Final = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe", ".mpo"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
FORMATS: Final = tuple(_OF_FORMAT)
SUFFIXES: Final = tuple(suffix for suffixes in _OF_FORMAT.values() for suffix in suffixes)
KINDS: Final = "PNG, JPEG, WebP, GIF, BMP, TIFF or PPM"
PIXEL_LIMIT: Final = 100_000_000
_USUAL: Final = ("PNG", "JPEG", "MPO", "WEBP")
_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B", "I;16L", "I;16N")
# TIFF 6.0 and its supplements. Old-style JPEG, SGI logs and ThunderScan are rare and their readers the weakest;
# LZMA may ask for gigabytes whatever the size of the image.
_COMPRESSIONS: Final = (
    "raw", "tiff_ccitt", "group3", "group4", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "tiff_raw_16", "packbits",
    "tiff_deflate", "zstd", "webp",
)  # fmt: skip
_TILE: Final = 4096 * 4096  # pixels of a TIFF's tile that may be more than its image has
_MARKS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it has to say of a file is told in our own words


def begins_so(head: bytes) -> bool:
    """Whether the first twelve bytes of a file are those of a format that is read."""
    if head.startswith(_MARKS) or (head[:4], head[8:12]) == (b"RIFF", b"WEBP"):
        return True
    if head[:2] == b"BM":
        return len(head) == 12 and head[6:10] == bytes(4)  # two reserved fields
    return head[:2] in (b"P4", b"P5", b"P6") and head[2:3].isspace()


def is_named_so(name: str, form: str) -> bool:
    """Whether a file name ends as those of a format do."""
    return name.lower().endswith(_OF_FORMAT.get("JPEG" if form == "MPO" else form, ()))


@contextmanager
def _damage_told() -> Iterator[None]:
    """Whatever Pillow raises of a damaged file as an `OSError` or a `ValueError`."""
    try:
        yield
    except (MemoryError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise
    except Exception as error:  # TypeError, KeyError, struct.error, ...: whatever reading the damage stumbled over
        raise ValueError(str(error) or type(error).__name__) from None


def identified(data: bytes) -> Image.Image:
    """An image whose format and size are known, its pixels not read.

    Raises:
        OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError, MemoryError: there is none.
    """
    with _damage_told():
        return Image.open(io.BytesIO(data), formats=FORMATS)


def ready(image: Image.Image) -> None:
    """Read the pixels of the first image of an older format; the usual ones are read when their size is needed.

    Raises:
        OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError, MemoryError: they cannot be read.
    """
    if image.format in _USUAL:
        return
    with _damage_told():
        if min(image.size) < 1:
            raise ValueError("it has no pixels")
        if isinstance(image, ImageFile.ImageFile) and any(tile[0] == "ppm_plain" for tile in image.tile):
            raise ValueError("its numbers are written as text")
        if image.mode not in _MODES and (image.format, image.mode) != ("PPM", "I"):
            raise ValueError("its numbers are no colours of 8 or 16 bits")
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _mind_tiff(image)
            _hush_libtiff()
        image.load()


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


def _mind_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    compression = image.info.get("compression")
    if compression not in _COMPRESSIONS:
        raise ValueError(f"its compression ({compression}) is not read here")
    width, height = (image.tag_v2.get(tag, 1) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    if width * height > max(image.width * image.height, _TILE):
        raise ValueError(f"its tiles have {width} x {height} pixels")


def frames(image: Image.Image) -> int:
    """How many images a file holds, of which the first is read; 1 where the rest cannot be counted."""
    if image.format not in ("PNG", "WEBP", "GIF", "TIFF"):
        return 1  # the second image of an MPO is a preview or the other eye's
    try:
        with _damage_told():
            return int(getattr(image, "n_frames", 1))
    except (OSError, ValueError, SyntaxError):
        return 1


def is_deep(image: Image.Image, data: bytes) -> bool:
    """Whether a file holds 16 bits a channel."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 16 in image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
    return image.mode.startswith("I") or (image.format == "PNG" and data[24:25] == b"\x10")
