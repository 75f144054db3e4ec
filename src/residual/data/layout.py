"""What lies in a folder or an archive of photographs: class folders, alone or under train/, val/ and test/.

Accepted are FOLDER/CLASS/IMAGES, and FOLDER/train/CLASS/IMAGES with val/ (valid/, validation/) and test/ beside
train/ where they exist. Folders inside a class folder count to it. A class is named as its folder, in Unicode's
composed form (NFC), so that the same folder has the same classes on every system. Hidden names are passed over.
Nothing is opened here: only names, kinds, sizes and times are read. `places` knows the other layouts.
"""

from __future__ import annotations

import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from residual.data.encoded import SUFFIXES
from residual.data.stores import File, Store, shown
from residual.data.trees import Entry, Fault, Tree, composed, join, stop
from residual.errors import DataError, log

Part = Literal["train", "validation", "test", "all"]
PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
EXPECTED = "expected is FOLDER/CLASS/IMAGES, or FOLDER/train/CLASS/IMAGES with val/ and test/ beside train/"
OTHER_IMAGES = (".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".psd", ".raw", ".dng", ".svg")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".7z", ".rar")


class Bad(NamedTuple):
    """A file that is named like an image and cannot be one."""

    path: str
    why: str


@dataclass
class Class:
    """One class in one part of the folder."""

    files: list[File] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """The classes of every part, by name; `all` stands for a place that is not divided into parts.

    `titles` says how a person calls a class, where that is not its name; `words` names the layout where it is none
    of class folders; then labels do not follow from paths. `groups` names the group of an image by its path: what
    was photographed together stays on one side of a division.
    """

    store: Store
    parts: dict[Part, dict[str, Class]]
    titles: Mapping[str, str] = field(default_factory=dict)
    words: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """What a person named."""
        return self.store.place


def some(names: list[str]) -> str:
    """The first few of some names, and how many more there are."""
    few = ", ".join(repr(shown(name)) for name in names[:5])
    return f"{few} and {len(names) - 5:,} more" if len(names) > 5 else few


class _Scanner:
    def __init__(self, tree: Tree, fault: Fault) -> None:
        self.tree, self.fault = tree, fault
        self.root = tree.store.place
        self.unused: Counter[str] = Counter()

    def entries(self, path: str, real: str, chain: tuple[str, ...]) -> list[Entry]:
        return [*self.tree.list(path, real, chain, self.fault)]

    def gather(self, path: str, real: str, chain: tuple[str, ...], found: Class) -> Class:
        """All images below a class folder."""
        for entry in self.entries(path, real, chain):
            place = join(path, entry.name)
            if entry.is_folder:
                self.gather(place, entry.real, (*chain, entry.real), found)
            elif not entry.is_image:
                self.unused[Path(entry.name).suffix.lower()] += 1
            elif stat.S_ISREG(entry.mode):
                found.files.append(File(self.tree.top + place, entry.size, entry.changed))
            else:
                found.bad.append(
                    Bad(self.tree.top + place, "not a regular file" if entry.mode else "a link that leads nowhere")
                )
        return found

    def classes(self, path: str, real: str, chain: tuple[str, ...]) -> dict[str, Class]:
        """The class folders in a folder."""
        found: dict[str, Class] = {}
        loose = 0
        for entry in self.entries(path, real, chain):
            if not entry.is_folder:
                loose += entry.is_image
                continue
            place, name = join(path, entry.name), composed(entry.name)
            self._check_name(name, place)
            if name in found:
                what = f"two folders are named {name!r}, spelt once composed and once decomposed in Unicode"
                self.fault(DataError(what, self._say(path), "rename one of them, or put them together"))
                continue
            found[name] = self.gather(place, entry.real, (*chain, entry.real), Class())
        empty = [name for name, held in found.items() if not held.files and not held.bad]
        if empty and len(empty) < len(found):
            what = f"{len(empty)} class folders hold no image" if len(empty) > 1 else "a class folder holds no image"
            kinds = f"of the kinds read here ({', '.join(SUFFIXES)})"
            self.fault(DataError(f"{what} {kinds}: {some(empty)}", self._say(path), "fill or remove it"))
        if loose and found:
            log.warning("not used: %d images that lie in no class folder (%s)", loose, self._say(path))
        _warn_of_case(list(found), self._say(path))
        return found

    def _check_name(self, name: str, place: str) -> None:
        faults = {
            "is not UTF-8": any(0xD800 <= ord(c) < 0xE000 for c in name),
            "holds a line break or another control character": any(unicodedata.category(c) == "Cc" for c in name),
        }
        for fault, found in faults.items():
            if found:
                what = f"the name of a class folder {fault}"
                self.fault(DataError(what, repr(shown(place)), "rename the folder"))

    def _say(self, path: str) -> str:
        return self.tree.store.say(path) if path else shown(str(self.root))


def scan_tree(tree: Tree, fault: Fault = stop) -> Layout:
    """The classes and files of class folders.

    Args:
        fault: told of what is wrong with some folder or link, which is then passed over; raises to stop.

    Raises:
        DataError: the folder is laid out otherwise; says what was found and which layouts are accepted.
    """
    scanner = _Scanner(tree, fault)
    chain = (tree.real,)
    top = scanner.entries("", tree.real, chain)
    parts = _parts(scanner, top, chain)
    if not parts:
        parts = {"all": scanner.classes("", tree.real, chain)}
    if not any(held.files or held.bad for classes in parts.values() for held in classes.values()):
        raise DataError(_what_is_there(scanner, top), scanner.root, _advice(scanner, top, chain))
    _warn_of_unused(scanner)
    return Layout(tree.store, parts)


def part_of(tree: Tree, name: str, fault: Fault = stop) -> dict[str, Class]:
    """The class folders in one folder of a tree."""
    scanner = _Scanner(tree, fault)
    (entry,) = (entry for entry in scanner.entries("", tree.real, (tree.real,)) if entry.name == name)
    return scanner.classes(name, entry.real, (tree.real, entry.real))


def _parts(scanner: _Scanner, top: list[Entry], chain: tuple[str, ...]) -> dict[Part, dict[str, Class]]:
    """The parts of a folder that has any, training first; a folder of that name that is a class is none."""
    folders = [entry for entry in top if entry.is_folder]
    named: dict[Part, list[Entry]] = {}
    for entry in folders:
        part = PARTS.get(entry.name.lower())
        if part is not None and not _is_class(scanner, entry, chain):
            named.setdefault(part, []).append(entry)
    for entries in named.values():
        if len(entries) > 1:
            both = " and ".join(entry.name + "/" for entry in entries)
            raise DataError(f"{both} mean the same part", scanner.root, "keep one of them, or put them together")
    found: dict[Part, dict[str, Class]] = {}
    for part in sorted(named, key=list(PARTS.values()).index):
        (entry,) = named[part]
        found[part] = scanner.classes(entry.name, entry.real, (*chain, entry.real))
    if found:
        used = {entry.name for entries in named.values() for entry in entries}
        rest = [entry.name for entry in folders if entry.name not in used]
        flat = [name for name in rest if name.lower() in PARTS]
        if flat:
            remedy = f"sort them into class folders, or move the folder away; {EXPECTED}"
            raise DataError(f"{flat[0]}/ holds images and no class folders", scanner.root, remedy)
        if rest:
            log.warning("not used: the folders %s beside %s (%s)", some(rest), ", ".join(sorted(used)), scanner.root)
    return found


def _is_class(scanner: _Scanner, folder: Entry, chain: tuple[str, ...]) -> bool:
    """Whether images lie in the folder itself and no folders beside them."""
    inside = list(scanner.entries(folder.name, folder.real, (*chain, folder.real)))
    return any(entry.is_image for entry in inside) and not any(entry.is_folder for entry in inside)


def _what_is_there(scanner: _Scanner, top: list[Entry]) -> str:
    folders = [entry.name for entry in top if entry.is_folder]
    images = sum(entry.is_image for entry in top)
    others = [entry.name for entry in top if not entry.is_folder and not entry.is_image]
    if not top:
        return "the folder is empty"
    words = [
        f"{images:,} images" if images else "",
        f"{len(folders):,} folders without images ({some(folders)})" if folders else "no class folders",
        f"{len(others):,} other files ({some(others)})" if others else "",
    ]
    return "no classes here: found " + ", ".join(word for word in words if word)


def _advice(scanner: _Scanner, top: list[Entry], chain: tuple[str, ...]) -> str:
    if scanner.unused.keys() & set(OTHER_IMAGES):
        return f"convert the images to PNG, JPEG or WebP; {EXPECTED}"
    if any(entry.name.lower().endswith(ARCHIVES) for entry in top):
        return f"unpack the archive; {EXPECTED}"
    return EXPECTED


def _warn_of_unused(scanner: _Scanner) -> None:
    images = {suffix: count for suffix, count in scanner.unused.items() if suffix in OTHER_IMAGES}
    if images:
        kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(images.items()))
        log.warning("not used: images of kinds not read here, %s (%s): convert them to PNG", kinds, scanner.root)


def _warn_of_case(names: list[str], where: str) -> None:
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    for twins in folded.values():
        if len(twins) > 1:
            what = f"classes differ only in case: {some(twins)}"
            if sys.platform in ("win32", "darwin"):
                raise DataError(what, where, "rename one of them: this system takes them for the same folder")
            log.warning("%s (%s): other systems take them for one folder", what, where)
