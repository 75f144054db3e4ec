"""The threads that decode images. Decoders and resizing let other threads work, so threads are enough.

One pool per size serves all sources of a process; in a forked child it is made anew, since threads do not survive.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

_MOST = 16  # chosen by itself; more can be asked for


def automatic() -> int:
    """As many threads as this process has processors, at most 16."""
    if hasattr(os, "sched_getaffinity"):
        return min(_MOST, len(os.sched_getaffinity(0)))
    return min(_MOST, os.cpu_count() or 1)


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "residual-images")


def workers(threads: int = 0) -> ThreadPoolExecutor:
    """The pool of that many threads; 0 is automatic."""
    return _pool(threads or automatic())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)
