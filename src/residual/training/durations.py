"""Stretches of time as people write them, 90s, 15m, 1h30m, and as seconds."""

from __future__ import annotations

import re

from residual.errors import UsageError

_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_FORM = re.compile("".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in _UNITS))
_LONGEST = 365 * 86_400.0


def seconds_of(text: str, where: str) -> float:
    """The seconds of 90s, 15m, 2h, 1h30m or 1d.

    Raises:
        UsageError: it is no such text, or not between a second and a year.
    """
    text = str(text)  # of a program that gives a number
    found = _FORM.fullmatch(text.strip().lower())
    seconds = 0.0
    if found is not None:
        seconds = sum(float(part) * size for part, size in zip(found.groups("0"), _UNITS.values(), strict=True))
    if not 1 <= seconds <= _LONGEST:
        raise UsageError(f"{text[:40]!r} is no time between a second and a year", where, "write 90s, 15m, 2h or 1h30m")
    return seconds


def in_words(seconds: float) -> str:
    """1h30m, 15m, 1m30s, 40s: whole seconds in units a reader compares, the smallest left out where it is nothing."""
    rest = round(seconds)
    parts = []
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, int(size))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
