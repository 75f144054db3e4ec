"""Makes a pack of photographs: decoded once, none enlarged, written in one go.

An image whose shorter side is above `short_side` is brought to it (bilinear, antialiased; a JPEG of at least twice
that size is decoded smaller first), any other keeps its pixels. Orientation, transparency, palettes and depths are
settled as whenever an image is read; what is stored as grey stays one channel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from residual.data.checking import KnowingStore, Verdict, nothing
from residual.data.encoded import Encoded, opened
from residual.data.folder import Wishes, class_names, sift
from residual.data.images import cover, to_tensor
from residual.data.packed import COLUMNS, FORMAT, MAGIC, PARTS, footer, index_bytes
from residual.data.places import scan
from residual.data.stores import Changed, File, Store, shown
from residual.data.workers import workers
from residual.errors import UsageError
from residual.files import digest, growing_file
from residual.version import VERSION

SHORT_SIDE = 256
_CHUNK = 64


class PackFacts(NamedTuple):
    """What was packed."""

    path: Path
    images: int
    bytes: int
    resized: int
    left_out: dict[str, str]


def pack(
    photos: Path,
    out: Path,
    short_side: int = SHORT_SIDE,
    wishes: Wishes | None = None,
    heed: Callable[[], None] = nothing,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> PackFacts:
    """Write a pack of the photographs at a place.

    Args:
        short_side: the shorter side in pixels; 0 keeps every image as it is.
        wishes: quarantine, links, groups and threads, as for training.
        told: given how many images of how many are done.

    Raises:
        DataError: images that cannot be used, as for training.
        UsageError: something stands at `out`.
        StorageError: the disk refused; nothing stands at `out`.
    """
    wishes = wishes or Wishes()
    if out.exists() or out.is_symlink():
        raise UsageError("something stands there already", out, "name another file")
    layout = scan(photos, wishes.follow_links, group=wishes.group, heed=heed)
    if isinstance(layout.store, KnowingStore):
        raise UsageError("this is a pack already", photos, "pack the photographs it was made from")
    names = class_names(layout)
    sound = sift(layout, names, wishes.threads, wishes.quarantine, heed)
    rows = [
        (file, verdict, label, PARTS.index(part))
        for part, held in sound.parts.items()
        for file, verdict, label in zip(held.files, held.verdicts, held.labels, strict=True)
    ]
    groups = sorted(set(layout.groups.values()))
    numbers = {group: number for number, group in enumerate(groups)}
    table: dict[str, list[object]] = {name: [] for name in COLUMNS}
    place, resized = len(MAGIC), 0
    with growing_file(out) as write:
        write(MAGIC)
        for start in range(0, len(rows), _CHUNK):
            heed()
            chunk = rows[start : start + _CHUNK]
            done = workers(wishes.threads).map(lambda row: _pixels(layout.store, row[0], row[1], short_side), chunk)
            for (file, verdict, label, part), (pixels, (height, width, channels)) in zip(chunk, done, strict=True):
                group = numbers[layout.groups[file.path]] if file.path in layout.groups else -1
                values = (place, height, width, channels, label, part, group, [*hashlib.sha256(pixels).digest()])
                for name, value in zip(COLUMNS, values, strict=True):
                    table[name].append(value)
                resized += {height, width} != {verdict.height, verdict.width}
                write(pixels)
                place += len(pixels)
            told(min(start + _CHUNK, len(rows)), len(rows))
        facts = {
            "format": FORMAT,
            "written_by": VERSION,
            "short_side": short_side,
            "made_from": layout.words or "class folders",
            "class_names": list(names),
            "titles": dict(layout.titles),
            "paths": [shown(row[0].path) for row in rows],
            "groups": groups,
            "left_out": dict(sound.left_out),
        }
        kinds = {"offset": torch.int64, "label": torch.int64, "channels": torch.uint8, "part": torch.uint8}
        tensors = {
            name: torch.tensor(values, dtype=torch.uint8 if name == "sha256" else kinds.get(name, torch.int32))
            for name, values in table.items()
        }
        index = index_bytes(facts, tensors)
        write(index)
        write(footer(place, index))
    return PackFacts(out, len(rows), out.stat().st_size, resized, sound.left_out)


def _pixels(store: Store, file: File, verdict: Verdict, short_side: int) -> tuple[bytes, tuple[int, int, int]]:
    data, where = store.read(file), store.say(file.path)
    if digest(data) != verdict.sha256:
        raise Changed("the file was changed since it was checked", where)
    channels = 1 if verdict.grey else 3
    with opened(data, where) as image:
        picture = Encoded(image)
        width, height = picture.size
        if not short_side or min(width, height) <= short_side:
            pixels = picture.array(channels)
        else:
            scale = short_side / min(width, height)
            size = (max(1, round(height * scale)), max(1, round(width * scale)))
            array = picture.array(channels, (size[1], size[0]))
            pixels = cover(to_tensor(array), size, where).permute(1, 2, 0).numpy()
    return pixels.tobytes(), (pixels.shape[0], pixels.shape[1], pixels.shape[2])
