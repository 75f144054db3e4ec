"""Photographs inside tar archives: an index of where each file lies, read at random, nothing unpacked.

Only regular files and folders are accepted. A link, a device, a name that leads out of the archive, a name that
stands twice, a set-user-id bit: such an archive is refused, although nothing in it could reach the disk. A .tar.gz
cannot be read at random; it is decompressed once into the cache folder, and hashed whenever it is used again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from residual.data.cache import cache_folder
from residual.data.checking import nothing
from residual.data.formats import SUFFIXES
from residual.data.layout import PARTS
from residual.data.stores import ArchiveStore, File, shown
from residual.data.trees import ArchiveTree, passed_over
from residual.errors import DataError, StorageError, log
from residual.files import Damaged, canonical, digest, growing_file, read_regular, remove_forgotten, replace_file

PLAIN, PACKED = (".tar",), (".tar.gz", ".tgz")
MOST_MEMBERS = 2_000_000  # ImageNet has 1.3 million
_LONGEST_NAME, _DEEPEST = 4096, 64
_LARGEST_HEADER = 1 << 20
_RATIO, _FREE = 100, 1 << 26  # photographs hardly shrink: more than 100:1 beyond 64 MiB is no archive of them
_CHUNK = 1 << 20
_HEED = 1000
_GZIP = b"\x1f\x8b"
_LARGE = 1 << 24  # bytes from which on the user is told to wait
_MANY, _LARGEST_INDEX = 10_000, 1 << 34


class Member(NamedTuple):
    """A regular file in an archive: its path there, where its bytes begin, how many there are."""

    path: str
    offset: int
    size: int


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive that is read here."""
    return path.name.lower().endswith((*PLAIN, *PACKED))


def open_tree(path: Path, heed: Callable[[], None] = nothing, anew: bool = False) -> ArchiveTree:
    """The folders in an archive; a single folder around everything counts as the archive itself.

    Args:
        anew: read it through, whatever copy or memory of it there is.

    Raises:
        DataError: it is damaged, or holds what no archive of photographs holds; says what.
    """
    archive = plain(path, heed, anew)
    found = index(archive, heed, path, anew=anew)
    where = {member.path: (0, member.offset) for member in found}
    # A file of the copy in the cache is known by the time of the archive a person named: another copy is no change.
    known = path.stat().st_mtime_ns
    files = {member.path: File(member.path, member.size, known) for member in found}
    store = ArchiveStore(path, ((archive, archive.stat().st_mtime_ns),), where)
    return ArchiveTree(store, files, _around(files))


def _around(files: dict[str, File]) -> str:
    """The folder that holds everything and other folders as well, as ImageNet's archives have one.

    What is passed over, and files beside it that are no images, are as if they were not.
    """
    top = ""
    while True:
        below = [path[len(top) :] for path in files if path.startswith(top)]
        first = {
            name
            for name, slash, _ in (path.partition("/") for path in below)
            if not passed_over(name) and (slash or name.lower().endswith(SUFFIXES))
        }
        if len(first) != 1 or (name := first.pop()).lower() in PARTS:
            return top
        if not any(path.startswith(f"{name}/") and path.count("/") >= 2 for path in below):
            return top
        top += name + "/"


