"""Conditions on measured figures, as the registry of claims writes them down before anything is measured.

A condition is one or more comparisons joined by `and`: `plain-56.training_error.least > plain-20.training_error.most`.
Each side is a number, `true`, `false` or a path into the figures, or several joined by `+ - * /`, which are worked out
from left to right; words are separated by blanks. A comparison may be a chain: `0.98 <= a / b <= 1.02`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMBINED: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
Value = float | bool
Side = tuple[str, ...]


class Absent(Exception):
    """A figure that the evidence does not have."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True)
class Comparison:
    """Sides with a sign between each and the next: n + 1 sides, n signs."""

    sides: tuple[Side, ...]
    signs: tuple[str, ...]

    def holds(self, figures: Mapping[str, Any]) -> bool:
        values = [_worth(side, figures) for side in self.sides]
        return all(_COMPARED[sign](a, b) for sign, (a, b) in zip(self.signs, pairwise(values), strict=True))


@dataclass(frozen=True)
class Condition:
    """All of its comparisons must hold."""

    text: str
    comparisons: tuple[Comparison, ...]

    def holds(self, figures: Mapping[str, Any]) -> bool:
        """Whether the figures meet the condition.

        Raises:
            Absent: a figure that is named is not there, or is no finite number.
        """
        return all([comparison.holds(figures) for comparison in self.comparisons])

    def paths(self) -> list[str]:
        """The figures it speaks of, in its order, each once."""
        found = (word for c in self.comparisons for side in c.sides for word in side[::2] if _number(word) is None)
        return list(dict.fromkeys(found))

    def figures(self, figures: Mapping[str, Any]) -> dict[str, Value]:
        """The value of every figure it speaks of that is there."""
        return dict(_present(self.paths(), figures))


def parse(text: str) -> Condition:
    """The condition in a text.

    Raises:
        ValueError: it has another form; the text is quoted.
    """
    return Condition(text, tuple(_comparison(part, text) for part in text.split(" and ")))


def look_up(path: str, figures: Mapping[str, Any]) -> Value:
    """The number or truth at a path such as `plain-20.training_error.mean`.

    Raises:
        Absent: it is not there, or is no finite number.
    """
    found: Any = figures
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            raise Absent(path)
        found = found[name]
    if isinstance(found, bool):
        return found
    if isinstance(found, int | float) and math.isfinite(found):
        return found
    raise Absent(path)


def _comparison(part: str, text: str) -> Comparison:
    sides: list[list[str]] = [[]]
    signs: list[str] = []
    for word in part.split():
        if word in _COMPARED:
            signs.append(word)
            sides.append([])
        else:
            sides[-1].append(word)
    if not signs or not all(_is_side(side) for side in sides):
        raise ValueError(f"no condition: {text!r}")
    return Comparison(tuple(tuple(side) for side in sides), tuple(signs))


def _is_side(words: list[str]) -> bool:
    return len(words) % 2 == 1 and all((word in _COMBINED) == bool(place % 2) for place, word in enumerate(words))


def _worth(side: Side, figures: Mapping[str, Any]) -> Value:
    first, *rest = side
    total: Value = _value(first, figures)
    for sign, word in zip(rest[::2], rest[1::2], strict=True):
        other = _value(word, figures)
        if sign == "/" and other == 0:
            raise Absent(" ".join(side))
        total = _COMBINED[sign](total, other)
    return total


def _value(word: str, figures: Mapping[str, Any]) -> Value:
    number = _number(word)
    return look_up(word, figures) if number is None else number


def _number(word: str) -> Value | None:
    if word in ("true", "false"):
        return word == "true"
    try:
        return float(word)
    except ValueError:
        return None


def _present(paths: list[str], figures: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for path in paths:
        try:
            yield path, look_up(path, figures)
        except Absent:
            continue
