"""What lies in the cache folder, by kind; all of it can be made or fetched again, so all of it may be removed.

Only what this program names is listed and removed, with what it left half written where it was killed. What stands
there under another name is somebody else's.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from residual.data.cache import cache_folder
from residual.data.weights import weights_folder
from residual.errors import StorageError
from residual.files import FORGOTTEN, TEMPORARY, Facts, remove_folder

KeptKind = Literal["data sets", "archives", "indexes", "findings", "weights"]
KINDS: Final[tuple[KeptKind, ...]] = get_args(KeptKind)
WHAT: Final[dict[KeptKind, str]] = {
    "data sets": "verified copies of data sets",
    "archives": "decompressed copies of .tar.gz archives",
    "indexes": "where each file of an archive lies",
    "findings": "what was found of each photograph",
    "weights": "published weights that were downloaded",
}
_FORMS: Final[tuple[tuple[re.Pattern[str], KeptKind], ...]] = (
    (re.compile(r"archive-[0-9a-f]{16}\.(tar|json)"), "archives"),
    (re.compile(r"index-[0-9a-f]{16}\.json"), "indexes"),
    (re.compile(r"checked-[0-9a-f]{16}\.json"), "findings"),
    (re.compile(r"(digits|cifar-10|cifar-100)(-\w+)?-[0-9a-f]{16}"), "data sets"),
)
_WEIGHTS: Final = re.compile(r"\w[\w.-]*-[0-9a-f]{8}\.pth")  # a published name; anything else a person put there
_HALF: Final = re.compile(
    rf"{re.escape(TEMPORARY)}(?:\d+-(?:[0-9a-f]{{8}}-)?(?P<file>.+)|(?:old-)?(?P<folder>.+?)-\d+(?:-[0-9a-f]{{8}})?)"
)
"""How `files` names what it is writing or removing."""
_DAY = 86_400.0


@dataclass(frozen=True)
class Kept:
    """A file or sealed folder of the cache: kind, place, bytes, and when it was last read or written (Unix seconds)."""

    kind: KeptKind
    path: Path
    size: int
    used: float

    def as_dict(self) -> Facts:
        return asdict(self) | {"path": str(self.path)}


def kept(now: float | None = None, unused: float = 0.0) -> list[Kept]:
    """All that is kept, kind by kind, the largest first.

    Args:
        now: the time, in Unix seconds.
        unused: only what was neither read nor written for so many days. Some systems note reading once a day only.
    """
    limit = (time.time() if now is None else now) - unused * _DAY
    found = [one for one in _all() if not unused or one.used < limit]
    return sorted(found, key=lambda one: (KINDS.index(one.kind), -one.size, one.path.name))


def clear(things: Iterable[Kept]) -> list[Kept]:
    """Remove them, and give those that are gone.

    Raises:
        StorageError: one cannot be removed, as where another program of Windows reads it; those before it are gone.
    """
    gone = []
    for one in things:
        if one.path.is_dir():
            remove_folder(one.path)
        else:
            try:
                one.path.unlink(missing_ok=True)
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                raise StorageError(f"it stays: {reason}", one.path, "end what uses it, then try again") from None
        gone.append(one)
    return gone


def _all() -> Iterator[Kept]:
    for path in _entries(cache_folder()):
        name = _meant(path)
        kind = next((kind for form, kind in _FORMS if form.fullmatch(name)), None)
        if kind is not None and not path.is_symlink() and path.is_dir() == (kind == "data sets"):
            yield from _measured(kind, path)
    for path in _entries(weights_folder()):
        if _WEIGHTS.fullmatch(_meant(path)) and path.is_file() and not path.is_symlink():
            yield from _measured("weights", path)


def _meant(path: Path) -> str:
    """The name of an entry; of what a killed writer left half written, the name that it would have got."""
    found = _HALF.fullmatch(path.name)
    if found is None:
        return path.name
    with suppress(OSError):  # it got its name meanwhile
        if time.time() - path.lstat().st_mtime > FORGOTTEN:
            return str(found["file"] or found["folder"])
    return ""


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise StorageError(f"the cache cannot be read: {reason}", folder, "name another in RESIDUAL_CACHE") from None


def _measured(kind: KeptKind, path: Path) -> Iterator[Kept]:
    with suppress(OSError):  # it went away meanwhile
        inside = [path, *path.iterdir()] if path.is_dir() else [path]
        found = [one.stat() for one in inside]
        size = sum(status.st_size for one, status in zip(inside, found, strict=True) if not one.is_dir())
        yield Kept(kind, Path(os.path.abspath(path)), size, max(max(s.st_atime, s.st_mtime) for s in found))
