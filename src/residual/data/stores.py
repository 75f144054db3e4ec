"""Where image files are and how their bytes are had: below a folder, or inside archives.

A `File` is named by its path below the place that a person named; a store reads it. An archive is never unpacked:
its files are read where they lie in it, in any order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from residual.data.encoded import FILE_LIMIT, read_file
from residual.errors import DataError


class File(NamedTuple):
    """A regular file: its path below the root with `/` between the names, its size, its time of change in ns."""

    path: str
    size: int
    changed: int


class Changed(DataError):
    """A data set that did not hold still."""

    def __init__(self, what: str, where: str, remedy: str = "leave the images alone while they are in use") -> None:
        super().__init__(what, where, remedy)


class Store(Protocol):
    """The files of one place."""

    @property
    def place(self) -> Path:
        """What a person named: a folder, an archive or a table."""
        ...

    def read(self, file: File) -> bytes:
        """The bytes of a file.

        Raises:
            Changed: it is gone.
            DataError: it cannot be read.
        """
        ...

    def still(self, file: File) -> bool:
        """Whether size and time of change are those of the scan.

        Raises:
            Changed: it is gone.
            OSError: it cannot be looked at.
        """
        ...

    def say(self, path: str) -> str:
        """What a person would call the file."""
        ...


@runtime_checkable
class LocatedStore(Store, Protocol):
    """A store that can say in which file, and where in it, the bytes of an image lie."""

    def locate(self, file: File) -> tuple[Path, int]: ...


def shown(path: str) -> str:
    """A path as text: bytes that are not UTF-8 are written out."""
    return path.encode(errors="backslashreplace").decode()


@dataclass(frozen=True)
class FolderStore:
    """Files below a folder.

    Args:
        named: what a person named where that is not the folder, as a table of files in it.
    """

    root: Path
    named: Path | None = None

    @property
    def place(self) -> Path:
        return self.named or self.root

    def read(self, file: File) -> bytes:
        path = self.root / file.path
        try:
            return read_file(path)
        except DataError as error:
            if not path.exists():
                raise Changed("the file is gone since the folder was scanned", self.say(file.path)) from None
            raise DataError(error.what, self.say(file.path), "make it readable, then go on with --resume") from None

    def still(self, file: File) -> bool:
        try:
            status = os.stat(self.root / file.path)
        except FileNotFoundError:
            raise Changed("the file is gone since the folder was scanned", self.say(file.path)) from None
        return (status.st_size, status.st_mtime_ns) == file[1:]

    def say(self, path: str) -> str:
        return shown(str(self.root / path))

    def locate(self, file: File) -> tuple[Path, int]:
        """Where the bytes begin."""
        return self.root / file.path, 0


@dataclass(frozen=True)
class ArchiveStore:
    """Files inside uncompressed archives.

    Opened anew for every file, as files of a folder are: no position is shared, so any number of threads may read,
    a forked or spawned process may go on, and Windows does not hold the archive locked.

    Args:
        named: what a person named.
        archives: the files that hold the others, with their times of change.
        index: path -> (number of the archive, offset in it).
    """

    named: Path
    archives: Sequence[tuple[Path, int]]
    index: Mapping[str, tuple[int, int]]

    @property
    def place(self) -> Path:
        return self.named

    def read(self, file: File) -> bytes:
        number, offset = self.index[file.path]
        archive = self.archives[number][0]
        if file.size > FILE_LIMIT:
            what = f"{file.size:,} bytes where at most {FILE_LIMIT:,} are expected"
            raise DataError(what, self.say(file.path), "leave it out of the archive")
        try:
            with open(archive, "rb", buffering=0) as stream:
                stream.seek(offset)
                data = b""
                while len(data) < file.size and (part := stream.read(file.size - len(data))):
                    data = data + part if data else part
        except FileNotFoundError:
            raise Changed("the archive is gone since it was scanned", shown(str(archive))) from None
        except OSError as error:
            what = f"cannot read: {error.strerror}"
            raise DataError(what, self.say(file.path), "make it readable, then go on with --resume") from None
        if len(data) < file.size:
            raise Changed("the archive was cut since it was scanned", shown(str(archive)))
        return data

    def still(self, file: File) -> bool:
        archive, changed = self.archives[self.index[file.path][0]]
        try:
            return os.stat(archive).st_mtime_ns == changed
        except FileNotFoundError:
            raise Changed("the archive is gone since it was scanned", shown(str(archive))) from None

    def say(self, path: str) -> str:
        return shown(f"{self.named}: {path}")

    def locate(self, file: File) -> tuple[Path, int]:
        """Where the bytes begin."""
        number, offset = self.index[file.path]
        return self.archives[number][0], offset
