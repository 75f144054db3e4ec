"""What lies in a folder or an archive of photographs: class folders, alone or under train/, val/ and test/.

Accepted are FOLDER/CLASS/IMAGES, and FOLDER/train/CLASS/IMAGES with val/ (valid/, validation/) and test/ beside
train/ where they exist; so are names that differ in the word alone, as seg_train/ and seg_test/. Folders inside a
class folder count to it. A class is named as its folder, in Unicode's
composed form (NFC), so that the same folder has the same classes on every system. Hidden names are passed over.
Names, kinds, sizes and times are read, and of files without a suffix the first bytes: an image is one whose suffix or,
where it has none, whose first bytes say so. `places` knows the other layouts.
"""

from __future__ import annotations

import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from residual.data.formats import SUFFIXES, begins_so
from residual.data.stores import ArchiveStore, File, FolderStore, Store, shown
from residual.data.trees import Entry, Fault, Tree, composed, join, stop
from residual.errors import DataError, log

Part = Literal["train", "validation", "test", "all"]
PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
EXPECTED = "expected is FOLDER/CLASS/IMAGES, or FOLDER/train/CLASS/IMAGES with val/ and test/ beside train/"
OTHER_IMAGES = (
    ".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".raw", ".dng", ".cr2", ".nef", ".arw", ".svg", ".ico", ".tga",
    ".exr", ".hdr", ".pfm", ".pam", ".dib", ".dcm",
)  # fmt: skip
DEEPEST = 64
ONE_FOLDER = "unpacked or copied on Windows or macOS they would be one folder"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".7z", ".rar")


def begins_as_image(path: Path, offset: int = 0) -> bool:
    """Whether the first bytes are those of a format that is read; of a regular file only, which others may not be."""
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            return begins_so(stream.read(12))
    except OSError:
        return False


