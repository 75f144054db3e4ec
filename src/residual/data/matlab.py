"""The few kinds of a MATLAB level 5 file (as version 7 writes it) that ImageNet's `meta.mat` is made of.

Numbers, text, cells and tables of records ("struct arrays"), little-endian, compressed or not, are read as plain
values; anything else is refused. Source: MathWorks, MAT-File Format, chapter 1.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from residual.errors import DataError

_LIMIT = 1 << 26  # bytes after decompression
_HEAD = 128
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
_DEEPEST = 8


class _Odd(Exception):
    """What is not read, in words."""


def read_matlab(data: bytes, where: object) -> dict[str, Any]:
    """The variables of a file by name: text as str, one number as itself, several as a list, records as dicts.

    Raises:
        DataError: the file is damaged or holds what is not read here.
    """
    try:
        if len(data) < _HEAD or data[126:128] != b"IM":
            raise _Odd("not a little-endian MATLAB file of level 5")
        found, place = {}, _HEAD
        while place + 8 <= len(data):
            kind, size = struct.unpack_from("<II", data, place)
            body = data[place + 8 : place + 8 + size]
            if len(body) != size:
                raise _Odd("it is cut")
            place += 8 + size
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                body = unpacker.decompress(body, _LIMIT)
                if unpacker.unconsumed_tail:
                    raise _Odd(f"it is larger than {_LIMIT:,} bytes")
                kind, size = struct.unpack_from("<II", body)
                body = body[8 : 8 + size]
            if kind != _MATRIX:
                raise _Odd(f"an element of kind {kind}")
            name, value = _matrix(body, 0)
            found[name] = value
        return found
    except (_Odd, struct.error, zlib.error, ValueError, IndexError, KeyError) as error:
        raise DataError(f"not read: {error}", where, "take the file again from its official source") from None


def _element(data: bytes, place: int) -> tuple[int, bytes, int]:
    """Kind, bytes and the place after an element; a small one has its bytes in its head."""
    kind, size = struct.unpack_from("<II", data, place)
    if kind >> 16:
        return kind & 0xFFFF, data[place + 4 : place + 4 + (kind >> 16)], place + 8
    body = data[place + 8 : place + 8 + size]
    if len(body) != size:
        raise _Odd("an element is cut")
    return kind, body, place + 8 + (size + 7) // 8 * 8


def _matrix(data: bytes, depth: int) -> tuple[str, Any]:
    if not data:
        return "", []
    if depth > _DEEPEST:
        raise _Odd("its values are nested too deeply")
    _, flags, place = _element(data, 0)
    _, shape, place = _element(data, place)
    _, name, place = _element(data, place)
    kind = flags[0]
    count = 1
    for length in struct.unpack(f"<{len(shape) // 4}i", shape):
        count *= length
    if not 0 <= count <= len(data):
        raise _Odd(f"{count:,} values in {len(data):,} bytes")
    if kind == _STRUCT:
        return name.decode("latin-1"), _records(data, place, count, depth)
    if kind == _CELL:
        values = []
        for _ in range(count):
            _, body, place = _element(data, place)
            values.append(_matrix(body, depth + 1)[1])
        return name.decode("latin-1"), values
    form, body, _ = _element(data, place)
    if kind == _CHAR:
        return name.decode("latin-1"), body.decode(_TEXT[form])
    numbers = [n for (n,) in struct.iter_unpack("<" + _NUMBERS[form], body)]
    return name.decode("latin-1"), numbers[0] if len(numbers) == 1 else numbers


def _records(data: bytes, place: int, count: int, depth: int) -> list[dict[str, Any]]:
    _, length, place = _element(data, place)
    width = struct.unpack("<i", length)[0]
    _, names, place = _element(data, place)
    fields = [names[n : n + width].split(b"\0")[0].decode("latin-1") for n in range(0, len(names), width)]
    found = []
    for _ in range(count):
        record = {}
        for field in fields:
            _, body, place = _element(data, place)
            record[field] = _matrix(body, depth + 1)[1]
        found.append(record)
    return found
