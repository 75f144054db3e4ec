"""A pack: photographs decoded once, brought to a stated shorter side, in one file that is mapped into memory.

    8 bytes   RESIDPK1
    ...       the pixels of every image, uint8 HWC, C = 1 (stored as grey) or 3, one after the other
    ...       the index: 8 bytes length, facts as JSON, then a safetensors table (offset, height, width, channels,
              label, part, group, and sha256 of the pixels, a row for each image)
    56 bytes  offset and length of the index (little-endian), its SHA-256, RESIDPK1 again

The file is written whole or not at all. The index is verified when the pack is opened, the pixels of an image when
they are first read. `packing` writes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from residual.data.checking import Verdict
from residual.data.layout import Class, Layout, Part
from residual.data.limits import PIXEL_LIMIT
from residual.data.stores import File, shown
from residual.errors import DataError
from residual.files import digest

MAGIC = b"RESIDPK1"
FORMAT = 1
PARTS: tuple[Part, ...] = ("all", "train", "validation", "test")
COLUMNS = ("offset", "height", "width", "channels", "label", "part", "group", "sha256")
_FOOTER = struct.Struct("<QQ32s8s")
_LARGEST_INDEX = 1 << 32
_ADVICE = "make the pack again with `residual data pack`"


def is_pack(path: Path) -> bool:
    """Whether a file begins as a pack does."""
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


class PackWriter:
    """Writes the parts of a pack in their order: images, then the index."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write, self._place = write, len(MAGIC)
        self._table: dict[str, list[object]] = {name: [] for name in COLUMNS}
        write(MAGIC)

    def add(self, pixels: bytes, shape: tuple[int, int, int], label: int, part: Part, group: int = -1) -> None:
        """An image, uint8 HWC; `group` is its number among the groups."""
        row = (self._place, *shape, label, PARTS.index(part), group, [*hashlib.sha256(pixels).digest()])
        for name, value in zip(COLUMNS, row, strict=True):
            self._table[name].append(value)
        self._write(pixels)
        self._place += len(pixels)

    def end(self, facts: Mapping[str, Any]) -> None:
        """The index.

        Args:
            facts: `class_names`, `titles`, `paths` of the images in their order, `groups`, and what else is known.
        """
        kinds = {"offset": torch.int64, "label": torch.int64, "channels": torch.uint8, "part": torch.uint8}
        tensors = {
            name: torch.tensor(values, dtype=torch.uint8 if name == "sha256" else kinds.get(name, torch.int32))
            for name, values in self._table.items()
        }
        index = index_bytes({"format": FORMAT, **facts}, tensors)
        self._write(index)
        self._write(footer(self._place, index))


def index_bytes(facts: Mapping[str, Any], table: dict[str, Tensor]) -> bytes:
    head = json.dumps(facts, ensure_ascii=True, allow_nan=False).encode()
    return struct.pack("<Q", len(head)) + head + safetensors.torch.save(table)


def footer(offset: int, index: bytes) -> bytes:
    return _FOOTER.pack(offset, len(index), bytes.fromhex(digest(index)), MAGIC)


