"""Words on their way to a terminal or from a command line. Imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter


def printable(text: str) -> str:
    """The text with every character that could steer a terminal written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def beside(place: Path, name: str) -> Path:
    """Where a file is written to: not among the images of a place, and no folder.

    Raises:
        UsageError: it would be.
    """
    from residual.errors import UsageError

    target = Path(os.path.expanduser(name))
    if target.is_dir():
        raise UsageError("a folder stands there", name, "name a file")
    if place.is_dir() and Path(os.path.realpath(target)).is_relative_to(os.path.realpath(place)):
        raise UsageError("the file would lie among the images", name, "name a file elsewhere")
    if target.exists() and os.path.realpath(target) == os.path.realpath(place):
        raise UsageError("that is the place of the images itself", name, "name another file")
    return target


def _whole(kind: Any, tokens: Sequence[Any]) -> int:
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value[:80]!r} is not a whole number") from None


Whole = Annotated[int, Parameter(converter=_whole)]
"""A whole number: 1.5 is refused, never rounded."""


def _number(kind: Any, tokens: Sequence[Any]) -> float:
    try:
        return float(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value[:80]!r} is not a number") from None


Number = Annotated[float, Parameter(converter=_number)]


def _whole_or_auto(kind: Any, tokens: Sequence[Any]) -> int | Literal["auto"]:
    return "auto" if tokens[0].value == "auto" else _whole(kind, tokens)


Auto = Annotated[int | Literal["auto"], Parameter(converter=_whole_or_auto)]
"""A whole number, or auto."""


Log = Annotated[Literal["auto", "bar", "plain", "json"], Parameter(name=("--log", "--progress"))]
"""How a training tells of itself. torchrun takes --log for one of its own options, hence the second name."""
