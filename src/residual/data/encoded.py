"""An encoded image file through Pillow: the allow-list, limits and rules that everyone who opens one obeys.

The formats of `formats` are opened, by content and never by name; everything else Pillow could open is refused before
decoding. EXIF orientation is applied; transparency is laid on black; palettes, CMYK and 16-bit greys become 8-bit
RGB or grey; of an animation the first frame is taken. Needs no torch, so a process that only decodes starts quickly.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from residual.data.formats import INVERTED, KINDS, identified, ready
from residual.data.limits import BITS, PIXEL_LIMIT, NotRead
from residual.data.quick_jpeg import quick_decoder
from residual.errors import DataError, OutOfMemory
from residual.files import Damaged, read_regular

FILE_LIMIT = 1 << 28
OTHER = f"not a {KINDS} image"
UNREADABLE = "not a readable image: "
UNSUPPORTED = ": such images are not read"
_PILLOW = r"PIL\."
_SHORT = "out of memory"  # so Pillow's decoders tell of it, in an OSError
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
_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height


class NoRoom(OutOfMemory, MemoryError):
    """Memory was short while an image was decoded, which says nothing of the image."""


def no_room(where: object) -> NoRoom:
    """The error for an image that memory is too short for now."""
    remedy = "close other programs, or decode fewer at a time (data.threads); make it smaller if it alone fails"
    return NoRoom("out of memory while an image was decoded", where, remedy)


class Look(NamedTuple):
    """What an image file is, without its pixels: width and height as stored, and whether it is stored as grey."""

    width: int
    height: int
    grey: bool


class Picture(Protocol):
    """An image whose pixels can be had in its own size or, where that is quicker, in a smaller one."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), upright."""
        ...

    def array(self, channels: int, least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """uint8 HWC of the whole, upright, of its own size or of at least `least` (width, height)."""
        ...


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of at most 256 MiB.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return read_regular(path, FILE_LIMIT)
    except Damaged as error:
        raise DataError(error.what, path, f"name a {KINDS} file") from None
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", path, "check the file and its permissions") from None


def read_part(path: Path, offset: int, size: int | None) -> bytes:
    """So many bytes of an archive from an offset on; with no size, a regular file whole.

    Raises:
        DataError: as `read_file`, or more than 256 MiB.
        OSError: the archive cannot be read.
    """
    if size is None:
        return read_file(path)
    if size > FILE_LIMIT:
        raise DataError(f"{size:,} bytes where at most {FILE_LIMIT:,} are expected", path)
    with open(path, "rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def _hush() -> None:
    """Have no warning of Pillow's own told: of odd EXIF, which is ignored, and of sizes, which have a limit here.

    Python's filters belong to the whole process and `catch_warnings` puts back those it found, which another thread may
    have set for a while. So one rule, of Pillow's modules alone, is put before the others and stays there.
    """
    filters = warnings.filters
    if not filters or getattr(filters[0][3], "pattern", None) != _PILLOW:
        warnings.filterwarnings("ignore", module=_PILLOW)


@contextmanager
def opened(data: bytes, where: object) -> Iterator[Image.Image]:
    """An image of one of the allowed formats and sizes; whatever decoding raises becomes a `DataError`.

    Raises:
        NoRoom: there is too little memory now, whatever the image is.
    """
    _hush()
    try:
        with identified(data) as image:
            if image.width * image.height > PIXEL_LIMIT:
                raise DataError(f"{image.width} x {image.height} pixels are too many", where, "make it smaller")
            yield ready(image)
    except UnidentifiedImageError:
        raise DataError(OTHER, where, "replace or remove it") from None
    except NotRead as error:
        raise DataError(f"{error}{UNSUPPORTED}", where, "convert it to PNG") from None
    except MemoryError:
        raise no_room(where) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if _SHORT in str(error):
            raise no_room(where) from None
        raise DataError(f"{UNREADABLE}{error}", where, "replace or remove it") from None


def inspect(data: bytes, where: object) -> Look:
    """What an encoded image is; its pixels are decoded, a JPEG's at an eighth, so that damage is found.

    Raises:
        DataError, NoRoom: as `opened`.
    """
    with opened(data, where) as image:
        found = Look(image.width, image.height, is_grey(image))
        image.draft(None, (1, 1))
        image.load()
        return found


def is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def orientation(image: Image.Image) -> int:
    """EXIF orientation 1-8; EXIF that cannot be read counts as none, since the pixels themselves are sound."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except (SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, OSError, struct.error):
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def may_be_clear(image: Image.Image) -> bool:
    """Whether the format of an image says of its pixels how transparent they are."""
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def is_clear(image: Image.Image) -> bool:
    """Whether some pixel of a decoded image is transparent; many programs write the channel where none is."""
    if not may_be_clear(image):
        return False
    if image.mode.startswith("I"):
        return bool((np.asarray(image) == image.info["transparency"]).any())
    return image.convert("RGBA").getchannel("A").point(lambda a: a < 255).getbbox() is not None


def to_array(image: Image.Image, channels: int) -> NDArray[np.uint8]:
    """uint8 HWC of a decoded image, C = 1 (grey) or 3 (RGB)."""
    if image.mode.startswith("I"):
        ours = image.info if image.format == "TIFF" else {}  # those of a PNG are texts that anyone may write into it
        deep, bits = np.asarray(image), ours.get(BITS, 16)
        upper = (deep >> (bits - 8)).clip(0, 255).astype(np.uint8)
        if ours.get(INVERTED):
            upper = 255 - upper
        # Of a colour that counts as transparent all 16 bits count, and Pillow would cut them to 8.
        image = Image.fromarray(np.where(deep == image.info.get("transparency", -1), np.uint8(0), upper))
    elif may_be_clear(image):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    wanted = "L" if channels == 1 else "RGB"
    return np.atleast_3d(np.asarray(image if image.mode == wanted else image.convert(wanted)))


class Encoded:
    """An opened image whose pixels are decoded when the size that is needed of it is known."""

    def __init__(self, image: Image.Image) -> None:
        self.image = image
        if image.format != "JPEG" and image.format != "MPO":
            image.load()  # a PNG may tell its orientation after its pixels
        self.turn = orientation(image)
        self.sideways = self.turn in _SIDEWAYS

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), upright."""
        width, height = self.image.size
        return (height, width) if self.sideways else (width, height)

    def array(self, channels: int, least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """uint8 HWC, upright.

        Args:
            least: the (width, height) that are needed of the whole; a JPEG of at least twice that size is decoded
                at a half, a quarter or an eighth of its own, never below.
        """
        if least is not None:
            self.image.draft(None, least[::-1] if self.sideways else least)  # other formats take no notice
        if (pixels := self._quick(channels)) is not None:
            return pixels
        self.image.load()
        return to_array(upright(self.image), channels)

    def _quick(self, channels: int) -> NDArray[np.uint8] | None:
        """The same by another decoder, where there is one for such an image; it has the size that was settled."""
        image, stream = self.image, getattr(self.image, "fp", None)
        plain = image.format == "JPEG" and image.mode == "RGB" and channels == 3 and self.turn == 1
        decode = quick_decoder() if plain and isinstance(stream, io.BytesIO) else None
        return None if decode is None else decode(stream.getvalue(), image.size)  # type: ignore[union-attr]
