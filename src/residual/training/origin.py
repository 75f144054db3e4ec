"""When a run was begun, and what was typed or called to begin it."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from residual.training.recipe import Override


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def utf8(text: str) -> str:
    """The text with bytes that are not UTF-8, which a command line may hold, written out."""
    return text.encode(errors="backslashreplace").decode()


def command_of(command: str | None, call: str, changes: Iterable[Override], out: Path | None) -> str:
    """What repeats a run: the command that is known, else the program; of a notebook, which is none, the call.

    Args:
        call: how the call begins, as `train('digits'`.
    """
    if command is None and (hasattr(sys, "ps1") or "ipykernel" in " ".join(sys.orig_argv)):
        where = "" if out is None else f", out={str(out)!r}"
        command = f"residual.{call}, set={dict(changes)!r}{where})"
    return utf8(command or shlex.join(sys.orig_argv))
