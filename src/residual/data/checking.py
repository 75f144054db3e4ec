"""Every image of a folder is read once before a run begins: its SHA-256, its size, and whether it can be decoded.

So a damaged file is found before step 0 and not in the night, and a run can refuse to go on with other images.
What was found is kept in the cache folder by path, size and time of change, and later starts take it from
there. Whatever a file is read for later, its SHA-256 must still be the one found here.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import PIL

from residual.data.cache import cache_folder
from residual.data.encoded import Look, Picture, inspect
from residual.data.layout import some
from residual.data.stores import Changed, File, Store, shown
from residual.data.workers import workers
from residual.errors import DataError, ResidualError, argument, log
from residual.files import Damaged, canonical, digest, read_regular, replace_file

LAYOUT = 2  # raise it when what is kept of a file changes
_LIMIT = 1 << 34  # of some 200 bytes an image
_CHUNK = 256
_MANY = 2000  # files from which on the user is told to wait
_KEEP = 300.0  # seconds after which what was found is kept, should the process be killed


class Verdict(NamedTuple):
    """What one file is. `fault` says why it cannot be used; it is empty for a sound one."""

    size: int
    changed: int
    sha256: str
    width: int
    height: int
    grey: bool
    fault: str


@runtime_checkable
class KnowingStore(Store, Protocol):
    """A store that knows what its images are, and holds their pixels decoded."""

    def verdicts(self, files: Sequence[File]) -> list[Verdict]: ...

    def picture(self, file: File) -> Picture:
        """The pixels of an image.

        Raises:
            DataError: they are not those that the store knows.
        """
        ...


def nothing() -> None:
    """What is done between two files where nobody asks for anything."""


def look(store: Store, file: File) -> Verdict:
    """Read and decode one file.

    Raises:
        Changed: it is gone or was changed since the folder was scanned.
        NoRoom: memory is short, which is no verdict.
    """
    data = _read(store, file)
    if isinstance(data, str):
        return Verdict(file.size, file.changed, "", 0, 0, False, data)
    found, fault = Look(0, 0, False), ""
    try:
        found = inspect(data, store.say(file.path))
    except DataError as error:
        fault = error.what
    return Verdict(file.size, file.changed, hashlib.sha256(data).hexdigest(), *found, fault)


def _read(store: Store, file: File) -> bytes | str:
    """The bytes of a file, or in words why it cannot be read.

    Raises:
        Changed: it is gone or was changed since the folder was scanned.
    """
    try:
        still = store.still(file)
        data = store.read(file) if still else b""
    except Changed:
        raise
    except OSError as error:
        return f"cannot read: {error.strerror}"
    except DataError as error:
        return error.what
    if not still or len(data) != file.size:
        raise Changed("the file was changed since the folder was scanned", store.say(file.path))
    return data


def refusal(store: Store, file: File) -> Changed:
    """What is said of a file whose SHA-256 is not the one that was found when it was checked."""
    where = store.say(file.path)
    try:
        still = store.still(file)
    except (DataError, OSError):
        still = False
    if not still:
        return Changed("the file was changed since it was checked", where)
    what = "the content is not what was found when it was checked, though size and time of change are"
    remedy = f"`residual data verify {argument(shown(str(store.place)))}` looks at every file anew"
    return Changed(what, where, remedy)


def check(
    store: Store,
    files: Sequence[File],
    threads: int = 0,
    heed: Callable[[], None] = nothing,
    anew: bool = False,
) -> dict[str, Verdict]:
    """What every file is, by path.

    Args:
        threads: how many files are read at a time; 0 is automatic.
        heed: called now and then; may raise to stop. What was found until then is kept.
        anew: read every file, whatever is kept of it or known to the store.

    Raises:
        DataError: the pixels that a store holds are not those it knows.
        NoRoom: memory is short; what was found until then is kept.
    """
    if isinstance(store, KnowingStore):
        if anew:
            _read_pixels(store, files, threads, heed)
        return {file.path: verdict for file, verdict in zip(files, store.verdicts(files), strict=True)}
    known = _Kept(store.place)
    kept = {file.path: verdict for file in files if (verdict := known.get(file)) is not None}
    found = {} if anew else kept
    new = [file for file in files if file.path not in found]
    if len(new) >= _MANY:
        log.info("checking %s new images before the first step; later starts remember them", f"{len(new):,}")
    said = time.monotonic()
    keep = said + _KEEP
    fresh: dict[str, Verdict] = {}
    try:
        for start in range(0, len(new), _CHUNK):
            heed()
            part = new[start : start + _CHUNK]
            verdicts = workers(threads).map(lambda file: look(store, file), part)
            fresh.update(zip((file.path for file in part), verdicts, strict=True))
            if time.monotonic() - said > 30:
                said = time.monotonic()
                log.info("checked %s of %s new images", f"{len(fresh):,}", f"{len(new):,}")
            if time.monotonic() > keep:
                began = time.monotonic()
                known.add(fresh)
                keep = time.monotonic() + max(_KEEP, 20 * (time.monotonic() - began))
    finally:
        known.add(fresh)
    _tell_of_others(store, kept, fresh)
    return found | fresh


def _read_pixels(store: KnowingStore, files: Sequence[File], threads: int, heed: Callable[[], None]) -> None:
    """Have a store compare every image with what it knows of it."""

    def one(file: File) -> None:
        store.picture(file)

    for start in range(0, len(files), _CHUNK):
        heed()
        deque(workers(threads).map(one, files[start : start + _CHUNK]), maxlen=0)


def _tell_of_others(store: Store, kept: Mapping[str, Verdict], fresh: Mapping[str, Verdict]) -> None:
    """Files that were read although they seemed to be known: a damaged disk changes neither size nor time."""
    others = [path for path, verdict in fresh.items() if path in kept and verdict.sha256 != kept[path].sha256]
    if others:
        log.warning(
            "%s files are not what was found of them before, though their sizes and times are (%s): %s",
            f"{len(others):,}",
            store.place,
            some(others),
        )


class _Kept:
    """The verdicts that are kept of one folder. Whatever goes wrong with them costs time and nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve())
        self.stamp = {"layout": LAYOUT, "root": shown(self.root), "pillow": PIL.__version__}
        self.verdicts: dict[str, list[object]] = {}
        self.path: Path | None = None
        self.told = False
        try:
            self.path = cache_folder() / f"checked-{digest(os.fsencode(self.root))[:16]}.json"
            head, _, body = read_regular(self.path, _LIMIT).partition(b"\n")
            if json.loads(head) == {**self.stamp, "sha256": digest(body)}:
                self.verdicts = json.loads(body)
        except (Damaged, ResidualError, OSError, ValueError, RecursionError):
            pass  # there is none yet, or it cannot be used

    def get(self, file: File) -> Verdict | None:
        entry = self.verdicts.get(shown(file.path))
        if entry is None or tuple(entry[:2]) != file[1:]:
            return None
        return Verdict(*entry)  # type: ignore[arg-type]  # the digest says that this program wrote it

    def add(self, fresh: dict[str, Verdict]) -> None:
        """Keep new verdicts. What could not be read may be readable tomorrow, with the same size and time."""
        kept = {shown(path): list(verdict) for path, verdict in fresh.items() if verdict.sha256}
        if not kept or self.path is None:
            return
        body = canonical(self.verdicts | kept)
        try:
            replace_file(self.path, canonical({**self.stamp, "sha256": digest(body)}) + body)
        except ResidualError as error:
            if not self.told:
                words = "what was found of the images is not kept: %s (%s): set RESIDUAL_CACHE"
                log.warning(words, error.what, error.where)
            self.told = True
