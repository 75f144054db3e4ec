"""CIFAR-10 from the official *binary version*: a folder or the .tar.gz as published.

Each of the six files holds 10,000 records of one label byte and 3,072 pixel bytes, planes red,
green, blue, rows from the top (Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*,
2009, and the data set's page). A file counts only if its size and SHA-256 are the expected ones.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from residual.data.source import Dataset, MemorySource
from residual.errors import DataError, UsageError
from residual.files import Damaged, read_regular

FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + 3 * 32 * 32
TEST = "test_batch.bin"
OFFICIAL = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    TEST: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
_FILE_SIZE = 10_000 * RECORD
_FILE_LIMIT = 2 * _FILE_SIZE  # what may be read of one file before it is refused
_ARCHIVE_LIMIT = 1 << 28
_MOST_MEMBERS = 1000
_RESTORE = f"take the file again from the official {ARCHIVE}"


def locate(place: Path) -> Path:
    """The folder of .bin files or the archive meant by `place`: itself, or what lies just inside it.

    Raises:
        DataError: neither is there; says what was found and what is expected.
    """
    try:
        for candidate in (place, place / FOLDER, place / ARCHIVE):
            if candidate.is_file() or (candidate.is_dir() and any(candidate.glob("*_batch*.bin"))):
                return candidate
        if place.is_dir():
            found = "another folder" if any(place.iterdir()) else "an empty folder"
        else:
            found = "neither a file nor a folder" if place.exists() else "no such file or folder"
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", str(place)[:200], "check --data") from None
    raise DataError(
        f"no CIFAR-10 here: {found}",
        place,
        f"name the folder {FOLDER} (data_batch_1.bin ... test_batch.bin) or {ARCHIVE} with --data",
    )


def stamps(place: Path, checksums: Mapping[str, str] = OFFICIAL) -> dict[str, list[int]]:
    """Size and time of change of every file that reading would open; tells whether one was replaced."""
    files = [place] if place.is_file() else [place / name for name in checksums]
    return {f.name: [f.stat().st_size, f.stat().st_mtime_ns] if f.exists() else [] for f in files}


def _from_folder(folder: Path, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        try:
            yield name, read_regular(folder / name, _FILE_LIMIT)
        except FileNotFoundError:
            raise DataError("a CIFAR-10 file is missing", folder / name, _RESTORE) from None
        except OSError as error:
            raise DataError(f"cannot read: {error.strerror}", folder / name, "make it readable") from None


class _Bounded(gzip.GzipFile):
    """Unpacks up to a limit, so that memory and time are bounded however small the archive is."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if self.tell() > _ARCHIVE_LIMIT:
            raise DataError("the archive is larger than CIFAR-10", self.name, _RESTORE)
        return data


def _from_archive(archive: Path, names: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    wanted = set(names)
    try:
        with _Bounded(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for number, member in enumerate(tar):
                if number >= _MOST_MEMBERS or member.offset_data + member.size > _ARCHIVE_LIMIT:
                    raise DataError("the archive is larger than CIFAR-10", archive, _RESTORE)
                name = member.name.rsplit("/", 1)[-1]
                if name in wanted and member.isreg():
                    if member.size > _FILE_LIMIT:
                        raise DataError(f"{name} ({member.size:,} bytes) is too large", archive, _RESTORE)
                    file = tar.extractfile(member)
                    assert file is not None  # a regular file
                    wanted.discard(name)
                    yield name, file.read()
            while stream.read(1 << 20):
                pass  # to the end, where the length and the checksum of the whole stand
    # Header fields of a forged archive are numbers, text and nesting of any kind.
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"the archive is damaged: {error}", archive, _RESTORE) from None
    if wanted:
        raise DataError(f"the archive lacks {', '.join(sorted(wanted))}", archive, _RESTORE)


def verify(name: str, data: bytes, expected: str, where: object) -> None:
    """Raise `DataError` unless `data` has the expected SHA-256 and a whole number of records."""
    if hashlib.sha256(data).hexdigest() == expected:
        if len(data) % RECORD:
            raise DataError(f"{name} holds {len(data):,} bytes, not a multiple of {RECORD}", where, _RESTORE)
        return
    size = f"{len(data):,} bytes" + ("" if len(data) == _FILE_SIZE else f" where {_FILE_SIZE:,} are expected")
    raise DataError(f"{name} ({size}) does not match its published SHA-256", where, _RESTORE)


def _decode(data: bytes) -> tuple[Tensor, Tensor]:
    records = torch.from_numpy(np.frombuffer(data, np.uint8).reshape(-1, RECORD).copy())
    return records[:, 1:].reshape(-1, 3, 32, 32).contiguous(), records[:, 0].long()


def read_cifar10(place: Path, checksums: Mapping[str, str] = OFFICIAL) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images, uint8 (N, 3, 32, 32).

    Args:
        place: the folder of .bin files, the .tar.gz, or a folder that holds either.
        checksums: file name to SHA-256; the official ones unless told otherwise. The files are read
            in this order, and `test_batch.bin` is the test set.

    Raises:
        DataError: a file is absent, cut, lengthened or altered; names the file and what to do.
    """
    if TEST not in checksums or len(checksums) < 2:
        raise UsageError("checksums name no training or no test file", place, f"name {TEST} and at least one other")
    found = locate(place)
    reader = _from_archive if found.is_file() else _from_folder
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    try:
        for name, data in reader(found, checksums):
            verify(name, data, checksums[name], found)
            parts[name] = _decode(data)
    except Damaged as error:
        raise DataError(error.what, error.where, _RESTORE) from None
    for name, (_, labels) in parts.items():
        if len(labels) and int(labels.max()) >= len(CLASS_NAMES):
            raise DataError(f"{name} holds label {int(labels.max())}; labels end at 9", found, _RESTORE)
    order = [name for name in checksums if name != TEST]
    return Dataset(
        name="cifar-10",
        train=MemorySource(torch.cat([parts[n][0] for n in order]), torch.cat([parts[n][1] for n in order])),
        test=MemorySource(*parts[TEST]),
        class_names=CLASS_NAMES,
        channels=3,
        image_size=(32, 32),
        checksums=dict(checksums),
        origin=str(found.absolute()),
    )
