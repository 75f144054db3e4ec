"""The layouts in which ImageNet and Tiny ImageNet are given out, read as they are.

Tiny ImageNet (Stanford's CS231n): train/WNID/images/*.JPEG, val/images/ with labels in val/val_annotations.txt, and
test/ without labels, which is not used. ImageNet (ILSVRC 2012): ILSVRC2012_img_train.tar, an archive of one archive
for each class, and ILSVRC2012_img_val.tar, whose labels stand in the development kit (ILSVRC2012_devkit_t12.tar.gz,
unpacked or not) or in Kaggle's LOC_val_solution.csv. Nothing is unpacked.

Classes are named by their WordNet number and called by the first of its words, where these are at hand.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from residual.data.archives import Member, index, members
from residual.data.checking import nothing
from residual.data.layout import Bad, Class, Layout, Part, part_of
from residual.data.matlab import read_matlab
from residual.data.stores import ArchiveStore, File
from residual.data.trees import Fault, Tree, stop
from residual.errors import DataError, log
from residual.files import Damaged, read_regular

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT, SOLUTION = "ILSVRC2012_devkit_t12", "LOC_val_solution.csv"
TINY_IMAGENET, IMAGENET = "Tiny ImageNet's native layout", "ImageNet's official archives"
"""What a run remembers as its layout."""
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_ANNOTATIONS = "val/val_annotations.txt"
_TEXT = 1 << 26
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def called(names: list[str], words: Mapping[str, str]) -> dict[str, str]:
    """What a person calls each class: the first of its words, with its number where another one is called the same."""
    first = {name: words.get(name, "").split(",")[0].strip() or name for name in names}
    often = Counter(first.values())
    return {name: word if often[word] == 1 else f"{word} ({name})" for name, word in first.items()}


# -- Tiny ImageNet


def is_tiny(tree: Tree) -> bool:
    if not tree.text(_ANNOTATIONS):
        return False
    inside = ((place, entry) for place in ("", "val") for entry in tree.list(place, tree.real, (), stop))
    folders = {(place, entry.name) for place, entry in inside if entry.is_folder}
    return {("", "train"), ("val", "images")} <= folders


def scan_tiny(tree: Tree, fault: Fault = stop) -> Layout:
    """Tiny ImageNet in its native layout.

    Raises:
        DataError: an image of val/ without a label, or a label without an image, with the line.
    """
    train = part_of(tree, "train", fault)
    labels = _annotations(tree)
    judged = part_of(tree, "val", fault).get("images", Class())
    images = {file.path.rsplit("/", 1)[-1]: file for file in judged.files}
    bad = {one.path.rsplit("/", 1)[-1]: one for one in judged.bad}
    where = tree.store.say(tree.top + _ANNOTATIONS)
    held: dict[str, Class] = {}
    for name, (line, label) in labels.items():
        if label not in train:
            raise DataError(f"line {line:,}: no class of train/ is named {label!r}", where, "restore the file")
        if name in images:
            held.setdefault(label, Class()).files.append(images[name])
        elif name in bad:
            held.setdefault(label, Class()).bad.append(Bad(bad[name].path, bad[name].why))
        else:
            raise DataError(f"line {line:,}: there is no val/images/{name}", where, "restore the image")
    without = sorted(set(images) - set(labels))
    if without:
        raise DataError(f"{len(without):,} images of val/ have no label, as {without[0]}", where, "restore the file")
    if any(entry.name == "test" for entry in tree.list("", tree.real, (), fault)):
        log.info("not used: the images of test/, which have no labels (%s)", tree.store.place)
    words = dict(_pairs(tree.text("words.txt")))
    parts: dict[Part, dict[str, Class]] = {"train": train, "validation": held}
    return Layout(tree.store, parts, called(list(train), words), TINY_IMAGENET)


def _pairs(data: bytes) -> Iterator[tuple[str, str]]:
    for line in data.decode(errors="replace").splitlines():
        name, tab, rest = line.partition("\t")
        if tab:
            yield name.strip(), rest.strip()


def _annotations(tree: Tree) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    where = tree.store.say(tree.top + _ANNOTATIONS)
    for number, line in enumerate(tree.text(_ANNOTATIONS).decode(errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) < 2 or not cells[0].strip() or not cells[1].strip():
            raise DataError(f"line {number:,}: not IMAGE, tabulator, CLASS", where, "restore the file")
        if cells[0] in found:
            raise DataError(f"line {number:,}: {cells[0]!r} stands in line {found[cells[0]][0]:,}", where, "restore it")
        found[cells[0]] = (number, cells[1].strip())
    return found


# -- ImageNet


def is_imagenet(place: Path) -> bool:
    return (place / TRAIN).is_file() or (place.name == TRAIN and place.is_file())


def scan_imagenet(place: Path, heed: Callable[[], None] = nothing, anew: bool = False) -> Layout:
    """ImageNet in its official archives.

    Raises:
        DataError: an archive is damaged, or the labels of the validation images are not at hand.
    """
    folder = place if place.is_dir() else place.parent
    archives = [folder / TRAIN]
    where: dict[str, tuple[int, int]] = {}
    parts: dict[Part, dict[str, Class]] = {}
    trained: dict[str, Class] = {}
    changed = [archives[0].stat().st_mtime_ns]
    for member in index(archives[0], heed, find=_inner, anew=anew):
        where[member.path] = (0, member.offset)
        name = member.path.split("/")[1]
        trained.setdefault(name, Class()).files.append(File(member.path, member.size, changed[0]))
    if not trained:
        raise DataError("no archives of classes in it", archives[0], "name ImageNet's official archive")
    words, labels = _labels(folder)
    if (folder / VAL).is_file():
        archives.append(folder / VAL)
        changed.append(archives[1].stat().st_mtime_ns)
        if not labels:
            remedy = f"put {DEVKIT}.tar.gz or {SOLUTION} beside it, or move it away"
            raise DataError("the labels of the validation images are not here", archives[1], remedy)
        held: dict[str, Class] = {}
        for member in index(archives[1], heed, anew=anew):
            name = member.path.rsplit("/", 1)[-1]
            if name not in labels:
                raise DataError(f"no label is known of {name!r}", archives[1], "take the archive and its labels again")
            path = f"val/{name}"
            where[path] = (1, member.offset)
            held.setdefault(labels.pop(name), Class()).files.append(File(path, member.size, changed[1]))
        if labels:
            what = f"{len(labels):,} validation images are missing, as {min(labels)}"
            raise DataError(what, archives[1], "take the archive again from its source")
        parts = {"train": trained, "validation": held}
    store = ArchiveStore(place, tuple(zip(archives, changed, strict=True)), where)
    titles = called(list(trained), words)
    return Layout(store, parts or {"all": trained}, titles, IMAGENET)


def _inner(stream: IO[bytes], size: int, named: Path, heed: Callable[[], None]) -> Iterator[Member]:
    """The files of the archives in an archive, below train/ and the name of the class."""
    for outer in list(members(stream, 0, size, named, heed)):
        name = outer.path.rsplit("/", 1)[-1]
        if not name.endswith(".tar"):
            raise DataError(f"{outer.path[:200]!r} is no archive of a class", named, "name ImageNet's official archive")
        heed()
        where = f"{named}: {outer.path}"
        for member in members(stream, outer.offset, outer.offset + outer.size, where, heed):
            yield Member(f"train/{name[:-4]}/{member.path}", member.offset, member.size)


def _labels(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """(words by class, class by validation image), as far as they are at hand."""
    kit = _kit(folder)
    if kit:
        records = [r for r in _synsets(kit[_META], folder) if r["ILSVRC2012_ID"] <= 1000]
        names = {int(r["ILSVRC2012_ID"]): str(r["WNID"]) for r in records}
        labels = {}
        for number, line in enumerate(kit[_TRUTH].split(), 1):
            if not line.isdigit() or int(line) not in names:
                raise DataError(f"line {number:,}: no class has such a number", folder / DEVKIT / _TRUTH, "restore it")
            labels[f"ILSVRC2012_val_{number:08}.JPEG"] = names[int(line)]
        return {str(r["WNID"]): str(r["words"]) for r in records}, labels
    if (folder / SOLUTION).is_file():
        return {}, dict(_solution(folder / SOLUTION))
    return {}, {}


def _synsets(data: bytes, folder: Path) -> list[dict[str, Any]]:
    found = read_matlab(data, folder / DEVKIT / _META).get("synsets")
    wanted: dict[str, type | tuple[type, ...]] = {"ILSVRC2012_ID": (int, float), "WNID": str, "words": str}
    if not isinstance(found, list) or not all(
        isinstance(record, dict) and all(isinstance(record.get(n), t) for n, t in wanted.items()) for record in found
    ):
        raise DataError("it holds no table of synsets", folder / DEVKIT / _META, "take the development kit again")
    return found


def _kit(folder: Path) -> dict[str, bytes]:
    """The two files of the development kit, from its archive, its folder, or beside the archives of images."""
    archive = folder / f"{DEVKIT}.tar.gz"
    try:
        for place in (folder / DEVKIT / "data", folder / "data", folder):
            if all((place / name).is_file() for name in (_TRUTH, _META)):
                return {name: read_regular(place / name, _TEXT) for name in (_TRUTH, _META)}
        if not archive.is_file():
            return {}
        found = {}
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                name = member.name.rsplit("/", 1)[-1]
                if name in (_TRUTH, _META) and member.isreg() and member.size <= _TEXT:
                    stream = tar.extractfile(member)
                    found[name] = stream.read() if stream is not None else b""
    except (
        tarfile.TarError,
        EOFError,
        zlib.error,
        OSError,
        ValueError,
        OverflowError,
        RecursionError,
        Damaged,
    ) as error:
        raise DataError(f"the development kit cannot be read: {error}", archive, "take it again") from None
    if len(found) < 2:
        raise DataError(f"the development kit lacks {_TRUTH} or {_META}", archive, "take it again")
    return found


def _solution(path: Path) -> Iterator[tuple[str, str]]:
    """Kaggle's list: image, then class and box."""
    try:
        lines = read_regular(path, _TEXT).decode("utf-8-sig", "replace").splitlines()
    except (OSError, Damaged) as error:
        raise DataError(f"cannot read: {error}", path, "make it readable") from None
    for number, line in enumerate(lines[1:], 2):
        image, comma, rest = line.partition(",")
        if not line.strip():
            continue
        if not comma or not rest.split() or not _NUMBER.fullmatch(f"{image}.JPEG"):
            raise DataError(f"line {number:,}: not IMAGE,CLASS and box", path, "take the file again")
        yield f"{image}.JPEG", rest.split()[0]
