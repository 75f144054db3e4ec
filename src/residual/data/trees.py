"""What is scanned for class folders: names, kinds, sizes and times, of a folder or of an archive. Nothing is opened.

Links are followed inside the folder; one that leads out of it is refused unless that is asked for, and one that
leads back to a folder it lies in always.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn, Protocol

from residual.data.formats import SUFFIXES
from residual.data.stores import File, Store, shown
from residual.errors import DataError

JUNK = {"__MACOSX", "@eaDir", "#recycle"}  # of macOS, and of Synology's disks
_JUNCTION = 0xA0000003  # IO_REPARSE_TAG_MOUNT_POINT
Fault = Callable[[DataError], None]


class Entry(NamedTuple):
    """One name in a folder."""

    name: str
    mode: int  # of what a link leads to; 0 where it leads nowhere
    size: int
    changed: int
    real: str

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_image(self) -> bool:
        return not self.is_folder and self.name.lower().endswith(SUFFIXES)


class Tree(Protocol):
    """Folders in folders, with the store that reads their files."""

    @property
    def store(self) -> Store: ...

    @property
    def real(self) -> str:
        """The root's real place."""
        ...

    @property
    def top(self) -> str:
        """What stands before a path below the root in the path that the store knows."""
        ...

    def list(self, path: str, real: str, chain: tuple[str, ...], fault: Fault) -> Iterator[Entry]:
        """What lies in a folder, by name. `chain` holds the real places of the folder and those around it."""
        ...

    def text(self, path: str) -> bytes:
        """A small text file, empty where there is none."""
        ...


def stop(error: DataError) -> NoReturn:
    """What is done about a fault where the first is one too many."""
    raise error


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def passed_over(name: str) -> bool:
    return name.startswith(".") or name in JUNK


class FolderTree:
    """A folder on disk."""

    def __init__(self, store: Store, root: Path, follow_links: bool) -> None:
        self.store, self.root, self.follow_links, self.top = store, root, follow_links, ""
        self.real = os.path.realpath(root)

    def list(self, path: str, real: str, chain: tuple[str, ...], fault: Fault) -> Iterator[Entry]:
        try:
            with os.scandir(self.root / path) as entries:
                found = sorted(entries, key=lambda e: (composed(e.name), e.name))
        except OSError as error:
            fault(DataError(f"cannot read the folder: {error.strerror}", self._say(path), "make it readable"))
            return
        for entry in found:
            if passed_over(entry.name):
                continue
            try:
                yield self._look(entry, join(path, entry.name), os.path.join(real, entry.name), chain)
            except DataError as error:
                fault(error)

    def _look(self, entry: os.DirEntry[str], path: str, real: str, chain: tuple[str, ...]) -> Entry:
        try:
            if not _is_link(entry):
                status = entry.stat(follow_symlinks=False)
                if sys.platform == "win32" and not stat.S_ISDIR(status.st_mode):
                    status = os.stat(self.root / path)  # what NTFS keeps in a folder of a file's size may be stale
                return Entry(entry.name, status.st_mode, status.st_size, status.st_mtime_ns, real)
            real = os.path.realpath(self.root / path)
            status = os.stat(self.root / path)
        except FileNotFoundError:
            return Entry(entry.name, 0, 0, 0, real)
        except OSError as error:
            remedy = "remove the link" if entry.is_symlink() else "make it readable"
            raise DataError(f"cannot be looked at: {error.strerror}", self._say(path), remedy) from None
        if stat.S_ISDIR(status.st_mode) and real in chain:
            raise DataError("a link leads back to a folder it lies in", self._say(path), "remove the link")
        if not inside(real, self.real) and not self.follow_links:
            raise DataError(
                f"a link leads out of the folder, to {shown(real)}",
                self._say(path),
                "remove it, or allow such links with --follow-links",
            )
        return Entry(entry.name, status.st_mode, status.st_size, status.st_mtime_ns, real)

    def text(self, path: str) -> bytes:
        place = self.root / path
        if not place.is_file():
            return b""
        return self.store.read(File(path, 0, 0))

    def _say(self, path: str) -> str:
        return shown(os.path.join(self.root, path) if path else str(self.root))


class ArchiveTree:
    """The folders of an archive, made from the paths in it."""

    def __init__(self, store: Store, files: Mapping[str, File], top: str = "") -> None:
        """
        Args:
            top: a folder in the archive that is taken for its root, ending in `/`.
        """
        self.store, self.real, self.top = store, top, top
        self.files = files
        self.folders: dict[str, dict[str, Entry]] = {"": {}}
        for path, file in files.items():
            if path.startswith(top):
                self._add(path[len(top) :], file)

    def _add(self, path: str, file: File) -> None:
        folder, _, name = path.rpartition("/")
        self._folder(folder)[name] = Entry(name, stat.S_IFREG, file.size, file.changed, path)

    def _folder(self, path: str) -> dict[str, Entry]:
        if path not in self.folders:
            parent, _, name = path.rpartition("/")
            self.folders[path] = {}
            self._folder(parent)[name] = Entry(name, stat.S_IFDIR, 0, 0, path)
        return self.folders[path]

    def list(self, path: str, real: str, chain: tuple[str, ...], fault: Fault) -> Iterator[Entry]:
        entries = (e for e in self.folders.get(path, {}).values() if not passed_over(e.name))
        yield from sorted(entries, key=lambda e: (composed(e.name), e.name))

    def text(self, path: str) -> bytes:
        file = self.files.get(self.top + path)
        return b"" if file is None else self.store.read(file)


def inside(real: str, root: str) -> bool:
    """Whether one real place lies in another."""
    return real == root or real.startswith(root.rstrip(os.sep) + os.sep)


def _is_link(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return True
    # Python has `is_junction` from 3.12 on; only Windows says what a name that leads elsewhere is.
    return sys.platform == "win32" and entry.stat(follow_symlinks=False).st_reparse_tag == _JUNCTION