class _Bounded:
    """What `tarfile` reads through: a header that claims a huge size is refused before memory is taken for it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.stream.read(size)


def index(
    archive: Path,
    heed: Callable[[], None] = nothing,
    named: Path | None = None,
    find: Callable[[IO[bytes], int, Path, Callable[[], None]], Iterator[Member]] | None = None,
    anew: bool = False,
) -> list[Member]:
    """The regular files of an uncompressed archive, in their order; of a large one they are remembered.

    Args:
        named: what a person named, if that is not the archive.
        find: what finds them in the opened archive of a size; without it, `members`.
        anew: look for them, although they are remembered.

    Raises:
        DataError: damaged, or not acceptable; names the member.
    """
    named = named or archive
    try:
        status = archive.stat()
        stamp = [shown(str(archive.resolve())), status.st_size, status.st_mtime_ns, find is not None]
        note = cache_folder() / f"index-{digest(canonical(stamp))[:16]}.json"
        with suppress(FileNotFoundError, Damaged, OSError, ValueError, RecursionError):
            head, _, body = read_regular(note, _LARGEST_INDEX).partition(b"\n")
            if not anew and json.loads(head) == {"stamp": stamp, "sha256": digest(body)}:
                return [Member(*entry) for entry in json.loads(body)]
        with open(archive, "rb") as stream:
            found = list((find or _plainly)(stream, status.st_size, named, heed))
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", named, "make it readable") from None
    if len(found) >= _MANY:
        body = canonical(found)
        with suppress(StorageError):  # it costs time at the next start, and nothing else
            replace_file(note, canonical({"stamp": stamp, "sha256": digest(body)}) + body)
    return found


def _plainly(stream: IO[bytes], size: int, named: Path, heed: Callable[[], None]) -> Iterator[Member]:
    return members(stream, 0, size, named, heed)


def members(
    stream: IO[bytes], start: int, end: int, named: object, heed: Callable[[], None] = nothing
) -> Iterator[Member]:
    """The regular files of the archive that lies at [start, end) of a file; offsets count from the file's beginning."""
    seen: set[str] = set()
    last = -1
    stream.seek(start)
    try:
        # `offset` and the methods used are those of any file; the types of tarfile ask for more.
        part: Any = _Bounded(stream) if start == 0 else _Bounded(_Part(stream, start, end))  # type: ignore[arg-type]
        with tarfile.TarFile(fileobj=part, encoding="utf-8", errors="surrogateescape") as tar:
            for number in range(MOST_MEMBERS + 1):
                member = tar.next()
                tar.members = []  # type: ignore[attr-defined]  # or a million of them stay in memory
                if member is None:
                    # `tarfile` also ends where a header cannot be read; only a block of zeros is an end.
                    if _block(stream, start + tar.offset, end) != bytes(tarfile.BLOCKSIZE):
                        raise tarfile.ReadError(f"it ends, or cannot be read, at byte {start + tar.offset:,}")
                    return
                if number % _HEED == 0:
                    heed()
                if number == MOST_MEMBERS:
                    raise _refused(f"more than {MOST_MEMBERS:,} entries", named)
                if member.offset <= last or member.size < 0 or start + member.offset_data + member.size > end:
                    raise _refused(
                        f"{shown(member.name)[:200]!r} lies outside of the archive: it is damaged or cut", named
                    )
                last = member.offset
                path = _accepted(member, named)
                if path in seen:
                    raise _refused(f"two entries are named {shown(path)[:200]!r}", named)
                if member.isreg():
                    seen.add(path)
                    yield Member(path, start + member.offset_data, member.size)
    # Header fields of a forged archive are numbers, text and nesting of any kind.
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise DataError(f"the archive is damaged: {error}", named, "take it again from its source") from None


def _block(stream: IO[bytes], offset: int, end: int) -> bytes:
    stream.seek(offset)
    return stream.read(min(tarfile.BLOCKSIZE, max(0, end - offset)))


class _Part:
    """A stretch of a file as a file."""

    def __init__(self, stream: IO[bytes], start: int, end: int) -> None:
        self.stream, self.start, self.end = stream, start, end
        stream.seek(start)

    def tell(self) -> int:
        return self.stream.tell() - self.start

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.stream.seek(self.start + offset) - self.start

    def read(self, size: int = -1) -> bytes:
        return self.stream.read(min(size, max(0, self.end - self.stream.tell())))

    def close(self) -> None:
        pass


