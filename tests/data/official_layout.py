"""CIFAR-10 in small: files and archives of the official layout with a few images each, and their own checksums."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np

from residual.data.cifar import FOLDER, OFFICIAL, RECORD

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
