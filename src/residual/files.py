"""The one way anything reaches a disk: files and folders that are whole or absent, append-only records.

Whatever is new is written under a temporary name, fsynced, renamed to its final name, and its parent fsynced.
Checkpoints and models are folders that also verify themselves: `sealed.py`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from residual.errors import InUse, ResidualError, StorageError, UsageError

TEMPORARY = ".tmp-"
_CHUNK = 1 << 24
_PAUSES = (0.02, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # half a minute in all, before a run ends for it
FORGOTTEN = 600.0  # seconds after which a temporary file that no longer grows belongs to nobody

Facts = dict[str, Any]


class Damaged(ResidualError):
    """A sealed folder that is not what was written."""

    exit_code = 4


@contextlib.contextmanager
def storage(where: Path, remedy: str = "") -> Iterator[None]:
    """Turn what the operating system refuses into one line.

    Args:
        remedy: what to do about it, where that is not what a run advises.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"cannot write: {reason}", where, remedy or _advice(error)) from error


def _advice(error: OSError) -> str:
    words = {
        "ENOSPC": "free some space, then go on with --resume",
        "EDQUOT": "your quota is used up; free some space, then go on with --resume",
        "EROFS": "the file system is read-only; name another folder with --out, or go on with a copy of the run",
        "EACCES": "you may not write there; name another folder with --out, or go on with a copy of the run",
        "EPERM": "you may not write there; name another folder with --out, or go on with a copy of the run",
        "ENOTDIR": "a file stands where a folder is needed; name another folder with --out",
        "EEXIST": "something stands there already; name another folder with --out",
        "ENOTEMPTY": "something stands there already; name another folder with --out",
        "ENOENT": "the folder cannot be made or is gone; name another folder with --out",
        "ENAMETOOLONG": "the name is too long; name another folder with --out",
    }
    return words.get(errno.errorcode.get(error.errno or 0, ""), "check the disk, then go on with --resume")


def canonical(value: object) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, one line feed at the end."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode() + b"\n"


def readable(value: object) -> bytes:
    """JSON for people: indented, in the order given."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view[:_CHUNK]) :]


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)
    if sys.platform == "darwin":  # where fsync leaves it in the drive's own cache
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno == errno.EIO:
                raise  # other disks than a Mac's own may not know the call


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet, and fsync it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        _write_all(descriptor, data)
        _sync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder durable (Windows has no such call)."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _ours() -> str:
    """Part of a temporary name. Machines and containers that share a folder give the same number to processes."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename, fsync of the parent."""
    temporary = path.with_name(f"{TEMPORARY}{_ours()}-{path.name}"[:200])
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_new(temporary, data)
            persistent(os.replace, temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)