def _accepted(member: tarfile.TarInfo, named: object) -> str:
    """The path of a member, without `./` and the like; a folder's may be empty."""
    name, said = member.name, repr(shown(member.name)[:200])
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or ".." in parts or "\\" in name or name[1:2] == ":":
        raise _refused(f"the name {said} leads out of the archive", named)
    if "\0" in name or len(name) > _LONGEST_NAME or len(parts) > _DEEPEST:
        raise _refused(f"no file can be named {said[:80]}", named)
    if member.isdir():
        return "/".join(parts)
    if member.issym() or member.islnk():
        raise _refused(f"{said} is a link, to {shown(member.linkname)[:200]!r}", named)
    if not member.isreg() or member.issparse() or not parts:
        raise _refused(f"{said} is neither a plain file nor a folder", named)
    if member.mode & (stat.S_ISUID | stat.S_ISGID):
        raise _refused(f"{said} has a set-user-id or set-group-id bit", named)
    return "/".join(parts)


def _refused(what: str, named: object) -> DataError:
    return DataError(f"the archive is not read: {what}", named, "make an archive of plain files and folders")


def plain(path: Path, heed: Callable[[], None] = nothing, anew: bool = False) -> Path:
    """The archive itself where it is not compressed, else its verified copy in the cache folder.

    An archive has one copy: one that was changed is decompressed over its earlier copy.

    Args:
        anew: decompress it, although there is a copy.

    Raises:
        DataError: it is damaged, or grows beyond all measure.
        StorageError: there is no room for the copy.
    """
    try:
        with open(path, "rb") as stream:
            if stream.read(len(_GZIP)) != _GZIP:  # by content, whatever its name
                return path
        status = path.stat()
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", path, "make it readable") from None
    stamp = {"layout": 1, "path": shown(str(path.resolve())), "size": status.st_size, "changed": status.st_mtime_ns}
    copy = cache_folder() / f"archive-{digest(canonical(stamp['path']))[:16]}.tar"
    note = copy.with_suffix(".json")
    try:
        kept = json.loads(read_regular(note, _CHUNK))
        if not anew and kept["stamp"] == stamp:
            if _hash(copy, heed) == kept["sha256"]:
                return copy
            log.warning("the decompressed copy is damaged and is made again (%s)", copy)
    except (FileNotFoundError, Damaged, OSError, ValueError, KeyError, TypeError):
        pass  # there is none yet, or no whole one
    if status.st_size >= _LARGE:
        log.info("decompressing %s once into the cache folder", shown(path.name))
    remove_forgotten(copy.parent, "archive-*")
    try:
        sha256 = _decompress(path, copy, heed)
        replace_file(note, canonical({"stamp": stamp, "sha256": sha256}))
    except StorageError as error:
        what = f"the archive cannot be decompressed into the cache: {error.what}"
        raise StorageError(what, error.where, "set RESIDUAL_CACHE to a folder with room, or decompress it") from None
    _remove_others(copy, str(stamp["path"]))
    return copy


def _remove_others(copy: Path, path: str) -> None:
    """Remove the copies of an archive that earlier releases made, one for each time at which it was changed."""
    for note in copy.parent.glob("archive-*.json"):
        with suppress(Damaged, OSError, ValueError, KeyError, TypeError):
            if note.stem != copy.stem and json.loads(read_regular(note, _CHUNK))["stamp"]["path"] == path:
                note.with_suffix(".tar").unlink(missing_ok=True)
                note.unlink()


def _decompress(path: Path, copy: Path, heed: Callable[[], None]) -> str:
    found, count = hashlib.sha256(), 0
    try:
        with open(path, "rb") as packed, gzip.GzipFile(fileobj=packed) as stream, growing_file(copy) as write:
            while part := stream.read(_CHUNK):
                heed()
                count += len(part)
                if count > _FREE and count > _RATIO * packed.tell():
                    raise _refused(f"it grows more than {_RATIO} times when it is decompressed", path)
                found.update(part)
                write(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"the archive is damaged: {error}", path, "take it again from its source") from None
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", path, "make it readable") from None
    return found.hexdigest()


def _hash(path: Path, heed: Callable[[], None]) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        while part := stream.read(_CHUNK):
            heed()
            found.update(part)
    return found.hexdigest()
