"""Makes a pack of photographs: decoded once, none enlarged, written in one go.

An image whose shorter side is above `short_side` is brought to it (bilinear, antialiased; a JPEG of at least twice
that size is decoded smaller first), any other keeps its pixels. Orientation, transparency, palettes and depths are
settled as whenever an image is read; what is stored as grey stays one channel.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple, TypeVar

from residual.data.checking import KnowingStore, Verdict, nothing, refusal
from residual.data.encoded import Encoded, opened
from residual.data.folder import Sound, Wishes, class_names, sift
from residual.data.images import cover, to_tensor
from residual.data.layout import Layout
from residual.data.packed import PackWriter
from residual.data.places import scan
from residual.data.stores import File, Store, shown
from residual.data.workers import automatic, workers
from residual.errors import StorageError, UsageError, log
from residual.files import digest, growing_file, remove_forgotten, storage
from residual.sealed import mind_sealed
from residual.version import VERSION

SHORT_SIDE = 256
REMEDY = "make room, or name a file elsewhere"
_CHUNK = 64
_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


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
        UsageError: something stands at `out`, or came to stand there meanwhile.
        StorageError: the disk refused or has too little room; nothing stands at `out`.
    """
    wishes = wishes or Wishes()
    _make_sure_of_place(out)
    layout = scan(photos, wishes.follow_links, group=wishes.group, heed=heed)
    if isinstance(layout.store, KnowingStore):
        raise UsageError("this is a pack already", photos, "pack the photographs it was made from")
    names = class_names(layout)
    # The file is there before the images are looked at, which may take hours: what cannot be written is not begun.
    remove_forgotten(out.parent, glob.escape(out.name))
    with growing_file(out, REMEDY, _put) as write:

        def at_work() -> None:
            heed()
            write(b"")

        sound = sift(layout, names, wishes.threads, wishes.quarantine, at_work, allow="--quarantine ")
        _make_sure_of_place(out)
        _make_sure_of_room(out, expected_bytes(sound, short_side))
        resized = _write(write, layout, sound, short_side, wishes.threads, heed, told)
    images = sum(len(held.files) for held in sound.parts.values())
    return PackFacts(out, images, out.stat().st_size, resized, sound.left_out)


def _make_sure_of_place(out: Path) -> None:
    if os.path.lexists(out):
        raise UsageError("something stands there already", out, "name another file")
    mind_sealed(out)


def _put(temporary: Path, out: Path) -> None:
    """Give the pack its name, unless something has come to stand there in the hours that it took."""
    try:
        if sys.platform == "win32":
            os.rename(temporary, out)  # which replaces nothing there
        else:
            os.link(temporary, out)
    except OSError:
        _make_sure_of_place(out)
        os.replace(temporary, out)  # some file systems have no links


def expected_bytes(sound: Sound, short_side: int) -> int:
    """The bytes of the pixels that will be packed, by the sizes of the images."""
    count = 0
    for held in sound.parts.values():
        for verdict in held.verdicts:
            height, width = _reduced(verdict.height, verdict.width, short_side) or (verdict.height, verdict.width)
            count += height * width * (1 if verdict.grey else 3)
    return count


def _make_sure_of_room(out: Path, needed: int) -> None:
    """Say how large the pack will be.

    Raises:
        StorageError: the disk has not that much room.
    """
    with storage(out, REMEDY):
        free = shutil.disk_usage(out.parent).free
    log.info("the pack will have about %s bytes (%s)", f"{needed:,}", out)
    if needed > free:
        raise StorageError(f"the pack needs about {needed:,} bytes, and {free:,} are free", out, REMEDY)


def _write(
    write: Callable[[bytes], None],
    layout: Layout,
    sound: Sound,
    short_side: int,
    threads: int,
    heed: Callable[[], None],
    told: Callable[[int, int], None],
) -> int:
    """Write pixels, index and footer; how many images were resized."""
    rows = [
        (file, verdict, label, part)
        for part, held in sound.parts.items()
        for file, verdict, label in zip(held.files, held.verdicts, held.labels, strict=True)
    ]
    groups = sorted(set(layout.groups.values()))
    numbers = {group: number for number, group in enumerate(groups)}
    resized, pack = 0, PackWriter(write)
    done = _in_turn(lambda row: _pixels(layout.store, row[0], row[1], short_side), rows, threads)
    for number, ((file, verdict, label, part), (pixels, shape)) in enumerate(zip(rows, done, strict=True), 1):
        heed()
        pack.add(pixels, shape, label, part, numbers[layout.groups[file.path]] if file.path in layout.groups else -1)
        resized += {*shape[:2]} != {verdict.height, verdict.width}
        if number % _CHUNK == 0 or number == len(rows):
            told(number, len(rows))
    pack.end(
        {
            "written_by": VERSION,
            "short_side": short_side,
            "made_from": layout.words or "class folders",
            "class_names": list(sound.class_names),
            "titles": dict(layout.titles),
            "paths": [shown(row[0].path) for row in rows],
            "groups": groups,
            "left_out": dict(sound.left_out),
        }
    )
    return resized


def _in_turn(make: Callable[[_Given], _Made], things: Sequence[_Given], threads: int) -> Iterator[_Made]:
    """What is made of each, in their order; no more of it waits than twice the threads, as images may be large."""
    pool, at_work = workers(threads), deque[Future[_Made]]()
    try:
        for thing in things:
            if len(at_work) == 2 * (threads or automatic()):
                yield at_work.popleft().result()
            at_work.append(pool.submit(make, thing))
        while at_work:
            yield at_work.popleft().result()
    finally:
        for one in at_work:
            one.cancel()


def _reduced(height: int, width: int, short_side: int) -> tuple[int, int] | None:
    """The (height, width) to which an image of this size is brought; None where it stays as it is."""
    if not short_side or min(width, height) <= short_side:
        return None
    scale = short_side / min(width, height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _pixels(store: Store, file: File, verdict: Verdict, short_side: int) -> tuple[bytes, tuple[int, int, int]]:
    data, where = store.read(file), store.say(file.path)
    if digest(data) != verdict.sha256:
        raise refusal(store, file)
    channels = 1 if verdict.grey else 3
    with opened(data, where) as image:
        picture = Encoded(image)
        width, height = picture.size
        size = _reduced(height, width, short_side)
        if size is None:
            pixels = picture.array(channels)
        else:
            array = picture.array(channels, (size[1], size[0]))
            pixels = cover(to_tensor(array), size, where).permute(1, 2, 0).numpy()
    return pixels.tobytes(), (pixels.shape[0], pixels.shape[1], pixels.shape[2])
