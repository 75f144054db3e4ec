"""Locks between processes, of one machine or of several that share a file system."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import filelock

from residual.errors import InUse, StorageError
from residual.files import storage

_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
_LOOKED_AT = 0.3
"""Seconds: whoever lists runs tries the lock of one for an instant, and must not be taken for a holder."""


@contextlib.contextmanager
def lock(path: Path, subject: str) -> Iterator[None]:
    """Hold a lock file. The system frees it when its holder dies, so none is ever stale.

    Raises:
        InUse: another process holds it; the message names that process where it is known.
        StorageError: the file system has no locks; a file that merely stands there would outlive its holder.
    """
    guard = filelock.FileLock(path, timeout=_LOOKED_AT, fallback_to_soft=False)
    note = path.with_name(path.name + ".holder")
    with storage(path):
        try:
            guard.acquire()
        except filelock.Timeout:  # an OSError, so it must not reach `storage`
            holder = note.read_text(encoding="utf-8", errors="replace").strip() if note.is_file() else "unknown"
            raise InUse(
                f"{subject} is in use by another process",
                holder,
                "wait for it or stop it; a new run wants another --out",
            ) from None
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            what = "this file system has no locks, so two processes could spoil each other's work"
            raise StorageError(
                what, path.parent, "have it mounted with them (Lustre: -o flock), or name another folder"
            ) from None
    try:
        with contextlib.suppress(OSError):
            note.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8", errors="replace")
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink()
        guard.release()
