"""The threads that decode images. Decoders and resizing let other threads work, so threads are enough.

One pool per size serves all sources of a process; in a forked child it is made anew, since threads do not survive.
Processes that decode (`examination`, `decoders`) are started here as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Literal

from residual.environment import processors
from residual.errors import EnvironmentFault
from residual.launch import launched

Workers = Literal["threads", "processes"]
_MOST = 16  # chosen by itself; more can be asked for


def automatic() -> int:
    """As many threads as this process has processors, at most 16; several processes of a launch share a machine's."""
    mine, launch = processors(), launched()
    if launch is not None and launch.local_world > 1:
        bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else mine
        if bound > (os.cpu_count() or 1) // launch.local_world:  # else the launcher has shared them out itself
            mine = max(1, mine // launch.local_world)
    return min(_MOST, mine)


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "residual-images")


def workers(threads: int = 0) -> ThreadPoolExecutor:
    """The pool of that many threads; 0 is automatic."""
    return _pool(threads or automatic())


def start_module(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A module of this program as a process of its own, with one thread, asked and answering through pipes.

    Raises:
        EnvironmentFault: the system starts no more processes.
    """
    here = str(Path(__file__).resolve().parents[2])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **single}
    # -P: a file of the user's own folder is never imported in place of a library.
    command = [sys.executable, "-P", "-m", module, *arguments]
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment)
    except OSError as error:
        what = f"no process can be started to decode images: {error.strerror}"
        raise EnvironmentFault(what, sys.executable, "close other programs, or raise the limit of processes") from None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
