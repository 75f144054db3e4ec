"""Some of many rows, in an order: conditions such as `recipe=cifar10-*` or `test_top1>=0.9`.

A field is a column of a row, or a path in the recipe such as `optimiser.weight_decay`. Rows of damaged runs
have no fields; they are kept, since no condition can be put to them, and come last where there is an order.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from residual.errors import UsageError, nearest
from residual.files import Facts

_FORM = re.compile(r"([A-Za-z0-9_.]+)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """One field compared with a number, or with a word in which * and ? stand for any letters."""

    field: str
    sign: str
    text: str

    def holds(self, value: object) -> bool:
        """Whether a value of the field is meant; nothing (null) is equal to `none` and in no order."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and self.sign in _ORDERS and _number(self.text) is None:
            raise UsageError(f"{self.text[:80]!r} is not a number", f"--where {self.field}", "compare with a number")
        if self.sign in _ORDERS:
            wanted = _number(self.text) if number else self.text
            return isinstance(value, int | float | str) and _ORDERS[self.sign](value if number else str(value), wanted)
        wanted = _number(self.text)
        equal = value == wanted if number and wanted is not None else fnmatchcase(_word(value), self.text)
        return equal == (self.sign == "=")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _word(value: object) -> str:
    """true, false and none as TOML and the command line spell them."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def parse_condition(text: str) -> Condition:
    """A condition from `FIELD=VALUE`, also with !=, <, <=, > and >=.

    Raises:
        UsageError: it has another form.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(f"no condition: {text[:80]!r}", "--where", "write it as recipe=digits or 'seed>=1'")
    return Condition(*found.groups())


def select(
    rows: Sequence[Facts],
    where: Sequence[Condition],
    sort: str | None = None,
    last: int | None = None,
    top: int | None = None,
) -> list[Facts]:
    """The rows that meet every condition, the `last` newest of them, sorted: largest numbers first, words by letter.

    Of the sorted ones, the first `top`.

    Args:
        rows: oldest first.
        sort: a field; rows without a value of it come after the others.

    Raises:
        UsageError: a field that no row has.
    """
    sound = [row for row in rows if "damaged" not in row]
    for field in [condition.field for condition in where] + ([sort] if sort else []):
        if sound and not any(field in row for row in sound):
            known = list(dict.fromkeys(name for row in sound for name in row))
            raise UsageError(f"no run has {field[:80]!r}", "--where, --sort", nearest(field, known))
    kept = [row for row in rows if "damaged" in row or all(c.field in row and c.holds(row[c.field]) for c in where)]
    kept = kept[-last:] if last else kept
    if sort is not None:
        kept = sorted(kept, key=lambda row: _place(row.get(sort)))
    return kept[:top]


def _place(value: object) -> tuple[int, float, str]:
    if value is None:
        return (2, 0.0, "")
    if isinstance(value, int | float):
        return (0, -float(value), "")
    return (1, 0.0, str(value))
