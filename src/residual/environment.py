"""What this program runs on: versions, their minima, and the machine. Imports nothing heavy."""

from __future__ import annotations

import mmap
import os
import platform
import sys
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

from residual.errors import EnvironmentFault
from residual.version import VERSION

MINIMA = {"torch": "2.11", "pillow": "12", "numpy": "2.2", "pydantic": "2.12", "safetensors": "0.6"}
PYTHON = (3, 11)
ROOM = 600 << 20
"""Bytes of address space that the libraries add to those of Python; of the CPU build of torch 2.13."""


def _parts(version: str) -> tuple[int, ...]:
    """(2, 13, 0) of "2.13.0+cpu"; what is not a number ends it."""
    found = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        found.append(int(digits))
    return tuple(found)


@cache
def _version(read: Callable[[str], str], name: str) -> str:
    """Read once in a process: every checkpoint holds the versions, and a library's description is a long text."""
    return read(name)


def check_versions() -> None:
    """Refuse a Python or a library below the minimum, and a limit of memory under which none can be loaded.

    Raises:
        EnvironmentFault: names the version found and the one needed.
    """
    _check_room()
    if sys.version_info < PYTHON:
        found = platform.python_version()
        raise EnvironmentFault(f"Python {found} is too old", sys.executable, "install Python 3.11 or newer")
    for name, least in MINIMA.items():
        try:
            found = _version(metadata.version, name)
        except metadata.PackageNotFoundError:
            raise EnvironmentFault(
                f"{name} is not installed", sys.executable, f"pip install '{name}>={least}'"
            ) from None
        if _parts(found) < _parts(least):
            raise EnvironmentFault(f"{name} {found} is too old", sys.executable, f"pip install '{name}>={least}'")


def _check_room() -> None:
    """Find out before the libraries do: under a limit some of them end the process without a word of ours."""
    if sys.platform == "win32" or "torch" in sys.modules:
        return
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return
    try:
        mmap.mmap(-1, ROOM).close()  # address space alone: no page of it is touched
    except OSError:
        what = f"out of memory: torch needs about {ROOM >> 20} MB, and this process may have {limit >> 20} in all"
        raise EnvironmentFault(what, "ulimit -v", "raise the limit") from None


def versions() -> dict[str, str]:
    """The versions that decide what a run computes."""
    libraries = {name: _version(metadata.version, name) for name in MINIMA}
    return {"residual": VERSION, "python": platform.python_version(), **libraries}


def machine() -> dict[str, str | int]:
    """System, processor and cores; no name that tells whose machine it is."""
    processor = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"system": platform.system(), "architecture": platform.machine(), "processor": processor, "cores": cores}