def not_read(suffixes: Mapping[str, int]) -> str:
    """How many files of which kinds are not taken, in words; nothing where there are none."""
    images = [f"{count:,} {suffix}" for suffix, count in sorted(suffixes.items()) if suffix in OTHER_IMAGES]
    others = {suffix or "without a suffix": count for suffix, count in suffixes.items() if suffix not in OTHER_IMAGES}
    kinds = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(others.items())[:5])
    words = [f"images of kinds not read here, {', '.join(images)}"] * bool(images)
    words += [f"{sum(others.values()):,} other files ({kinds}{', ...' if len(others) > 5 else ''})"] * bool(others)
    return f"not used: {' and '.join(words)}" if words else ""


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
    was photographed together stays on one side of a division. `remarks` say what else lies there and is not used.
    """

    store: Store
    parts: dict[Part, dict[str, Class]]
    titles: Mapping[str, str] = field(default_factory=dict)
    words: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

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
        self.tree, self.told = tree, fault
        self.faults: set[tuple[str, str]] = set()
        self.root = tree.store.place
        self.unused: Counter[str] = Counter()
        self.remarks: list[str] = []

    def fault(self, error: DataError) -> None:
        """Tell of a fault once: some folders are listed several times."""
        if (key := (error.what, str(error.where))) not in self.faults:
            self.faults.add(key)
            self.told(error)

    def entries(self, path: str, real: str, chain: tuple[str, ...]) -> list[Entry]:
        return [*self.tree.list(path, real, chain, self.fault)]

    def gather(self, path: str, real: str, chain: tuple[str, ...], found: Class) -> Class:
        """All images below a class folder."""
        if len(chain) > DEEPEST:
            what = f"folders lie more than {DEEPEST} deep in each other"
            self.fault(DataError(what, self._say(path), "move the images further up"))
            return found
        for entry in self.entries(path, real, chain):
            place = join(path, entry.name)
            if entry.is_folder:
                self.gather(place, entry.real, (*chain, entry.real), found)
            elif not entry.is_image and not self._is_nameless_image(entry, place):
                self.unused[Path(entry.name).suffix.lower()] += 1
            elif stat.S_ISREG(entry.mode):
                found.files.append(File(self.tree.top + place, entry.size, entry.changed))
            else:
                found.bad.append(
                    Bad(self.tree.top + place, "not a regular file" if entry.mode else "a link that leads nowhere")
                )
        return found

    def _is_nameless_image(self, entry: Entry, place: str) -> bool:
        if Path(entry.name).suffix or not stat.S_ISREG(entry.mode):
            return False
        store = self.tree.store
        if not isinstance(store, FolderStore | ArchiveStore):
            return False
        return begins_as_image(*store.locate(File(self.tree.top + place, entry.size, entry.changed)))

    def classes(self, path: str, real: str, chain: tuple[str, ...], part: Part = "all") -> dict[str, Class]:
        """The class folders in a folder; of one that is judged on, those that hold an image."""
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
        if empty and len(empty) < len(found) and part in ("validation", "test"):
            found = {name: held for name, held in found.items() if name not in empty}
        elif empty and len(empty) < len(found):
            what = f"{len(empty)} class folders hold no image" if len(empty) > 1 else "a class folder holds no image"
            kinds = f"of the kinds read here ({', '.join(SUFFIXES)})"
            self.fault(DataError(f"{what} {kinds}: {some(empty)}", self._say(path), "fill or remove it"))
        if loose and found:
            self.remarks.append(f"not used: {loose:,} images that lie in no class folder ({self._say(path)})")
        warn_of_case(list(found), self._say(path))
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
    if words := not_read(scanner.unused):
        kinds = ": convert the images to PNG" if scanner.unused.keys() & set(OTHER_IMAGES) else ""
        scanner.remarks.append(f"{words} ({scanner.root}){kinds}")
    return Layout(tree.store, parts, remarks=tuple(scanner.remarks))


def part_of(tree: Tree, name: str, fault: Fault = stop) -> dict[str, Class]:
    """The class folders in one folder of a tree."""
    scanner = _Scanner(tree, fault)
    (entry,) = (entry for entry in scanner.entries("", tree.real, (tree.real,)) if entry.name == name)
    return scanner.classes(name, entry.real, (tree.real, entry.real))


def _parts(scanner: _Scanner, top: list[Entry], chain: tuple[str, ...]) -> dict[Part, dict[str, Class]]:
    """The parts of a folder that has any, training first; a folder of that name that is a class is none."""
    folders = [entry for entry in top if entry.is_folder]
    named: dict[Part, list[Entry]] = {}
    for entry, part in _meanings(folders).items():
        if not _is_class(scanner, entry, chain):
            named.setdefault(part, []).append(entry)
    for entries in named.values():
        if len(entries) > 1:
            both = " and ".join(entry.name + "/" for entry in entries)
            raise DataError(f"{both} mean the same part", scanner.root, "keep one of them, or put them together")
    found: dict[Part, dict[str, Class]] = {}
    for part in sorted(named, key=list(PARTS.values()).index):
        (entry,) = named[part]
        path, inner = _inmost(scanner, entry, chain)
        found[part] = scanner.classes(path, inner[-1], inner, part)
        if entry.name.lower() not in PARTS:
            log.info("%s/ is taken for the %s part (%s)", shown(path), part, scanner.root)
    if found:
        used = {entry.name for entries in named.values() for entry in entries}
        rest = [entry.name for entry in folders if entry.name not in used]
        flat = [name for name in rest if name.lower() in PARTS]
        if flat:
            remedy = f"sort them into class folders, or move the folder away; {EXPECTED}"
            raise DataError(f"{flat[0]}/ holds images and no class folders", scanner.root, remedy)
        if rest:
            both = f"{some(rest)} beside {', '.join(sorted(used))}"
            scanner.remarks.append(f"not used: the folders {both} ({scanner.root})")
    else:
        _refuse_flat(scanner, folders)
        _mind_inner(scanner, folders, chain)
    return found


def _word(name: str) -> tuple[Part | None, str]:
    """The part that a word in a folder's name means, and the name without it: `seg_train` is (train, `seg_`)."""
    words = re.split(r"([_\-. ]+|\d+)", name.lower())
    places = [place for place, word in enumerate(words) if word in PARTS]
    if len(places) != 1:
        return None, name
    return PARTS[words.pop(places[0])], "".join(words)


