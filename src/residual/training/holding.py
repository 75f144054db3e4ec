"""A run that another process holds is waited for where that process may be dead: its machine cannot say so.

A file server keeps the locks of a machine that has gone until it takes it for dead (NFS 4 about 90 seconds).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from residual.errors import InUse, log
from residual.runs.folder import RunFolder

LEASE = 120.0
"""Seconds for which the lock of a dead machine may stand, at most."""
_LOOK = 0.2


@contextmanager
def held(run: RunFolder, patience: float, heed: Callable[[], None]) -> Iterator[None]:
    """Hold a run, once no other process does.

    Args:
        patience: seconds to wait; 0 to be told at once.
        heed: called between two looks; raises what ends the waiting.

    Raises:
        InUse: another process holds it still.
    """
    until, told = time.monotonic() + patience, False
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(run.hold())
                break
            except InUse as error:
                if time.monotonic() >= until:
                    raise
                if not told:
                    log.info("%s: %s holds it, which is waited for, %.0f s at most", run.name, error.where, patience)
                told = True
            heed()
            time.sleep(_LOOK)
        yield
