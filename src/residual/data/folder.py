"""Photographs as a data set; `places` says which folders, archives, tables and packs are accepted.

Which images are judged: those of val/ as they are, else a stratified share of the training images, the same for
every seed. There is a test set where test/ is, or where a share of a folder without parts is set aside for it
(`test`); without one, no figure of a run is a test figure, and the validation figure is named as such.

Before a run begins every image is read once (`checking`). A file that cannot be used stops the run, except for a
share `quarantine` of the training images: those are left out and listed. No evaluation ever leaves one out.
"""

from __future__ import annotations

import hashlib
import statistics
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from residual.data.checking import Verdict, check, nothing
from residual.data.geometry import Geometry, Interpolation, Resize
from residual.data.images import too_narrow
from residual.data.layout import EXPECTED, Bad, Class, Layout, Part, some
from residual.data.places import scan
from residual.data.reading import FolderSource
from residual.data.source import Dataset
from residual.data.splits import TOGETHER, divided
from residual.data.stores import File, shown
from residual.data.trees import composed
from residual.data.workers import Workers
from residual.errors import DataError, log

_MOST_LEFT_OUT = 0.5  # what `data.quarantine` may be
STEP, LARGEST = 32, 224  # image sizes chosen by themselves are multiples of one and at most the other


@dataclass(frozen=True)
class Wishes:
    """What a recipe says of a folder; None leaves it to the images."""

    image_size: int | None = None
    channels: int | None = None
    test: float = 0.0
    quarantine: float = 0.01
    follow_links: bool = False
    threads: int = 0
    group: str | None = None
    test_size: int | None = None
    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"
    crop: float = 1.0
    workers: Workers = "threads"
    division: int = TOGETHER


@dataclass
class _Files:
    """The usable files of one part, by class and name, with what they are."""

    files: list[File] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def some(self, numbers: Tensor) -> _Files:
        chosen = numbers.tolist()
        return _Files(*([column[i] for i in chosen] for column in (self.files, self.verdicts, self.labels)))


class Sound(NamedTuple):
    """The parts of a folder after the check, its class names, and what was left out of training."""

    parts: dict[Part, _Files]
    class_names: tuple[str, ...]
    left_out: dict[str, str]


def open_folder(
    root: Path,
    wishes: Wishes,
    heed: Callable[[], None] = nothing,
    layout: Layout | None = None,
    anew: bool = False,
) -> Dataset:
    """The data set to train on in a folder of photographs.

    Args:
        heed: called now and then while the images are checked; may raise to stop.
        layout: what the folder was found to hold, where that is known.
        anew: read every image, whatever is kept of it.

    Raises:
        DataError: laid out otherwise, too few classes, classes that differ between the parts, or too many files
            that cannot be used; names what was found.
    """
    layout = layout or scan(root, wishes.follow_links, group=wishes.group, heed=heed, anew=anew)
    names = class_names(layout)
    sound = sift(layout, names, wishes.threads, wishes.quarantine, heed, quiet=True, anew=anew)
    words = layout.words or ("class folders" if "all" in sound.parts else ", ".join(f"{p}/" for p in sound.parts))
    if wishes.test and "all" not in sound.parts:
        what = "data.test sets images aside in a folder without parts; this one has " + words
        raise DataError(what, root, "leave data.test out, or name a folder of class folders")
    groups = _Groups(layout, sound)
    trained, tested = _set_aside(sound, wishes, groups)
    size, channels, chosen, reasons = _geometry(trained, wishes)
    judged = wishes.test_size or size
    narrow = _narrow(wishes, judged)
    if any(narrow(verdict) for part in sound.parts.values() for verdict in part.verdicts):
        sound = sift(layout, names, wishes.threads, wishes.quarantine, heed, quiet=True, narrow=narrow)
        trained, tested = _set_aside(sound, wishes, groups)
    held = sound.parts.get("validation")
    train = _source(layout, trained, wishes, channels, size)
    return Dataset(
        name="folder",
        train=train,
        test=_source(layout, tested, wishes, channels, judged),
        validation=None if held is None else _source(layout, held, wishes, channels, judged),
        class_names=tuple(layout.titles.get(name, name) for name in names),
        channels=channels,
        image_size=(size, size),
        checksums=_checksums(layout, sound),
        origin=str(root.absolute()),
        chosen=chosen,
        reasons=reasons,
        left_out=sound.left_out,
        facts={
            "layout": words,
            "test_share": wishes.test,
            "follow_links": wishes.follow_links,
            "division": wishes.division,
            **({"group": wishes.group} if wishes.group is not None else {}),
            **({"unused": list(layout.remarks)} if layout.remarks else {}),
        },
        groups=groups.of(trained),
        geometry=Geometry(wishes.resize, wishes.interpolation, wishes.crop),
        test_size=None if judged == size else (judged, judged),
        seen=None if judged == size else replace(train, image_size=(judged, judged)),
    )


