"""Binary PBM, PGM and PPM (P4, P5, P6), read here: Pillow reads most of them number by number in Python.

Source: the Netpbm formats, https://netpbm.sourceforge.net/doc/ppm.html. Numbers of 16 bits have the larger byte first.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from residual.data.limits import BITS, NotRead, mind_size

_HEAD: Final = 1 << 16  # bytes of white space, comments and numbers before the pixels
_CHANNELS: Final = {b"P4": 1, b"P5": 1, b"P6": 3}
_TEXT: Final = (b"P1", b"P2", b"P3")
_OTHERS: Final = {b"Pf": "floating-point numbers", b"PF": "floating-point numbers", b"P7": "any number of channels"}


def begins_so(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a binary PBM, PGM or PPM."""
    return head[:2] in _CHANNELS and head[2:3].isspace() and (head[3:4].isdigit() or head[3:4] in (b"#", b" ", b"\n"))


def is_related(data: bytes) -> bool:
    """Whether a file is of the family, whichever member."""
    return data[:2] in (*_CHANNELS, *_TEXT, *_OTHERS) and data[2:3].isspace()


def opened(data: bytes) -> Image.Image:
    """The image, of 8 bits a channel: of numbers up to 2^n - 1 the upper 8 bits, of others their share of the largest.

    Raises:
        NotRead: a member of the family that is written as text, or holds something else.
        ValueError: it is cut or damaged.
    """
    kind = data[:2]
    if kind in _TEXT:
        raise NotRead("a PPM image whose numbers are written as text")
    if kind in _OTHERS:
        raise NotRead(f"a Netpbm image of {_OTHERS[kind]}")
    numbers, start = _numbers(data, 2 if kind == b"P4" else 3)
    width, height, *rest = numbers
    mind_size(width, height)
    most = rest[0] if rest else 1
    if not 0 < most < 1 << 16:
        raise ValueError(f"its largest number is {most}")
    channels, wide = _CHANNELS[kind], most > 255
    row = -(-width // 8) if kind == b"P4" else width * channels * (2 if wide else 1)
    if len(data) - start < row * height:
        raise ValueError("image file is truncated")
    found = np.frombuffer(data, ">u2" if wide else np.uint8, row * height // (2 if wide else 1), start)
    if kind == b"P4":  # ink is 1
        pixels = 255 * (1 - np.unpackbits(found.reshape(height, row), axis=1)[:, :width])
    else:
        pixels = _eight_bits(found, most).reshape(height, width, *([channels] if channels > 1 else []))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.format = "PPM"
    image.info[BITS] = most.bit_length()
    return image


def _eight_bits(found: NDArray[Any], most: int) -> NDArray[Any]:
    if most == 255:
        return found
    capped: NDArray[Any] = np.minimum(found, most).astype(np.uint32)
    if most > 255 and most & (most + 1) == 0:
        capped = capped >> (most.bit_length() - 8)
    else:
        capped = (255 * capped + most // 2) // most
    return capped.astype(np.uint8)


def _numbers(data: bytes, count: int) -> tuple[list[int], int]:
    """The numbers of the head, and where the pixels begin: behind one white space after the last."""
    found: list[int] = []
    at, end = 2, min(len(data), _HEAD)
    while len(found) < count:
        while at < end and (data[at : at + 1].isspace() or data[at : at + 1] == b"#"):
            if data[at : at + 1] == b"#":
                breaks = [place for place in (data.find(b"\n", at, end), data.find(b"\r", at, end)) if place >= 0]
                at = min(breaks, default=end)
            at += 1
        begin = at
        while at < end and data[at : at + 1].isdigit() and at - begin < 10:
            at += 1
        if at == begin or at >= end:
            raise ValueError("image file is truncated" if at >= end else "its head is damaged")
        found.append(int(data[begin:at]))
    if not data[at : at + 1].isspace():
        raise ValueError("its head is damaged")
    return found, at + 1