@contextlib.contextmanager
def growing_file(
    path: Path, remedy: str = "", rename: Callable[[Path, Path], None] | None = None
) -> Iterator[Callable[[bytes], None]]:
    """Write a file in parts; it has its name only where the block ends without an error, else nothing stays.

    Args:
        remedy: as for `storage`.
        rename: gives it its name; as a rule `os.replace`. Whoever writes seldom writes an empty part now and then.
    """
    temporary = path.with_name(f"{TEMPORARY}{_ours()}-{path.name}"[:200])
    with storage(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)

    def write(part: bytes) -> None:
        with storage(path, remedy):
            if part:
                _write_all(descriptor, part)
            else:
                os.utime(temporary)

    try:
        try:
            yield write
            with storage(path, remedy):
                _sync(descriptor)
        finally:
            os.close(descriptor)
        with storage(path, remedy):
            persistent(rename or os.replace, temporary, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def new_folder(folder: Path, contents: Mapping[str, bytes | Mapping[str, bytes]]) -> None:
    """Make a folder whole or not at all; `folder` must not exist (an empty one may).

    Args:
        contents: file name to bytes, written in this order; a mapping makes a folder of such files.

    Raises:
        InUse: another process was faster.
        StorageError: the disk refused; under the final name stands nothing, or the whole folder where only
            its last fsync failed.
    """
    temporary = folder.with_name(f"{TEMPORARY}{folder.name[:150]}-{_ours()}")
    with storage(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.mkdir(temporary)
        try:
            for name, data in contents.items():
                if isinstance(data, Mapping):
                    os.mkdir(temporary / name)
                    for inner, held in data.items():
                        write_new(temporary / name / inner, held)
                    if data:
                        sync_folder(temporary / name)
                else:
                    write_new(temporary / name, data)
            sync_folder(temporary)
            _rename_new(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder.parent)


def persistent(call: Callable[..., None], *paths: Path) -> None:
    """Rename or make; on Windows again and again, where a virus scanner, an indexer or a backup holds what is new."""
    for pause in (*(_PAUSES if sys.platform == "win32" else ()), None):
        try:
            return call(*paths)
        except PermissionError:
            if pause is None:
                raise
            time.sleep(pause)


def _rename_new(temporary: Path, folder: Path) -> None:
    try:
        if sys.platform == "win32" and folder.is_dir():
            with contextlib.suppress(OSError):  # elsewhere an empty folder is replaced by the renaming itself
                folder.rmdir()
        persistent(os.rename, temporary, folder)
    except OSError:
        if folder.is_dir() and any(folder.iterdir()):
            raise InUse("something stands there already", folder, "choose another --out") from None
        raise


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; a device, pipe or folder is never opened."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Damaged("not a regular file", path, "name a file")
    if limit is not None and status.st_size > limit:
        raise Damaged(f"{status.st_size:,} bytes where at most {limit:,} are expected", path, "restore the file")
    return path.read_bytes()


def remove_folder(folder: Path, patient: bool = True) -> None:
    """Take a sealed folder away: first its name, so that no half of it is ever seen.

    Args:
        patient: wait for who holds it on Windows.
    """
    grave = folder.with_name(f"{TEMPORARY}old-{folder.name[:150]}-{_ours()}")
    with storage(folder), contextlib.suppress(FileNotFoundError):
        persistent(os.rename, folder, grave) if patient else os.rename(folder, grave)
    shutil.rmtree(grave, ignore_errors=True)


def remove_temporaries(folder: Path, older: float = 0.0) -> None:
    """Clear what a killed writer left; call it only under the lock.

    Args:
        older: seconds for which it must not have changed, where others write without the lock.
    """
    with contextlib.suppress(FileNotFoundError):
        for entry in folder.iterdir():
            with contextlib.suppress(OSError):
                if entry.name.startswith(TEMPORARY) and (not older or time.time() - _changed(entry) > older):
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry, ignore_errors=True)
                    else:
                        entry.unlink(missing_ok=True)


def _changed(entry: Path) -> float:
    """When a file, or a folder or what lies in it, was last changed."""
    inner = list(entry.iterdir()) if entry.is_dir() and not entry.is_symlink() else []
    return max(path.lstat().st_mtime for path in (entry, *inner))


def remove_forgotten(folder: Path, form: str) -> None:
    """Remove what killed writers left of files with names of this form; one that is at work writes every few seconds.

    Args:
        form: a pattern of names, as `archive-*`.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{TEMPORARY}[0-9]*-{form}"):
            if time.time() - path.stat().st_mtime > FORGOTTEN:
                path.unlink()


class Appender:
    """A file of JSON lines that only grows; its length and digest can be stored and returned to."""

    def __init__(self, path: Path, length: int = 0, sha256: str | None = None) -> None:
        """Open `path`, cut back to `length` bytes, whose SHA-256 must be `sha256` where given.

        Raises:
            Damaged: the file is shorter than `length`, or its beginning was altered.
        """
        self.path = path
        with storage(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            kept = b""
            while len(kept) < length and (part := os.read(self._descriptor, length - len(kept))):
                kept += part
        if len(kept) != length or (sha256 is not None and digest(kept) != sha256):
            self.close()
            raise Damaged("the records were altered since the checkpoint", path, "restore the file")
        with storage(path):
            os.ftruncate(self._descriptor, length)
            os.lseek(self._descriptor, length, os.SEEK_SET)
        self.length = length
        self._hash = hashlib.sha256(kept)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def append(self, value: object) -> None:
        line = canonical(value)
        with storage(self.path):
            _write_all(self._descriptor, line)
        self._hash.update(line)
        self.length += len(line)

    def sync(self) -> None:
        with storage(self.path):
            _sync(self._descriptor)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def read_lines(path: Path) -> list[Facts]:
    """The values of a file of JSON lines; a last line that was cut by a crash is left out.

    Raises:
        Damaged: a whole line is not a JSON object, or the file cannot be read; says which line.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Damaged(f"cannot read: {error.strerror}", path, "make it readable") from None
    found = []
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        try:
            value = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Damaged(f"line {number} is not a JSON object", path, "restore the file")
        if line.strip():
            found.append(value)
    return found


def read_toml(path: Path, limit: int = 1 << 20) -> Facts:
    """The table of a TOML file of at most 1 MiB.

    Raises:
        UsageError: with line and column where the text is not TOML or not UTF-8 (UTF-16 with its mark will do).
    """
    try:
        data = read_regular(path, limit)
    except FileNotFoundError:
        raise UsageError("no such recipe file", path, "check the name") from None
    except Damaged as error:
        raise UsageError(error.what, path, "name a recipe file of at most 1 MiB") from None
    except OSError as error:
        raise UsageError(f"cannot read: {error.strerror}", path, "name a readable recipe file") from None
    code = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "UTF-8-sig"  # PowerShell's `>` writes UTF-16
    try:
        text = data.decode(code)
    except UnicodeDecodeError as error:
        sound = error.object[: error.start].decode(code)  # without the mark at the beginning, should there be one
        line, column = sound.count("\n") + 1, len(sound) - sound.rfind("\n")
        what = f"not {code.removesuffix('-sig')} at line {line}, column {column}"
        raise UsageError(what, path, "save the file as UTF-8") from None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of too many digits is a plain ValueError
        raise UsageError(f"not TOML: {error}", path, "correct the file") from None


def toml(table: Facts) -> str:
    """The TOML text of a table; entries that are None are left out."""
    return tomli_w.dumps(_without_none(table))


def _without_none(table: Facts) -> Facts:
    return {k: _without_none(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}