@dataclass(frozen=True)
class Packed:
    """An image of a pack; its pixels are those of the file, copied by whoever keeps them."""

    pixels: NDArray[np.uint8]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def array(self, channels: int, least: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """uint8 HWC, in its own size always."""
        if self.pixels.shape[2] == channels:
            return self.pixels
        if channels == 3:
            return np.broadcast_to(self.pixels, (*self.pixels.shape[:2], 3))
        return np.asarray(Image.fromarray(np.ascontiguousarray(self.pixels)).convert("L"))[..., None]


@dataclass(frozen=True)
class PackStore:
    """The images of a pack by name."""

    place: Path
    facts: Mapping[str, Any]
    table: Mapping[str, Tensor]
    numbers: Mapping[str, int]
    _read: set[int] = field(default_factory=set, repr=False, compare=False)

    @cached_property
    def _map(self) -> NDArray[np.uint8]:
        return np.memmap(self.place, np.uint8, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Without the file itself, which is mapped again where it is looked into."""
        derived = ("_map", "_columns", "_sha256")
        return {name: set() if name == "_read" else value for name, value in vars(self).items() if name not in derived}

    def verdicts(self, files: Sequence[File]) -> list[Verdict]:
        """Of all of them at once: a look into a tensor for every image would take a second for each 100,000."""
        height, width, channels = (self.table[name].tolist() for name in ("height", "width", "channels"))
        sha256 = self._sha256
        return [
            Verdict(file.size, file.changed, sha256[at : at + 32].hex(), width[n], height[n], channels[n] == 1, "")
            for file in files
            for n in (self.numbers[file.path],)
            for at in (32 * n,)
        ]

    @cached_property
    def _sha256(self) -> bytes:
        """Of the pixels of every image, 32 bytes each."""
        return self.table["sha256"].numpy().tobytes()

    def picture(self, file: File) -> Packed:
        number = self.numbers[file.path]
        start, *shape = (int(column[number]) for column in self._columns)
        pixels = self._map[start : start + shape[0] * shape[1] * shape[2]]
        if number not in self._read:
            if hashlib.sha256(pixels.data).digest() != self._sha256[32 * number : 32 * number + 32]:
                raise DataError("the pixels are not those that were packed", self.say(file.path), _ADVICE)
            self._read.add(number)
        return Packed(pixels.reshape(shape))

    def read(self, file: File) -> bytes:
        return self.picture(file).pixels.tobytes()

    def still(self, file: File) -> bool:
        return True

    def say(self, path: str) -> str:
        return shown(f"{self.place}: {path}")

    @cached_property
    def _columns(self) -> list[NDArray[Any]]:
        """Offset and shape by image: to look into a tensor takes ten times as long."""
        return [self.table[name].numpy() for name in ("offset", "height", "width", "channels")]

    def layout(self) -> Layout:
        """The images by part and class, in the order in which they were packed."""
        names, paths = self.facts["class_names"], self.facts["paths"]
        rows = zip(
            paths, *(self.table[n].tolist() for n in ("label", "part", "height", "width", "channels")), strict=True
        )
        found: dict[Part, dict[str, Class]] = {}
        for path, label, part, height, width, channels in rows:
            held = found.setdefault(PARTS[part], {}).setdefault(names[label], Class())
            held.files.append(File(path, height * width * channels, 0))
        groups = self.facts["groups"]
        belong = {p: groups[g] for p, g in zip(paths, self.table["group"].tolist(), strict=True) if g >= 0}
        return Layout(self, found, self.facts["titles"], "pack", belong)


def same_pack(one: Path, other: Path) -> bool:
    """Whether two packs hold the same, whichever release wrote them: their indexes have the digest of every image."""
    facts, tables = zip(*((store.facts, store.table) for store in map(open_pack, (one, other))), strict=True)
    told = [{name: value for name, value in these.items() if name != "written_by"} for these in facts]
    return told[0] == told[1] and all(torch.equal(tables[0][name], tables[1][name]) for name in COLUMNS)


def open_pack(path: Path) -> PackStore:
    """The images of a pack, its index verified.

    Raises:
        DataError: it is cut, altered, or of a newer format.
    """
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as stream:
            stream.seek(max(0, size - _FOOTER.size))
            tail = stream.read(_FOOTER.size)
            offset, length, sha256, magic = _FOOTER.unpack(tail) if len(tail) == _FOOTER.size else (0, 0, b"", b"")
            if magic != MAGIC or offset + length + _FOOTER.size != size or length > _LARGEST_INDEX:
                raise DataError("the pack is cut or lengthened", path, _ADVICE)
            stream.seek(offset)
            index = stream.read(length)
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", path, "make it readable") from None
    if digest(index) != sha256.hex():
        raise DataError("the index of the pack is damaged", path, _ADVICE)
    try:
        (head,) = struct.unpack_from("<Q", index)
        facts = json.loads(index[8 : 8 + head])
        if facts.get("format", 0) > FORMAT:
            what = f"format {facts['format']} of a pack is newer than this program"
            raise DataError(what, path, f"it was written by residual {facts.get('written_by')}; install that release")
        table = safetensors.torch.load(index[8 + head :])
        _check(facts, table, offset)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, safetensors.SafetensorError, RecursionError):
        raise DataError("the index of the pack is not what this program writes", path, _ADVICE) from None
    return PackStore(path, facts, table, {name: number for number, name in enumerate(facts["paths"])})


def _check(facts: dict[str, Any], table: dict[str, Tensor], end: int) -> None:
    """Raise ValueError unless every row lies in the file and means something."""
    count, classes = len(facts["paths"]), len(facts["class_names"])
    if len(set(facts["paths"])) != count or not all(isinstance(p, str) for p in facts["paths"] + facts["class_names"]):
        raise ValueError
    if set(table) != set(COLUMNS) or any(len(table[name]) != count for name in COLUMNS) or not count:
        raise ValueError
    area = table["height"].long() * table["width"].long()
    last = table["offset"] + area * table["channels"].long()
    sound = (
        (table["height"] > 0) & (table["width"] > 0) & (area <= PIXEL_LIMIT)
        & ((table["channels"] == 1) | (table["channels"] == 3))
        & (table["offset"] >= len(MAGIC)) & (last <= end)
        & (table["label"] >= 0) & (table["label"] < classes)
        & (table["part"] >= 0) & (table["part"] < len(PARTS))
        & (table["group"] >= -1) & (table["group"] < max(1, len(facts["groups"])))
    )  # fmt: skip
    if not bool(sound.all()) or table["sha256"].shape != (count, 32) or table["sha256"].dtype != torch.uint8:
        raise ValueError
    if not isinstance(facts["titles"], dict):
        raise TypeError
