"""What this program runs on: versions, their minima, and the machine. Imports nothing heavy."""

from __future__ import annotations

import mmap
import os
import platform
import subprocess
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


QUOTA = Path("/sys/fs/cgroup/cpu.max")


def processors() -> int:
    """How many processors this process may use at a time: those it is bound to, or its container's share of them."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (
            QUOTA.read_text().split()
        )  # microseconds of processor time in each period, as docker --cpus sets
        share = bound if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return bound  # another system, or one without control groups
    return max(1, min(bound, share))


def versions() -> dict[str, str]:
    """The versions that decide what a run computes."""
    libraries = {name: _version(metadata.version, name) for name in MINIMA}
    return {"residual": VERSION, "python": platform.python_version(), **libraries}


@cache
def commit() -> str | None:
    """The commit of the checkout this package runs in, with `-dirty` where files differ from it; None where the package
    is installed, or no git is there.

    Read once in a process, which is of the commit that it began with.
    """
    here = Path(__file__).resolve().parent
    if here.parent.name != "src":
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def machine(device: str = "cpu") -> dict[str, str | int]:
    """System, processor and cores, and of a GPU in use what it is; no name that tells whose machine it is."""
    processor = platform.processor()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, str | int] = {"system": platform.system(), "architecture": platform.machine()}
    return found | {"processor": processor, "cores": cores} | _gpu(device)


def _gpu(device: str) -> dict[str, str | int]:
    """A GPU of CUDA by name, the level of what it can do, and the libraries that compute on it."""
    torch = sys.modules.get("torch")
    if torch is None or not device.startswith("cuda"):
        return {}
    try:
        properties = torch.cuda.get_device_properties(device)
    except (RuntimeError, AssertionError):  # not here
        return {}
    versions = {"cuda": torch.version.cuda or torch.version.hip, "cudnn": torch.backends.cudnn.version()}
    level = f"{properties.major}.{properties.minor}"
    return {"gpu": properties.name, "capability": level, **{name: v for name, v in versions.items() if v}}
