"""`residual train --processes 4`: this process becomes torch's launcher, which begins so many that train together."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from residual.errors import EnvironmentFault, UsageError
from residual.launch import launched

_OPTION = "--processes"
_program = False


def entered() -> None:
    """Note that this process is the command, and of nobody else."""
    global _program  # noqa: PLW0603  # of the process
    _program = True


def become_launcher(count: int, found_again: bool) -> NoReturn:
    """Go on as `torchrun --standalone --nproc-per-node count -m residual train ...`, with the same words.

    Args:
        found_again: whether the run has a place that each process knows.

    Raises:
        UsageError: the processes cannot be begun from here, or would not know their run.
        EnvironmentFault: this is Windows.
    """
    if count < 1:
        raise UsageError(f"{count} processes cannot train", _OPTION, "give 1 or more, such as one for each GPU")
    if launched() is not None:
        raise UsageError("these processes were begun by a launcher already", _OPTION, "leave it out")
    if sys.platform == "win32":
        what = "several processes need Linux or macOS: torchrun does not start on Windows"
        raise EnvironmentFault(what, _OPTION, "leave it out, or use WSL 2")
    if not _program:
        raise UsageError("a program does not begin processes in place of itself", _OPTION, "give it in a terminal")
    if not found_again:
        what = "several processes must find the same run"
        raise UsageError(what, _OPTION, "name it, as in --out runs/NAME; the same command goes on with it")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "residual"]
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *launcher, *_words(sys.argv[1:])])


def _words(given: Sequence[str]) -> list[str]:
    """The command line without our option; --log is one of the launcher's own."""
    found: list[str] = []
    skip = False
    for word in given:
        if skip or word.startswith(f"{_OPTION}="):
            skip = False
        elif word == _OPTION:
            skip = True
        else:
            found.append("--progress" + word.removeprefix("--log") if word.split("=")[0] == "--log" else word)
    return found
