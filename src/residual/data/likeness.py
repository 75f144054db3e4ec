"""Near duplicates: images whose difference hashes agree in nearly all of 128 bits.

The hashes are our own (`examiner`), 64 bits across and 64 down from a grey image of 9 x 8 cells: the usual library for
them brings scipy and wavelets along, for what numpy does in ten lines. Two images that differ in at most seven bits
agree in at least one of eight parts of 16 bits, so only those that share a part are compared. A part has a cell of
every row and every column: photographs on a plain background are all alike along their borders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

NEAR = 7
"""Bits of 128 in which near duplicates differ at most."""
MOST_PAIRS = 1_000_000
"""Pairs at which the search ends: so many are no accident any more."""
_BLOCK = 1024
_HALF, _ROW, _COLUMN = np.indices((2, 8, 8))
_ORDER = np.argsort(((_COLUMN + 3 * _ROW + 4 * _HALF) % 8).ravel(), kind="stable")
"""The bits part by part; the middle 4 x 4 cells of both hashes are shared alike by the parts, four bits each."""


def near_pairs(hashes: Sequence[str], most: int = NEAR) -> list[tuple[int, int]]:
    """Pairs (smaller number first, sorted) of 32-digit hexadecimal hashes that differ in at most `most` bits (<= 7)."""
    if len(hashes) < 2:
        return []
    words = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(-1, 2)
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    parts = np.packbits(np.take(bits, _ORDER, axis=1), axis=1).view(np.uint16)
    found: set[tuple[int, int]] = set()
    for part in range(parts.shape[1]):
        column = parts[:, part]
        order = np.argsort(column, kind="stable")
        edges = np.flatnonzero(np.diff(column[order])) + 1
        for members in np.split(order, edges):
            found.update(_within(words, members, most))
            if len(found) > MOST_PAIRS:
                return sorted(found)
    return sorted(found)


def _within(words: NDArray[np.uint64], members: NDArray[np.intp], most: int) -> Iterator[tuple[int, int]]:
    """Pairs among some images, compared block by block so that memory stays small."""
    for start in range(0, len(members) - 1, _BLOCK):
        rows = members[start : start + _BLOCK]
        for other in range(start, len(members), _BLOCK):
            columns = members[other : other + _BLOCK]
            unlike = np.bitwise_count(words[rows][:, None] ^ words[columns][None]).sum(2)
            for row, column in zip(*np.nonzero(unlike <= most), strict=True):
                first, second = int(rows[row]), int(columns[column])
                if first < second:
                    yield first, second


def groups(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The numbers that hang together by pairs, each group sorted, by its first number."""
    leader: dict[int, int] = {}

    def first(number: int) -> int:
        while leader.setdefault(number, number) != number:
            leader[number] = number = leader[leader[number]]
        return number

    for one, other in pairs:
        a, b = sorted((first(one), first(other)))
        leader[b] = a
    found: dict[int, list[int]] = {}
    for number in sorted(leader):
        found.setdefault(first(number), []).append(number)
    return list(found.values())
