"""What lies in a folder of photographs: class folders, alone or under train/, val/ and test/.

Accepted are FOLDER/CLASS/IMAGES, and FOLDER/train/CLASS/IMAGES with val/ (valid/, validation/) and test/ beside
train/ where they exist. Folders inside a class folder count to it. A class is named as its folder, in Unicode's
composed form (NFC), so that the same folder has the same classes on every system. Hidden names are passed over.
Nothing is opened here: only names, kinds, sizes and times are read.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from residual.data.images import SUFFIXES
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
_JUNK = {"__MACOSX"}


class File(NamedTuple):
    """A regular file: its path below the root with `/` between the names, its size, its time of change in ns."""

    path: str
    size: int
    changed: int


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
    """The classes of every part, by name; `all` stands for a folder that is not divided into parts."""

    root: Path
    parts: dict[Part, dict[str, Class]]


def shown(path: str) -> str:
    """A path as text: bytes that are not UTF-8 are written out."""
    return path.encode(errors="backslashreplace").decode()


def some(names: list[str]) -> str:
    """The first few of some names, and how many more there are."""
    few = ", ".join(repr(shown(name)) for name in names[:5])
    return f"{few} and {len(names) - 5:,} more" if len(names) > 5 else few


class _Entry(NamedTuple):
    name: str
    mode: int  # of what a link leads to; 0 where it leads nowhere
    size: int
    changed: int
    real: str

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_image(self) -> bool:
        return not self.is_folder and self.name.lower().endswith(SUFFIXES)


class _Scanner:
    def __init__(self, root: Path, follow_links: bool) -> None:
        self.root, self.follow_links = root, follow_links
        self.real = os.path.realpath(root)
        self.unused: Counter[str] = Counter()

    def list(self, path: str, real: str, chain: tuple[str, ...]) -> Iterator[_Entry]:
        """What lies in a folder, by name. `chain` holds the real places of the folder and those around it."""
        try:
            with os.scandir(self.root / path) as entries:
                found = sorted(entries, key=lambda e: (_composed(e.name), e.name))
        except OSError as error:
            raise DataError(f"cannot read the folder: {error.strerror}", self._say(path), "make it readable") from None
        for entry in found:
            if not entry.name.startswith(".") and entry.name not in _JUNK:
                yield self._look(entry, _join(path, entry.name), os.path.join(real, entry.name), chain)

    def _look(self, entry: os.DirEntry[str], path: str, real: str, chain: tuple[str, ...]) -> _Entry:
        try:
            if not _is_link(entry):
                status = entry.stat(follow_symlinks=False)
                return _Entry(entry.name, status.st_mode, status.st_size, status.st_mtime_ns, real)
            real = os.path.realpath(self.root / path)
            status = os.stat(self.root / path)
        except FileNotFoundError:
            return _Entry(entry.name, 0, 0, 0, real)
        except OSError as error:
            remedy = "remove the link" if entry.is_symlink() else "make it readable"
            raise DataError(f"cannot be looked at: {error.strerror}", self._say(path), remedy) from None
        if stat.S_ISDIR(status.st_mode) and real in chain:
            raise DataError("a link leads back to a folder it lies in", self._say(path), "remove the link")
        inside = real == self.real or real.startswith(self.real.rstrip(os.sep) + os.sep)
        if not inside and not self.follow_links:
            raise DataError(
                f"a link leads out of the folder, to {shown(real)}",
                self._say(path),
                "remove it, or allow such links with --follow-links",
            )
        return _Entry(entry.name, status.st_mode, status.st_size, status.st_mtime_ns, real)

    def gather(self, path: str, real: str, chain: tuple[str, ...], found: Class) -> Class:
        """All images below a class folder."""
        for entry in self.list(path, real, chain):
            place = _join(path, entry.name)
            if entry.is_folder:
                self.gather(place, entry.real, (*chain, entry.real), found)
            elif not entry.is_image:
                self.unused[Path(entry.name).suffix.lower()] += 1
            elif stat.S_ISREG(entry.mode):
                found.files.append(File(place, entry.size, entry.changed))
            else:
                found.bad.append(Bad(place, "not a regular file" if entry.mode else "a link that leads nowhere"))
        return found

    def classes(self, path: str, real: str, chain: tuple[str, ...]) -> dict[str, Class]:
        """The class folders in a folder."""
        found: dict[str, Class] = {}
        loose = 0
        for entry in self.list(path, real, chain):
            if not entry.is_folder:
                loose += entry.is_image
                continue
            place, name = _join(path, entry.name), _composed(entry.name)
            self._check_name(name, place)
            if name in found:
                raise DataError(
                    f"two folders are named {name!r}, spelt once composed and once decomposed in Unicode",
                    self._say(path),
                    "rename one of them, or put them together",
                )
            found[name] = self.gather(place, entry.real, (*chain, entry.real), Class())
        empty = [name for name, held in found.items() if not held.files and not held.bad]
        if empty and len(empty) < len(found):
            what = f"{len(empty)} class folders hold no image" if len(empty) > 1 else "a class folder holds no image"
            kinds = f"of the kinds read here ({', '.join(SUFFIXES)})"
            raise DataError(f"{what} {kinds}: {some(empty)}", self._say(path), "fill or remove it")
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
                raise DataError(f"the name of a class folder {fault}", repr(shown(place)), "rename the folder")

    def _say(self, path: str) -> str:
        return shown(os.path.join(self.root, path) if path else str(self.root))


def scan(root: Path, follow_links: bool = False) -> Layout:
    """The classes and files of a folder of photographs.

    Raises:
        DataError: the folder is laid out otherwise; says what was found and which layouts are accepted.
    """
    if not root.is_dir():
        advice = "unpack it and name the folder" if root.suffix.lower() in ARCHIVES else f"name a folder; {EXPECTED}"
        raise DataError("not a folder", root, advice)
    scanner = _Scanner(root, follow_links)
    chain = (scanner.real,)
    top = list(scanner.list("", scanner.real, chain))
    parts = _parts(scanner, top, chain)
    if not parts:
        parts = {"all": scanner.classes("", scanner.real, chain)}
    if not any(held.files or held.bad for classes in parts.values() for held in classes.values()):
        raise DataError(_what_is_there(scanner, top), root, _advice(scanner, top, chain))
    _warn_of_unused(scanner)
    return Layout(root, parts)


def holds_photographs(place: Path) -> bool:
    """Whether there are folders with images in them, one or two levels deep; looks no further than the first."""
    try:
        found = (path for depth in ("*/*", "*/*/*") for path in place.glob(depth))
        return place.is_dir() and any(path.name.lower().endswith(SUFFIXES) for path in found)
    except (OSError, ValueError):
        return False


def _parts(scanner: _Scanner, top: list[_Entry], chain: tuple[str, ...]) -> dict[Part, dict[str, Class]]:
    """The parts of a folder that has any, training first; a folder of that name that is a class is none."""
    folders = [entry for entry in top if entry.is_folder]
    named: dict[Part, list[_Entry]] = {}
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


def _is_class(scanner: _Scanner, folder: _Entry, chain: tuple[str, ...]) -> bool:
    """Whether images lie in the folder itself and no folders beside them."""
    inside = list(scanner.list(folder.name, folder.real, (*chain, folder.real)))
    return any(entry.is_image for entry in inside) and not any(entry.is_folder for entry in inside)


def _what_is_there(scanner: _Scanner, top: list[_Entry]) -> str:
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


def _advice(scanner: _Scanner, top: list[_Entry], chain: tuple[str, ...]) -> str:
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


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _is_link(entry: os.DirEntry[str]) -> bool:
    junction = getattr(entry, "is_junction", None)  # Windows, from Python 3.12
    return entry.is_symlink() or (junction is not None and junction())
