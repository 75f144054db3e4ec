"""CIFAR in small: files and archives of the official layout with a few images each, and their own checksums."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from residual.data.cifar import FOLDER, OFFICIAL, RECORD, Family
from residual.data.published import Form

IMAGES = 4  # in each file


def records(number: int, images: int = IMAGES) -> bytes:
    """Pixels of no pattern; the labels of file `number` begin at that number."""
    drawn = np.random.default_rng(number).integers(0, 256, (images, RECORD), dtype=np.uint8)
    drawn[:, 0] = (number + np.arange(images)) % 10
    return drawn.tobytes()


FILES = {name: records(number) for number, name in enumerate(OFFICIAL)}


def checksums(files: dict[str, bytes] | None = None) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in (files or FILES).items()}


def write_files(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    folder.mkdir(parents=True)
    for name, data in (files or FILES).items():
        (folder / name).write_bytes(data)
    return folder


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """One entry of an archive; `fields` are those of `TarInfo`, such as type and linkname."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def official_members(prefix: str = f"{FOLDER}/") -> list[tuple[tarfile.TarInfo, bytes]]:
    """As published: the folder, its files in another order than they are read, and a page of text."""
    folder = [member(prefix.rstrip("/"), type=tarfile.DIRTYPE)] if prefix else []
    files = [member(prefix + name, data) for name, data in reversed(FILES.items())]
    return [*folder, *files, member(f"{prefix}readme.html", b"<html>")]


def write_archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


# CIFAR-10 and CIFAR-100 in both published forms


class Official(NamedTuple):
    """A family with the checksums of a few images, its files and its archives, by form."""

    family: Family
    files: dict[str, dict[str, bytes]]
    archives: dict[str, bytes]

    def write(self, folder: Path, kind: str, archive: bool) -> Path:
        form = self.form(kind)
        if not archive:
            return write_files(folder / form.folder, self.files[kind])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / form.archive).write_bytes(self.archives[kind])
        return folder / form.archive

    def form(self, kind: str) -> Form:
        return next(form for form in self.family.forms if form.kind == kind)


def labelled(count: int, family: Family, seed: int) -> np.ndarray:
    """Records of random pixels in which every class is as frequent as every other, as far as `count` allows."""
    records = np.random.default_rng(seed).integers(0, 256, (count, len(family.labels) + 3072), dtype=np.uint8)
    for column, names in enumerate(family.labels.values()):
        records[:, column] = np.arange(count) % len(names)
    return records


def as_table(records: np.ndarray, family: Family) -> dict[bytes, object]:
    """What the Python version holds of the same images."""
    columns = {key: records[:, column].tolist() for column, key in enumerate(family.keys.values())}
    names = [b"image_%d.png" % number for number in range(len(records))]
    return {b"batch_label": b"a batch", **columns, b"data": records[:, len(columns) :], b"filenames": names}


def in_small(family: Family, training: int, test: int, fortran: bool = False) -> Official:
    """Files of the official names and layouts with a few images each."""
    files: dict[str, dict[str, bytes]] = {}
    for form in family.forms:
        parts = [name for name in form.files if name != form.test]
        share = training // len(parts)
        tables = {name: labelled(share, family, number) for number, name in enumerate(parts)}
        tables[form.test] = labelled(test, family, 99)
        if form.kind == "binary":
            files[form.kind] = {name: table.tobytes() for name, table in tables.items()}
        else:
            files[form.kind] = {name: pickled(as_table(table, family), fortran) for name, table in tables.items()}
    archives: dict[str, bytes] = {}
    forms = []
    for form in family.forms:
        members = [member(form.folder, type=tarfile.DIRTYPE)]
        members += [member(f"{form.folder}/{name}", data) for name, data in files[form.kind].items()]
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
            for info, data in members:
                tar.addfile(info, io.BytesIO(data))
        archives[form.kind] = buffer.getvalue()
        known = {name: hashlib.sha256(data).hexdigest() for name, data in files["binary"].items()}
        forms.append(
            replace(
                form,
                size=len(buffer.getvalue()),
                sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
                files=checksums(files[form.kind]),
                records={name: known[f"{name}.bin"] for name in form.records},
            )
        )
    return Official(replace(family, forms=tuple(forms), images=(training, test)), files, archives)


def pickled(value: object, fortran: bool = False) -> bytes:
    """Protocol 2 as Python 2's cPickle wrote it: strings are byte strings, everything is memorised."""
    numbers = iter(range(1, 1 << 30))

    def memorised(code: bytes) -> bytes:
        number = next(numbers)
        return code + (b"q" + bytes([number]) if number < 256 else b"r" + number.to_bytes(4, "little"))

    def name(module: str, word: str) -> bytes:
        return memorised(f"c{module}\n{word}\n".encode())

    def write(value: object) -> bytes:
        match value:
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                for code, size in ((b"K", 1), (b"M", 2)):
                    if 0 <= value < 1 << 8 * size:
                        return code + value.to_bytes(size, "little")
                return b"J" + value.to_bytes(4, "little", signed=True)
            case bytes():
                short = len(value) < 256
                return memorised(
                    (b"U" + bytes([len(value)]) if short else b"T" + len(value).to_bytes(4, "little")) + value
                )
            case dict():
                start = memorised(b"}")
                return start + b"(" + b"".join(write(k) + write(v) for k, v in value.items()) + b"u" if value else start
            case list():
                start, items = memorised(b"]"), [write(item) for item in value]
                batches = [items[at : at + 1000] for at in range(0, len(items), 1000)]
                return start + b"".join(
                    b"(" + b"".join(batch) + b"e" if len(batch) > 1 else batch[0] + b"a" for batch in batches
                )
            case tuple():
                return memorised(b"(" + b"".join(map(write, value)) + b"t") if value else b")"
            case np.ndarray():
                made = name("numpy.core.multiarray", "_reconstruct") + name("numpy", "ndarray")
                made = memorised(memorised(made + memorised(b"K\x00\x85") + write(b"b") + b"\x87") + b"R")
                kind = memorised(memorised(name("numpy", "dtype") + write(b"u1") + b"K\x00K\x01\x87") + b"R")
                kind += memorised(b"(K\x03" + write(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t") + b"b"
                state = b"(K\x01" + write(value.shape) + kind + write(fortran)
                return made + state + write(value.tobytes("F" if fortran else "C")) + b"tb"
        raise TypeError(type(value))

    return b"\x80\x02" + write(value) + b"."
