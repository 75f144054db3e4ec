"""Published files: which they are, where they lie, and their bytes, each verified before anyone looks inside.

A data set is published in *forms* (CIFAR: a binary and a Python version), each an archive and the folder it
unpacks to. Archives are read as a stream and never unpacked to a disk, so that no name in one matters. A file
counts only if its SHA-256 is the expected one.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from residual.errors import DataError
from residual.files import Damaged, read_regular

HOST = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE_LIMIT = 1 << 28
_MOST_MEMBERS = 1000
_PICKLE = b"\x80\x02"  # protocol 2, in which the Python versions are published

Kind = Literal["binary", "python"]


@dataclass(frozen=True)
class Form:
    """One published form: an archive, and the files that are read of it."""

    dataset: str
    title: str
    kind: Kind
    archive: str
    size: int  # bytes of the archive
    sha256: str  # of the archive
    md5: str  # of the archive, as the data set's page gives it
    folder: str
    files: Mapping[str, str]  # name: SHA-256, in the order they are read
    test: str  # the one of them with the test images
    largest: int  # bytes of the largest of them
    records: Mapping[str, str]  # name: SHA-256 of the same images written as binary records, where it is known

    @property
    def url(self) -> str:
        return HOST + self.archive

    @property
    def fetch(self) -> str:
        """The command that downloads it."""
        return f"residual data fetch {self.dataset}" + (" --form python" if self.kind == "python" else "")

    @property
    def restore(self) -> str:
        return f"take the file again from the official {self.archive}, as `{self.fetch}` does"


def _holds(folder: Path, form: Form) -> bool:
    """Whether files of a form lie here: any of them; of names without a suffix all, or one that begins as a pickle.

    Anything may be named `train` or `test`.
    """
    there = [path for path in (folder / name for name in form.files) if path.exists() and not path.is_dir()]
    return len(there) == len(form.files) or any(path.suffix or _begins_as_pickle(path) for path in there)


def _begins_as_pickle(path: Path) -> bool:
    if not path.is_file():  # a pipe would have to be waited for
        return False
    try:
        with open(path, "rb") as stream:
            return stream.read(len(_PICKLE)) == _PICKLE
    except OSError:
        return True  # whoever reads it says what is wrong


def recognised(place: Path, forms: Sequence[Form]) -> Form | None:
    """The form that lies at `place`, judged by names, and by first bytes where names do not suffice."""
    try:
        for form in forms:
            if place.is_file():
                if place.name == form.archive:
                    return form
            elif _holds(place, form) or _holds(place / form.folder, form) or (place / form.archive).is_file():
                return form
    except OSError:
        pass
    return None


def locate(place: Path, forms: Sequence[Form]) -> Path:
    """The folder of files or the archive meant by `place`: itself, or what lies just inside it.

    Raises:
        DataError: neither is there; says what was found and what is expected.
    """
    try:
        if place.is_file():
            return place
        for form in forms:
            for folder in (place, place / form.folder):
                if _holds(folder, form):
                    return folder
            if (place / form.archive).is_file():
                return place / form.archive
        if place.is_dir():
            found = "another folder" if any(place.iterdir()) else "an empty folder"
        else:
            found = "neither a file nor a folder" if place.exists() else "no such file or folder"
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", str(place)[:200], "check --data") from None
    first = forms[0]
    names = list(first.files)
    raise DataError(
        f"no {first.title} here: {found}",
        place,
        f"name the folder {' or '.join(f.folder for f in forms)} (as with {names[0]} ... {names[-1]}), "
        f"or {' or '.join(f.archive for f in forms)}, with --data; `{first.fetch}` downloads it",
    )


def stamps(place: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """Size and time of change of every file that reading would open; tells whether one was replaced."""
    files = [place] if place.is_file() else [place / name for name in names]
    return {f.name: [f.stat().st_size, f.stat().st_mtime_ns] if f.exists() else [] for f in files}


def contents(place: Path, forms: Sequence[Form]) -> Iterator[tuple[Form, str, bytes]]:
    """(form, name, bytes) of every file of the form that lies at `place`, as `locate` gave it; all verified.

    Raises:
        DataError: a file is absent, cut, lengthened or altered; names the file and what to do.
    """
    reader = _from_archive if place.is_file() else _from_folder
    try:
        for form, name, data in reader(place, forms):
            verify(form, name, data, place)
            yield form, name, data
    except Damaged as error:
        raise DataError(error.what, error.where, forms[0].restore) from None


def verify(form: Form, name: str, data: bytes, where: object) -> None:
    """Raise `DataError` unless `data` has the published SHA-256."""
    if hashlib.sha256(data).hexdigest() != form.files[name]:
        raise DataError(f"{name} ({len(data):,} bytes) does not match its published SHA-256", where, form.restore)


def _from_folder(folder: Path, forms: Sequence[Form]) -> Iterator[tuple[Form, str, bytes]]:
    form = next((form for form in forms if _holds(folder, form)), forms[0])
    for name in form.files:
        try:
            yield form, name, read_regular(folder / name, 2 * form.largest)
        except FileNotFoundError:
            raise DataError(f"a {form.title} file is missing", folder / name, form.restore) from None
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", folder / name, "make it readable") from None


class _Bounded(gzip.GzipFile):
    """Unpacks up to a limit, so that memory and time are bounded however small the archive is."""

    def __init__(self, archive: Path, form: Form) -> None:
        super().__init__(archive)
        self.form = form

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > ARCHIVE_LIMIT:
            raise DataError(f"the archive is larger than {self.form.title}", self.name, self.form.restore)
        return data


def _from_archive(archive: Path, forms: Sequence[Form]) -> Iterator[tuple[Form, str, bytes]]:
    form, wanted = forms[0], set(forms[0].files)
    begun = False
    try:
        with _Bounded(archive, form) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for number, member in enumerate(tar):
                if number >= _MOST_MEMBERS or member.offset_data + member.size > ARCHIVE_LIMIT:
                    raise DataError(f"the archive is larger than {form.title}", archive, form.restore)
                name = member.name.rsplit("/", 1)[-1]
                if not member.isreg():
                    continue
                if not begun and (meant := [f for f in forms if name in f.files]):
                    form, wanted, begun = meant[0], set(meant[0].files), True
                if name in wanted:
                    if member.size > 2 * form.largest:
                        raise DataError(f"{name} ({member.size:,} bytes) is too large", archive, form.restore)
                    file = tar.extractfile(member)
                    assert file is not None  # a regular file
                    wanted.discard(name)
                    yield form, name, file.read()
            while stream.read(1 << 20):
                pass  # to the end, where the length and the checksum of the whole stand
    # Header fields of a forged archive are numbers, text and nesting of any kind.
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"the archive is damaged: {error}", archive, form.restore) from None
    if wanted:
        raise DataError(f"the archive lacks {', '.join(sorted(wanted))}", archive, form.restore)