def _set_aside(sound: Sound, wishes: Wishes, groups: _Groups) -> tuple[_Files, _Files]:
    """What is trained on, and what is tested."""
    trained = sound.parts.get("train") or sound.parts["all"]
    if not wishes.test:
        return trained, sound.parts.get("test", _Files())
    known = groups.of(trained), wishes.division, [one.sha256 for one in trained.verdicts]
    both = divided(torch.tensor(trained.labels), wishes.test, "folder-test", *known)
    return trained.some(both[0]), trained.some(both[1])


def _narrow(wishes: Wishes, side: int) -> Callable[[Verdict], str]:
    """What is wrong with an image too narrow for a side, in words."""
    geometry = Geometry(wishes.resize, wishes.interpolation, wishes.crop)
    return lambda verdict: too_narrow(verdict.height, verdict.width, (side, side), geometry)


def _source(layout: Layout, part: _Files, wishes: Wishes, channels: int, side: int) -> FolderSource:
    return FolderSource(
        layout.store,
        part.files,
        part.verdicts,
        torch.tensor(part.labels, dtype=torch.int64),
        channels,
        (side, side),
        wishes.threads,
        wishes.crop,
        wishes.resize,
        wishes.interpolation,
        wishes.workers,
    )


class _Groups:
    """Which images belong together, as numbers; an image of no group is one of its own.

    Raises:
        DataError: a group stands on both sides of a division that the data bring with them.
    """

    def __init__(self, layout: Layout, sound: Sound) -> None:
        self.named = layout.groups
        place: dict[str, Part] = {}
        for part, held in sound.parts.items():
            for file in held.files:
                group = self.named.get(file.path)
                if group is not None and place.setdefault(group, part) != part:
                    what = f"the group {group!r} has images in the {place[group]} part and in the {part} part"
                    raise DataError(what, layout.root, "put every group on one side, or leave the group column out")

    def of(self, part: _Files) -> Tensor | None:
        """int64 N, or None where there are no groups."""
        if not self.named:
            return None
        numbers: dict[tuple[bool, str], int] = {}
        keys = [(file.path in self.named, self.named.get(file.path) or file.path) for file in part.files]
        return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys], dtype=torch.int64)


