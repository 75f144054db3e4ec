"""What the first directory of a TIFF says, looked at before Pillow and libtiff, which trust it.

A few bytes can name more strips, larger tiles or longer tags than any memory holds; then nothing is read. Classic TIFF
(TIFF 6.0) and BigTIFF. Only the head is read here; the pixels are Pillow's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from residual.data.limits import NotRead, mind_size

MARKS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PAGES: Final = 1000  # counted at most
_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of whole numbers without a sign
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _PLANES, _TILE_WIDTH, _TILE_HEIGHT, _TILES, _FORMAT = 273, 277, 278, 284, 322, 323, 324, 339
_NUMBERS: Final = (
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS, 279, _PLANES, _TILE_WIDTH,
    _TILE_HEIGHT, _TILES, 325, _FORMAT,
)  # fmt: skip
# Old-style JPEG (6), SGI's logs and ThunderScan are rare and their readers the weakest; LZMA may ask for gigabytes.
_COMPRESSIONS: Final = (1, 2, 3, 4, 5, 7, 8, 32771, 32773, 32946, 50000, 50001)
_WEAK: Final = {
    6: "old-style JPEG",
    32809: "ThunderScan",
    34676: "SGI log",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
}
_CIELAB: Final = 8
_TILE: Final = 4096 * 4096  # pixels of a tile that may be more than the image has
_FEW: Final = 16  # values that are read of a tag


class Head(NamedTuple):
    """The tags of the first image that matter here, with their defaults, and how many images there are."""

    width: int
    height: int
    bits: tuple[int, ...]
    samples: int
    floating: bool
    compression: int
    photometric: int
    pages: int

    @property
    def words(self) -> str:
        """What kind it is."""
        number = f"{'floating-point ' * self.floating}number{'s' * (self.samples != 1)}"
        bits = " and ".join(map(str, dict.fromkeys(self.bits)))
        found = f"a TIFF image with {self.samples} {number} of {bits} bits a pixel"
        if self.photometric == _CIELAB:
            found += " in CIELAB"
        if self.compression not in _COMPRESSIONS:
            found += f", compressed as {_WEAK.get(self.compression, self.compression)}"
        return found


class _Tag(NamedTuple):
    kind: int
    length: int
    values: tuple[int, ...]  # the first few, of whole numbers alone


def begins_so(head: bytes) -> bool:
    return head.startswith(MARKS)


def head(data: bytes) -> Head:
    """The head of a TIFF that may be opened.

    Raises:
        NotRead: it is of a kind that is not read.  ValueError: it is damaged, or asks for more than it holds.
    """
    try:
        order, big, first = _start(data)
        tags, _ = _directory(data, order, big, first)
        pages = _pages(data, order, big, first)
    except struct.error:
        raise ValueError("image file is truncated") from None
    found = _found(tags, pages)
    mind_size(found.width, found.height)
    if found.compression not in _COMPRESSIONS:
        raise NotRead(found.words)
    _mind_room(data, tags, found)
    return found


def _start(data: bytes) -> tuple[str, bool, int]:
    """The order of bytes, whether it is BigTIFF, and where the first directory lies."""
    order, big = ("<" if data[:2] == b"II" else ">"), b"+" in data[2:4]
    if not big:
        return order, big, struct.unpack_from(order + "I", data, 4)[0]
    size, _, first = struct.unpack_from(order + "HHQ", data, 4)
    if size != 8:
        raise ValueError("its head is damaged")
    return order, big, first


def _directory(data: bytes, order: str, big: bool, at: int) -> tuple[dict[int, _Tag], int]:
    """The tags of a directory, and where the next one lies, 0 for none."""
    entry, number, inside = (20, "Q", 8) if big else (12, "I", 4)
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    at += 8 if big else 2
    if at + entry * count > len(data):
        raise ValueError("image file is truncated")
    tags = {}
    for place in range(at, at + entry * count, entry):
        tag, kind, length = struct.unpack_from(f"{order}HH{number}", data, place)
        start = place + entry - inside
        if length * _SIZES.get(kind, 1) > inside:
            start = struct.unpack_from(order + number, data, start)[0]
        values: tuple[int, ...] = ()
        if kind in _WHOLE and tag in _NUMBERS:
            values = struct.unpack_from(f"{order}{min(length, _FEW)}{_WHOLE[kind]}", data, start)
        tags[tag] = _Tag(kind, length, values)
    end = at + entry * count
    return tags, struct.unpack_from(order + number, data, end)[0] if end + inside <= len(data) else 0


def _pages(data: bytes, order: str, big: bool, at: int) -> int:
    """How many directories follow on one another."""
    entry, number, before = (20, "Q", 8) if big else (12, "I", 2)
    seen: set[int] = set()
    while at and at not in seen and len(seen) < PAGES and at + before <= len(data):
        seen.add(at)
        count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
        end = at + before + entry * count
        at = struct.unpack_from(order + number, data, end)[0] if end + (8 if big else 4) <= len(data) else 0
    return len(seen)


def _found(tags: Mapping[int, _Tag], pages: int) -> Head:
    for tag in _NUMBERS:
        if tag in tags and (tags[tag].kind not in _WHOLE or not tags[tag].values):
            raise ValueError("its head is damaged")

    def value(tag: int, otherwise: int) -> int:
        return tags[tag].values[0] if tag in tags else otherwise

    if _WIDTH not in tags or _HEIGHT not in tags:
        raise ValueError("its head is damaged")
    bits = tags[_BITS].values if _BITS in tags else (1,)
    return Head(
        value(_WIDTH, 0),
        value(_HEIGHT, 0),
        bits,
        value(_SAMPLES, 1),
        value(_FORMAT, 1) == 3,
        value(_COMPRESSION, 1),
        value(_PHOTOMETRIC, 1),
        pages,
    )


def _mind_room(data: bytes, tags: Mapping[int, _Tag], found: Head) -> None:
    """Refuse what makes Pillow or libtiff allocate more than the image and its file can need."""
    if sum(tag.length * _SIZES.get(tag.kind, 1) for tag in tags.values()) > len(data):
        raise ValueError("its tags are longer than the file")
    width, height, planes = found.width, found.height, max(1, found.samples)
    if _TILES in tags:
        sides = [tags[tag].values[0] if tag in tags else 0 for tag in (_TILE_WIDTH, _TILE_HEIGHT)]
        if min(sides) < 1:
            raise ValueError("its head is damaged")
        if sides[0] * sides[1] > max(width * height, _TILE):
            raise ValueError(f"its tiles have {sides[0]} x {sides[1]} pixels")
        parts = -(-width // sides[0]) * -(-height // sides[1])
    else:
        parts = -(-height // max(1, min(height, tags[_ROWS].values[0] if _ROWS in tags else height)))
    for tag in (_STRIPS, _TILES):
        if tag in tags and tags[tag].length > parts * planes:
            raise ValueError("it names more parts than it has")
