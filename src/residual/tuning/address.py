"""Where a study is kept: its name, its folder under the runs folder, the address of its database.

A name is literal text, whatever it holds; the folder's name is made from it. Only SQLite and PostgreSQL are known.
The password of an address reaches the driver and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from residual.errors import UsageError, argument
from residual.runs.folder import runs_root

DATABASE, FACTS, WORKERS, FIGURE = "study.sqlite3", "study.json", "workers", "study.png"
LONGEST = 512  # characters of a name in Optuna's table
PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""When a host that says nothing is gone, so that a worker's own waiting ends: seconds, a count, milliseconds."""
OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "application_name", "keepalives", *PATIENCE)
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def check_name(name: str) -> str:
    """The name, if a database can hold it.

    Raises:
        UsageError: it is empty, or not text.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError("the name of the study is not UTF-8", "--study", "choose another name") from None
    if not name.strip() or "\0" in name:
        raise UsageError("the name of the study is empty or holds a null character", "--study", "choose another name")
    return name


def key_of(name: str) -> str:
    """The name under which Optuna's tables have the study: itself, or its beginning and digest where it is too long."""
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 70]}...{hashlib.sha256(name.encode()).hexdigest()}"


def folder_of(name: str) -> Path:
    """Where the runs of a study lie: `runs/<name>`, for awkward names their letters and a digest."""
    if _PLAIN.fullmatch(name) and not _RESERVED.fullmatch(name) and not name.endswith("."):
        return runs_root() / name
    letters = re.sub(r"[^A-Za-z0-9]+", "-", name)[:40].strip("-") or "study"
    return runs_root() / f"{letters}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Address:
    """A database: the URL for the driver, a form without password for people, and the file where it is one."""

    url: URL
    shown: str
    file: Path | None = None

    def __repr__(self) -> str:
        return f"Address({self.shown})"

    def hide(self, text: str) -> str:
        """A driver's words without the password."""
        password = self.url.password
        return text.replace(str(password), "***") if password else text


def parse_address(text: str | None, folder: Path) -> Address:
    """The database meant by `--storage`; without it, a file in the study's folder.

    Raises:
        UsageError: another kind of database, or options that are not known. The text itself is not repeated: it
            may hold a password.
    """
    if not text:
        return sqlite_file(folder / DATABASE)
    scheme, colon, _ = text.partition("://")
    if not colon or scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
        shown = scheme[:40] if colon and re.fullmatch(r"[A-Za-z0-9+._-]+", scheme) else "--storage"
        remedy = "give sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        raise UsageError("studies are kept in SQLite or PostgreSQL only", shown, remedy)
    if scheme == "sqlite":
        parts = urlsplit(text)
        path = unquote(parts.path)[1:]
        if parts.query or parts.netloc or not path or path.startswith(":memory:") or path.startswith("file:"):
            raise UsageError(
                "an SQLite address is a file without options", "--storage", "as in sqlite:///study.sqlite3"
            )
        return sqlite_file(Path(path).expanduser())
    try:
        url = make_url(text).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        remedy = "as in postgresql://USER@HOST:5432/DATABASE"
        raise UsageError("this is no address of a PostgreSQL database", "--storage", remedy) from None
    unknown = [name for name in url.query if name not in OPTIONS]
    if unknown:
        raise UsageError(
            f"options of the address not known: {', '.join(unknown)[:80]}",
            "--storage",
            f"known are {', '.join(OPTIONS)}",
        )
    if not url.database:
        raise UsageError("the address names no database", "--storage", "as in postgresql://USER@HOST:5432/DATABASE")
    return Address(url, url.set(drivername="postgresql", query={}).render_as_string(hide_password=True))


def connecting(url: URL) -> dict[str, int]:
    """What the driver is told of a server beside its address, whose own options go before."""
    return {name: value for name, value in PATIENCE.items() if name not in url.query}


def after_command(storage: str | None) -> str:
    """What must stand after a command for it to find the same database: the option, or a word where to put a password.

    Args:
        storage: as for `--storage`; None where it was not given.
    """
    if not storage:
        return ""
    if parse_address(storage, runs_root()).url.password is not None:
        return " (with RESIDUAL_STORAGE set to its address)"
    return f" --storage {argument(storage)}"


def sqlite_file(path: Path) -> Address:
    return Address(URL.create("sqlite", database=str(path)), str(path), path)
