"""When a run was begun, and what was typed or called to begin it."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Iterable

from residual.training.recipe import Override, Recipe
from residual.training.values import plain


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def utf8(text: str) -> str:
    """The text with bytes that are not UTF-8, which a command line may hold, written out."""
    return text.encode(errors="backslashreplace").decode()


def called(what: str, of: object, changes: Iterable[Override], **options: object) -> str:
    """A call as it may be made again: without what has its default; a recipe that is a value by its name alone."""
    words = [] if of is None else [repr(of.name if isinstance(of, Recipe) else plain(of))]
    if table := dict(changes):
        words.append(f"set={table!r}")
    words += [f"{name}={plain(value)!r}" for name, value in options.items() if value is not None]
    return f"residual.{what}({', '.join(words)})"


def command_of(command: str | None, call: str) -> str:
    """What repeats a run: the command that is known, else the program; of a notebook, which is none, the call."""
    in_notebook = hasattr(sys, "ps1") or "ipykernel" in " ".join(sys.orig_argv)
    return utf8(command or (call if in_notebook else shlex.join(sys.orig_argv)))