def _meanings(folders: list[Entry]) -> dict[Entry, Part]:
    """Which folders are named as parts: by the very words, else by names that differ in the word alone.

    A class may be called test_tube; so of other names there are two at least, train among them, or only that one.
    """
    exact = {entry: PARTS[entry.name.lower()] for entry in folders if entry.name.lower() in PARTS}
    alike: dict[str, dict[Entry, Part]] = {}
    for entry in () if exact else folders:
        part, rest = _word(entry.name)
        if part is not None:
            alike.setdefault(rest, {})[entry] = part
    for meant in alike.values():
        parts = set(meant.values())
        if "train" in parts and (len(parts) > 1 or len(folders) == 1):
            return meant
    return exact


def _inmost(scanner: _Scanner, folder: Entry, chain: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Path and chain of the folder that has the class folders: archives often hold train/train/CLASS."""
    path, within = folder.name, (*chain, folder.real)
    while len(within) < DEEPEST:
        held = scanner.entries(path, within[-1], within)
        inner = [entry for entry in held if entry.is_folder]
        if len(inner) != 1 or inner[0].name != folder.name or any(entry.is_image for entry in held):
            break
        path, within = join(path, inner[0].name), (*within, inner[0].real)
    return path, within


def _refuse_flat(scanner: _Scanner, folders: list[Entry]) -> None:
    """Refuse parts that hold images themselves, as train/ and test/ or test1/: they would be taken for classes.

    One folder named train among others is a class.
    """
    names = [entry.name for entry in folders]
    means = {name: part for name in names if (part := PARTS.get(name.lower().rstrip("0123456789")))}
    means |= {entry.name: part for entry, part in _meanings(folders).items()}
    if "train" in means.values() and (len(means) > 1 or len(names) == 1):
        flat = " and ".join(f"{name}/" for name in means)
        what = f"{flat} {'hold' if len(means) > 1 else 'holds'} images and no class folders"
        remedy = f"sort the images into class folders, or give a table of paths and labels; {EXPECTED}"
        raise DataError(what, scanner.root, remedy)


def _mind_inner(scanner: _Scanner, folders: list[Entry], chain: tuple[str, ...]) -> None:
    """Refuse class folders of which each has parts; tell of folders that may be meant for classes."""
    inside: dict[str, list[str]] = {}
    for folder in folders:
        held = scanner.entries(folder.name, folder.real, (*chain, folder.real))
        inside[folder.name] = [entry.name for entry in held if entry.is_folder]
        if any(entry.is_image for entry in held) or len(inside[folder.name]) < 2:
            return
    parts = [{PARTS.get(name.lower()) for name in names} for names in inside.values()]
    first, names = next(iter(inside.items()), ("", []))
    if parts and all("train" in found and len(found - {None}) > 1 for found in parts):
        what = f"every class folder has parts of its own, as {some([f'{first}/{name}' for name in names])}"
        remedy = f"put the parts at the top, or give a table of paths, labels and parts; {EXPECTED}"
        raise DataError(what, scanner.root, remedy)
    if len(inside) > 1:
        what = "the classes are the folders at the top, and the folders in them count to these"
        inner = f"{first!r} holds {some(names)}"
        scanner.remarks.append(f"{what}: {shown(inner)} ({scanner.root})")


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
        return f"convert the images to PNG; {EXPECTED}"
    if any(entry.name.lower().endswith(ARCHIVES) for entry in top):
        return f"unpack the archive; {EXPECTED}"
    return EXPECTED


def warn_of_case(names: list[str], where: str, harm: str = ONE_FOLDER) -> None:
    """Say which names of classes differ only in case, and what may come of it."""
    folded: dict[str, list[str]] = {}
    for name in names:
        folded.setdefault(name.casefold(), []).append(name)
    for twins in folded.values():
        if len(twins) > 1:
            what = f"classes differ only in case: {some(twins)}"
            log.warning("%s (%s): %s", what, where, harm)
