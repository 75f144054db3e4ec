"""A database and its transactions: one at a time on SQLite, tried again on PostgreSQL while it is away.

Optuna makes the tables, so that its plots and dashboard read them; SQLite is set to write ahead (WAL), to sync at each
commit and to wait for other writers. Every transaction takes the write lock at its beginning: what it has read is still
so when it writes. Optuna's own claim of a waiting trial reads and writes under no lock on SQLite, and may give one
trial to two processes.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import optuna
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from residual.errors import InUse, StorageError
from residual.files import storage
from residual.locks import lock
from residual.tuning import sqlite_file
from residual.tuning.address import Address, connecting

T = TypeVar("T")
WAIT = 60.0
"""Seconds to wait for a lock, or for a server that is away."""
FIRST = 5.0
"""The same for a server that never answered: a wrong address is likelier than one that comes back."""
_KEY = 0x7265736964
"""PostgreSQL's advisory lock under which the tables are made."""
_PASSING = (
    "too many clients",
    "connection slots",
    "starting up",
    "shutting down",
    "terminating connection",
    "recovery",
)
_STATES = ("08", "40", "53", "57")  # connection, serialisation, resources, operator intervention


class NoStudies(StorageError):
    """No study was ever kept there."""


class Database:
    """One database, opened for reading and writing, or for reading alone."""

    def __init__(self, address: Address, *, wait: float = WAIT, read_only: bool = False) -> None:
        """Open it; its tables are made where it is new.

        Raises:
            StorageError: it is damaged, another program's, or does not answer; a file is left as it was.
        """
        self.address, self._wait = address, wait
        self._inode: int | None = None
        if address.file is not None:
            self.engine = self._open_file(address.file, read_only)
        else:
            self.engine = self._open_server(read_only)

    # -- opening ---------------------------------------------------------------------------------------

    def _open_file(self, path: Path, read_only: bool) -> Engine:
        known = sqlite_file.inspect(path, self._wait)
        if read_only:
            if not known:
                raise NoStudies("no study is kept there", path, "check the name of the study")
            still = not os.access(path, os.W_OK) and not path.with_name(path.name + "-wal").exists()
            address = f"{sqlite_file.uri(path.absolute())}?mode=ro{'&immutable=1' if still else ''}"
            return create_engine(
                "sqlite://",
                creator=lambda: sqlite3.connect(address, uri=True, timeout=self._wait, check_same_thread=False),
                poolclass=NullPool,
            )
        sqlite_file.warn_of_network(path)
        with self._alone(path):
            if not sqlite_file.inspect(path, self._wait):
                self._make_tables({"connect_args": {"timeout": self._wait}})
            engine = create_engine(self.address.url, connect_args={"timeout": self._wait})
            event.listen(engine, "connect", _set_up)
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
            with self._words(), engine.connect() as connection:
                # The mode stays with the file; it cannot be changed within a transaction.
                raw: Any = connection.connection.dbapi_connection
                raw.rollback()
                raw.execute("PRAGMA journal_mode=WAL")
        self._inode = path.stat().st_ino
        return engine

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """One process at a time makes the tables.

        Raises:
            StorageError: the disk takes no file there, or another process does not let go.
        """
        began, place = time.monotonic(), path.with_name(path.name + ".lock")
        while True:
            held = lock(place, "the database")
            try:
                with storage(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                held.__enter__()
                break
            except StorageError as error:
                fault, patience = _lock_fault(error, path, place)
                if time.monotonic() - began > min(patience, self._wait):
                    raise fault from error.__cause__
                time.sleep(0.05)
        try:
            yield
        finally:
            held.__exit__(None, None, None)

    def _open_server(self, read_only: bool) -> Engine:
        try:
            options: dict[str, Any] = {"pool_pre_ping": True, "connect_args": connecting(self.address.url)}
            engine = create_engine(self.address.url, **options)
        except ImportError:
            remedy = "pip install 'psycopg[binary]'"
            raise StorageError("the driver of PostgreSQL is not installed", self.address.shown, remedy) from None

        def make(session: Session) -> None:
            if not read_only:
                session.connection().exec_driver_sql(f"SELECT pg_advisory_xact_lock({_KEY})")
            found = session.connection().exec_driver_sql("SELECT to_regclass('alembic_version')").scalar()
            if found is None and read_only:
                raise NoStudies("no study is kept there", self.address.shown, "check the name of the study")
            if found is None:
                self._make_tables(options)

        self.engine = engine
        try:
            self.do(make, first=True)
        except StorageError:
            engine.dispose()
            raise
        return engine

    def _make_tables(self, options: dict[str, Any]) -> None:
        # Optuna fills in braces of the address by itself.
        url = self.address.url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        with self._words(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                made = optuna.storages.RDBStorage(url, engine_kwargs=options)
            except RuntimeError as error:
                remedy = "install that release: pip install -U optuna"
                raise StorageError(self.address.hide(str(error)), self.address.shown, remedy) from None
            made.remove_session()
            made.engine.dispose()

    # -- transactions ------------------------------------------------------------------------------------

    @contextmanager
    def _words(self) -> Iterator[None]:
        """What the driver says as one line."""
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error) as error:
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> StorageError:
        source = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        words = " ".join(str(getattr(source, "orig", None) or source).split())
        if self.address.file is not None:
            return StorageError(*sqlite_file.explain(words, self.address.file))
        remedy = "check the address, the rights and the server; nothing finished is lost"
        return StorageError(f"the database refused: {self.address.hide(words)[:300]}", self.address.shown, remedy)

    def do(self, action: Callable[[Session], T], patience: float | None = None, first: bool = False) -> T:
        """Run an action in one transaction; where the server is away, again until it is back.

        An action may run twice although it was committed once (the answer got lost), so it must bear that.

        Raises:
            StorageError: the database refused, or did not answer for `patience` seconds.
        """
        began = time.monotonic()
        until = began + (self._wait if patience is None else patience)
        pause, collisions, answered, failed = 0.1, 0, not first, 0.0
        while True:
            self._mind_file()
            try:
                with Session(self.engine, expire_on_commit=False) as session, session.begin():
                    return action(session)
            except IntegrityError as error:
                collisions += 1  # another process was first: the next look finds what it wrote
                if collisions > 5:
                    raise self._explained(error) from None
            except SQLAlchemyError as error:
                # A server that is busy or restarts answers, a wrong address does not.
                answered = answered or "FATAL" in str(error) or _state(error) is not None
                failed = failed or time.monotonic()
                limit = until if answered else min(until, failed + FIRST)
                if not self._passes(error) or time.monotonic() + pause > limit:
                    raise self._explained(error) from None
                time.sleep(pause)
                pause = min(5.0, 2 * pause)

    def _passes(self, error: SQLAlchemyError) -> bool:
        """Whether to try again: only with a server; SQLite has waited by itself."""
        if self.address.file is not None or not isinstance(error, DBAPIError):
            return False
        state, words = _state(error), str(error.orig)
        if state is None and "SSL was required" in words:
            return False
        if state is None and "FATAL" in words:
            return any(sign in words for sign in _PASSING)
        return error.connection_invalidated or state is None or state[:2] in _STATES

    def _mind_file(self) -> None:
        if self._inode is None or self.address.file is None:
            return
        found = None
        with suppress(OSError):
            found = self.address.file.stat().st_ino
        if found != self._inode:
            remedy = "restore it, or give the command again: the finished runs serve a new one"
            raise StorageError("the database was taken away or replaced", self.address.file, remedy)

    def close(self) -> None:
        self.engine.dispose()


def _lock_fault(error: StorageError, path: Path, place: Path) -> tuple[StorageError, float]:
    """What is wrong with a place where no lock could be taken, and the seconds that it may be waited for."""
    cause = error.__cause__
    if isinstance(error, InUse) and place.exists():
        remedy = "wait for it or end it, then give the command again"
        return StorageError(f"{error.what}: {error.where}", path, remedy), WAIT
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(error.what, path, "free some space, then give the command again"), WAIT
    remedy = "make its folder and make it writable, or name another file with --storage"
    if isinstance(error, InUse):  # what filelock takes it for; or the lock is gone again by now
        return StorageError("no file can be made there", path, remedy), 1.0
    return StorageError(error.what, path, remedy), 0.0


def _state(error: SQLAlchemyError) -> str | None:
    """The code under which a server answered, by the standard; None where it did not."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _set_up(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
