"""Places where a new run folder may be made."""

from __future__ import annotations

import os
from pathlib import Path

from residual.errors import UsageError, argument

RUN_FILE = "run.json"
"""The file that makes a folder a run."""


def refuse_occupied(path: Path) -> None:
    """Refuse a place for a new run where something stands, or an empty folder that none can take the place of.

    Raises:
        UsageError: says what stands there; nothing is ever overwritten.
    """
    if not os.path.lexists(path):
        return
    if (path / RUN_FILE).is_file():
        raise UsageError("a run stands there already", path, "continue it with --resume, or name another --out")
    if not path.is_dir() or any(path.iterdir()):
        raise UsageError("the output folder is not empty or not a folder", path, "name another --out")
    if os.path.samefile(path, os.curdir):
        raise UsageError("a run needs a folder of its own, not the working folder", path, "name another --out")
    if os.path.ismount(path):
        what = "a run takes its place by one renaming, and this folder is the root of a file system"
        raise UsageError(what, path, f"name a folder in it, as in --out {argument(path / 'run')}")