def _checksums(layout: Layout, sound: Sound) -> dict[str, str]:
    """Of the images, and of the labels where these do not follow from the paths."""
    found = {"images": manifest(sound.parts)}
    if layout.words:
        lines = sorted(
            f"{unicodedata.normalize('NFC', shown(file.path))}\0{part}\0{sound.class_names[label]}\n"
            for part, held in sound.parts.items()
            for file, label in zip(held.files, held.labels, strict=True)
        )
        found["labels"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    return found


def class_names(layout: Layout) -> tuple[str, ...]:
    """The classes to learn, in the order of their names; what is judged on may lack some of them, and has no others.

    Raises:
        DataError: one class only, no part to train on, or a class that is judged on alone.
    """
    if "all" not in layout.parts and "train" not in layout.parts:
        found = " and ".join(f"{part}/" for part in layout.parts)
        raise DataError(f"there is {found} and no train/", layout.root, EXPECTED)
    names = sorted(layout.parts["train"] if "train" in layout.parts else layout.parts["all"])
    if all(name.isascii() and name.isdigit() for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise DataError(*_one_class(layout, names))
    for part, classes in layout.parts.items():
        if part in ("validation", "test") and not classes:
            raise DataError(f"the {part} folder holds no class folders", layout.root, f"fill or remove it; {EXPECTED}")
        missing, extra = [n for n in names if n not in classes], sorted(set(classes) - set(names))
        if extra:  # `concerns` tells of those that are missing
            words = [f"lacks {some(missing)}"] * bool(missing) + [f"has {some(extra)} as well"]
            what = f"the classes of the {part} part are not those of the training part: it {' and '.join(words)}"
            same = "labels" if layout.words == "table" else "class folders"
            raise DataError(what, layout.root, f"give every part the same {same}")
    return tuple(names)


def _one_class(layout: Layout, names: list[str]) -> tuple[str, object, str]:
    if not names:
        return "the training part holds no class folders", layout.root, EXPECTED
    what = f"one class only, {names[0]!r}"
    paths = [file.path.split("/") for file in layout.parts.get("all", {}).get(names[0], Class()).files]
    if paths and not layout.words:
        at = next((at for at, name in enumerate(paths[0]) if composed(name) == names[0]), 0) + 1
        inner = sorted({path[at] for path in paths if len(path) > at + 1})
        if len(inner) > 1:
            folder = "/".join(paths[0][:at])
            named = f"name the folder {shown(str(layout.root / folder))}"
            meant = f"make an archive of its folder {shown(folder)}/ alone" if layout.root.is_file() else named
            return f"{what}, which holds the folders {some(inner)}", layout.root, f"if these are meant, {meant}"
    return f"{what}: there is nothing to tell it from", layout.root, f"add a second class; {EXPECTED}"


def sift(
    layout: Layout,
    names: Sequence[str],
    threads: int,
    share: float | None,
    heed: Callable[[], None] = nothing,
    quiet: bool = False,
    anew: bool = False,
    allow: str = "--set data.quarantine=",
    narrow: Callable[[Verdict], str] = lambda _: "",
) -> Sound:
    """The files that can be used, each read and decoded once; `share` of a training part may be left out.

    Args:
        quiet: say nothing of what is not used: a run says it when it begins, and no one who uses it later.
        anew: as for `check`.
        allow: what is typed before a larger share, where one is advised.
        narrow: says of a sound image why it cannot be used all the same.
    """
    for remark in () if quiet else layout.remarks:
        log.warning(remark)
    files = [file for classes in layout.parts.values() for held in classes.values() for file in held.files]
    verdicts = check(layout.store, files, threads, heed, anew)
    parts: dict[Part, _Files] = {}
    left_out: dict[str, str] = {}
    for part, classes in layout.parts.items():
        found, bad = _sort(classes, names, verdicts, narrow)
        if bad:
            allowed = share if part in ("train", "all") else None
            _judge(layout.root, part, bad, len(found.files) + len(bad), allowed, allow)
            left_out |= {shown(one.path): one.why for one in bad}
        present = set(found.labels)
        empty = [name for label, name in enumerate(names) if name in classes and label not in present]
        if empty:
            raise DataError(f"no image can be used of {some(empty)}", layout.root, "replace or remove them")
        parts[part] = found
    return Sound(parts, tuple(names), left_out)


def _sort(
    classes: Mapping[str, Class],
    names: Sequence[str],
    verdicts: Mapping[str, Verdict],
    narrow: Callable[[Verdict], str],
) -> tuple[_Files, list[Bad]]:
    found, bad = _Files(), []
    for label, name in enumerate(names):
        held = classes.get(name, Class())
        bad += held.bad
        for file in held.files:
            verdict = verdicts[file.path]
            if fault := verdict.fault or narrow(verdict):
                bad.append(Bad(file.path, fault))
                continue
            found.files.append(file)
            found.verdicts.append(verdict)
            found.labels.append(label)
    return found, bad


def _judge(root: Path, part: Part, bad: list[Bad], total: int, share: float | None, allow: str) -> None:
    """Stop for files that cannot be used, or warn where so few of the training images may be left out."""
    first = f"{shown(bad[0].path)}: {bad[0].why}"
    count = f"{len(bad):,} of {total:,} {'' if part == 'all' else part + ' '}images cannot be used"
    if share is None:
        what = f"{count}, and no figure is made of fewer images; the first is {first}"
        raise DataError(what, root, "replace or remove them")
    if len(bad) > Fraction(str(share)) * total:  # a share of .29 of 100 is 29, which no product of floats says
        needed = -(-10_000 * len(bad) // total) / 10_000  # rounded up
        what = f"{count}, more than the share of {share:g} that may be left out; the first is {first}"
        remedy = f"replace or remove them, or allow it with {allow}{needed:g}"
        raise DataError(what, root, remedy if needed <= _MOST_LEFT_OUT else "replace or remove them")
    log.warning("%s and are left out (%s): the first is %s", count, root, first)


def _geometry(part: _Files, wishes: Wishes) -> tuple[int, int, dict[str, Any], dict[str, str]]:
    """Side and channels of the images, and what of it was chosen here and why."""
    chosen: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    size, channels = wishes.image_size, wishes.channels
    if size is None:
        median = statistics.median_low([min(v.width, v.height) for v in part.verdicts])
        size = min(LARGEST, max(STEP, median // STEP * STEP))
        chosen["data.image_size"] = size
        reasons["data.image_size"] = f"the shorter sides of the images have the median {median:,}"
    if channels is None:
        grey = sum(v.grey for v in part.verdicts)
        channels = 1 if grey == len(part.verdicts) else 3
        chosen["data.channels"] = channels
        few = "none of the images is" if not grey else f"only {grey:,} of {len(part.verdicts):,} images are"
        reasons["data.channels"] = "all images are stored as grey" if channels == 1 else f"{few} stored as grey"
    return size, channels, chosen, reasons


def manifest(parts: Mapping[Part, _Files]) -> str:
    """One SHA-256 over path, size and SHA-256 of every usable file: other images, another manifest."""
    lines = sorted(
        f"{unicodedata.normalize('NFC', shown(file.path))}\0{file.size}\0{verdict.sha256}\n"
        for part in parts.values()
        for file, verdict in zip(part.files, part.verdicts, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_to_judge(
    layout: Layout, names: Sequence[str], wishes: Wishes, aliases: Mapping[str, str] | None = None
) -> dict[Part, FolderSource]:
    """The parts of any folder of photographs, their labels those of a network with these class names.

    Args:
        aliases: other names by which folders are known -> those of the network.

    Raises:
        DataError: a class the network does not know, or a file that cannot be used.
    """
    root = layout.root
    known = [unicodedata.normalize("NFC", name) for name in names]
    found = {name for classes in layout.parts.values() for name in classes}
    other = aliases or {}
    meant = {
        name: layout.titles[name] if layout.titles.get(name) in known else other.get(name, name)
        for name in found - set(known)
    } | {name: name for name in found & set(known)}
    found = set(meant.values())
    extra, missing = sorted(found - set(known)), [name for name in known if name not in found]
    if extra:
        words = f" and lacks {some(missing)}" if missing else ""
        what = f"the folder has classes the network does not know, {some(extra)}{words}"
        raise DataError(what, root, f"it knows {some(list(names))}; rename or remove the folders")
    if missing:
        log.warning("%d of %d classes have no images here (%s): %s", len(missing), len(known), root, some(missing))
    size, channels = wishes.image_size or LARGEST, wishes.channels or 3
    parts: dict[Part, dict[str, Class]] = {part: {} for part in layout.parts}
    for part, classes in layout.parts.items():
        for name, held in classes.items():  # several folders may mean one class
            whole = parts[part].setdefault(meant[name], Class())
            whole.files.extend(held.files)
            whole.bad.extend(held.bad)
    layout = replace(layout, parts=parts)
    sound = sift(layout, known, wishes.threads, None, narrow=_narrow(wishes, size))
    return {part: _source(layout, held, wishes, channels, size) for part, held in sound.parts.items()}
