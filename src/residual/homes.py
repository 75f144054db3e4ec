"""Home folders in what is handed on: a report or an exported file goes to others, and names of users with its paths."""

from __future__ import annotations

import re
from typing import Any

_WINDOWS = r"(?i:[a-z]:[\\/]+users[\\/]+)"
_HOMES = re.compile(
    # Names of users of Windows may hold spaces: all of a text that is a path, else up to what ends the name.
    rf"\A{_WINDOWS}[^\\/'\"\r\n]+\Z"
    rf"|{_WINDOWS}[^\\/\s'\"]+(?:(?: (?!-)[^\\/\s'\":]+)+(?=[\\/'\"]))?"
    r"|(?:/home/|/Users/)[^/\\\s'\"]+"
    r"|/root(?=[/\s'\"]|$)"
)


def without_home(text: str) -> str:
    """The text with every home folder written `~`."""
    return _HOMES.sub("~", text)


def without_homes(value: Any) -> Any:
    """The same of every text in a value of JSON; names of fields stay."""
    match value:
        case str():
            return without_home(value)
        case dict():
            return {name: without_homes(inner) for name, inner in value.items()}
        case list() | tuple():
            return [without_homes(inner) for inner in value]
    return value
