"""An SQLite file before anything is asked of it: whether it is one, sound, ours, and on a disk that can lock.

The file is opened for reading only, so whatever is wrong with it stays as it was found.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path, PurePath

from optuna.storages._rdb import models

from residual.errors import StorageError, log
from residual.runs.disk import kind_of

HEADER = b"SQLite format 3\0"
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs"),
    *("afpfs", "webdav", "macfuse", "osxfuse"),
    *("lustre", "gpfs", "beegfs", "wekafs", "panfs", "pvfs2", "gfs2", "ocfs2"),
}
"""Kinds of file systems that several machines share; whatever is behind `fuse.` may be one."""
SALVAGE = "keep a copy of it; `sqlite3 FILE .recover` may bring its rows back; its finished runs serve a new study"


def inspect(path: Path, wait: float = 60.0) -> bool:
    """Whether a database of ours stands there; an absent or empty file is none.

    Raises:
        StorageError: something else stands there, or it is damaged; it is left as it is.
    """
    if path.is_dir():
        raise StorageError("a folder stands where the database should be", path, "name a file with --storage")
    try:
        if not path.exists():
            orphans = [path.with_name(path.name + tail) for tail in ("-wal", "-journal")]
            left = [orphan for orphan in orphans if orphan.exists() and orphan.stat().st_size]
            if left:
                raise StorageError(
                    "the database is gone and its journal is left", left[0], "restore both, or take it away"
                )
            return False
        with path.open("rb") as file:
            head = file.read(len(HEADER))
    except OSError as error:
        raise StorageError(f"cannot read the database: {error.strerror}", path, "check its permissions") from None
    if not head:
        return False
    if head != HEADER:
        raise StorageError("this file is not an SQLite database", path, "name another with --storage")
    tables, whole = _tables(path, wait)
    if tables - {table.name for table in models.BaseModel.metadata.sorted_tables} - {"alembic_version"}:
        raise StorageError("this database belongs to another program", path, "name another with --storage")
    return whole  # else its tables are being made, or whoever made them was killed


def uri(place: PurePath) -> str:
    """An absolute path as SQLite takes it: that of a share of Windows names no host, which SQLite refuses."""
    text = place.as_uri()
    return text if text.startswith("file:///") else text.replace("file://", "file:////", 1)


def _tables(path: Path, wait: float) -> tuple[set[str], bool]:
    """The names of the tables, and whether Optuna has put its mark under them, which it does last."""
    while True:
        before = path.stat().st_mtime_ns
        # A database at rest is read without the files that readers share, which would be left behind.
        still = not path.with_name(path.name + "-wal").exists()
        try:
            return _look(f"{uri(path.absolute())}?mode=ro{'&immutable=1' if still else ''}", path, wait)
        except StorageError:
            if not still or path.stat().st_mtime_ns == before:
                raise  # else it was no longer at rest


def _look(address: str, path: Path, wait: float) -> tuple[set[str], bool]:
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=wait)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found[0] != "ok":
                raise StorageError(f"the database is damaged: {found[0]}", path, SALVAGE)
            names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            return names, "alembic_version" in names and _is_marked(connection, path)
    except sqlite3.DatabaseError as error:
        raise StorageError(*explain(str(error), path)) from None


def _is_marked(connection: sqlite3.Connection, path: Path) -> bool:
    for (version,) in connection.execute("SELECT schema_version FROM version_info"):
        if version != models.SCHEMA_VERSION:
            _refuse_version(str(version), path)
    folder = Path(models.__file__).parent / "alembic" / "versions"
    known = {file.stem.rstrip("_") for file in folder.glob("v*.py")}
    found = [revision for (revision,) in connection.execute("SELECT version_num FROM alembic_version")]
    for revision in found:
        if revision not in known:
            _refuse_version(revision, path)
    return bool(found)


def _refuse_version(found: str, path: Path) -> None:
    what = f"the database was written by another release of Optuna (schema {found[:40]})"
    raise StorageError(what, path, "install that release: pip install -U optuna")


def explain(words: str, path: Path) -> tuple[str, Path, str]:
    """SQLite's words as ours: what, where, what to do."""
    text = words.lower()
    if "locked" in text or "busy" in text:
        holder = holder_of(path)
        return f"the database is locked by {holder}", path, "wait for it or end it, then give the command again"
    if "full" in text:
        return "the disk is full", path, "free some space, then give the command again: nothing finished is lost"
    if "readonly" in text or "read-only" in text:
        return "the database may only be read", path, "make it and its folder writable"
    if "malformed" in text or "not a database" in text or "corrupt" in text:
        return f"the database is damaged: {words}", path, SALVAGE
    if "unable to open" in text:
        return "the database cannot be opened", path, "check its folder and the permissions"
    return f"the database failed: {words}", path, "check the disk, then give the command again"


def holder_of(path: Path) -> str:
    """Which process holds a lock on the file, where the system tells (Linux)."""
    with suppress(OSError, ValueError, IndexError):
        numbers = {file.stat().st_ino for file in path.parent.glob(path.name + "*")}
        holders = set()
        for line in Path("/proc/locks").read_text().splitlines():
            parts = line.replace("->", "").split()
            if parts[3] == "WRITE" and int(parts[5].split(":")[2]) in numbers and int(parts[4]) != os.getpid():
                holders.add(parts[4])
        if holders:
            return f"process {', '.join(sorted(holders))}"
    return "another process"


def warn_of_network(path: Path) -> None:
    """SQLite's log is shared through memory, which machines do not share over a network."""
    kind = kind_of(path.parent)
    if kind in NETWORK or kind.startswith("fuse."):
        log.warning(
            "%s lies on a network file system (%s): workers on one machine only; for several use PostgreSQL",
            path,
            kind,
        )
