"""Near duplicates: images whose difference hashes agree in nearly all of 128 bits.

The hashes are our own (`examiner`), 64 bits across and 64 down from a grey image of 9 x 8 cells: the usual library for
them brings scipy and wavelets along, for what numpy does in ten lines. Two images that differ in at most seven bits
agree in at least one of eight parts of 16 bits, so only those that share a part are compared. A part has a cell of
every row and every column: photographs on a plain background are all alike along their borders.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

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


def near_groups(hashes: Sequence[bytes]) -> tuple[list[list[int]], bool]:
    """The images that hang together by being near, as `groups`, and whether the search came to its end."""
    pairs = near_pairs(hashes)
    found = groups(islice(pairs, len(hashes) + MOST_PAIRS))  # alone of equal hashes there may be so many more
    return found, next(pairs, None) is None


def near_pairs(hashes: Sequence[bytes], most: int = NEAR) -> Iterator[tuple[int, int]]:
    """Pairs (smaller number first) of hashes of 16 bytes that differ in at most `most` bits (<= 7), each once.

    Of equal hashes every later one is in one pair, that with the first of them: frames of a film would make millions.
    """
    if len(hashes) < 2:
        return
    words = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, 2)
    _, first, kind = np.unique(words, axis=0, return_index=True, return_inverse=True)
    leader = first[kind.reshape(-1)]
    later = np.flatnonzero(leader != np.arange(len(words)))
    yield from zip(leader[later].tolist(), later.tolist(), strict=True)
    once = np.sort(first)
    words = words[once]
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    parts = np.packbits(np.take(bits, _ORDER, axis=1), axis=1).view(np.uint16)
    for part in range(parts.shape[1]):
        column = parts[:, part]
        order = np.argsort(column, kind="stable")
        edges = np.flatnonzero(np.diff(column[order])) + 1
        for members in np.split(order, edges):
            for one, other in _within(words, members, most) if len(members) > 1 else ():
                fresh = (parts[one, :part] != parts[other, :part]).all(1)  # else an earlier part has shown them
                yield from zip(once[one[fresh]].tolist(), once[other[fresh]].tolist(), strict=True)


def _within(
    words: NDArray[np.uint64], members: NDArray[np.intp], most: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs among some images, compared block by block so that memory stays small."""
    for start in range(0, len(members) - 1, _BLOCK):
        rows = members[start : start + _BLOCK]
        for other in range(start, len(members), _BLOCK):
            columns = members[other : other + _BLOCK]
            unlike = np.bitwise_count(words[rows][:, None] ^ words[columns][None]).sum(2)
            row, column = np.nonzero(unlike <= most)
            ordered = rows[row] < columns[column]
            yield rows[row[ordered]], columns[column[ordered]]


def groups(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
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
