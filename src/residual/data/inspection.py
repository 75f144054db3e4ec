"""What a person should know of a place of photographs before training: every file decoded, every oddity named.

Nothing is changed. Files that cannot be used are *faults*; oddities that are read by a documented rule are *notes*;
twins, near twins, small and uneven classes are *concerns*.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, overload

from residual.data.checking import nothing
from residual.data.concerns import FEW, UNEVEN
from residual.data.examination import MEMORY, SECONDS, Task, examine_all
from residual.data.folder import class_names
from residual.data.layout import Class, Layout, Part, some
from residual.data.likeness import MOST_PAIRS, NEAR, near_groups
from residual.data.places import scan
from residual.data.stores import ArchiveStore, FolderStore, shown
from residual.data.tables import begins_with
from residual.errors import DataError, UsageError, log

Weight = Literal["fault", "concern", "note"]
TINY = 32  # pixels of the shorter side below which an image is mostly made up by enlarging
NARROW = 4  # times as long as wide

# what an examined file may be, when, and the rule by which it is read
NOTES: tuple[tuple[str, Callable[[Mapping[str, Any]], bool], str], ...] = (
    ("greyscale", lambda f: bool(f["grey"]), "read as grey, or its one channel three times"),
    ("CMYK", lambda f: bool(f["cmyk"]), "converted to RGB without its colour profile"),
    ("16 bits a channel", lambda f: bool(f["deep"]), "the upper 8 bits are read"),
    (
        "16 bits a channel, all values below 4,096",
        lambda f: bool(f.get("dark")),
        "nearly black; scale them to 0 to 65,535",
    ),
    ("palette", lambda f: bool(f["palette"]), "converted to RGB"),
    ("transparent", lambda f: bool(f["alpha"]), "laid on black"),
    ("several frames or pages", lambda f: int(f["frames"]) > 1, "the first is read"),
    ("turned by EXIF", lambda f: int(f["orientation"]) > 1, "turned upright"),
    ("named as another format", lambda f: bool(f["misnamed"]), "read by content"),
    ("smaller than 32 pixels", lambda f: min(f["width"], f["height"]) < TINY, "enlarged"),
    (
        "longer than 4:1",
        lambda f: max(f["width"], f["height"]) > NARROW * min(f["width"], f["height"]),
        "only the middle is seen in evaluation",
    ),
)


@dataclass(slots=True)
class Row:
    """What one file is, in little room: a data set has a million of them."""

    path: str
    part: Part
    title: str
    size: int
    fault: str = ""
    kind: str = ""
    sha256: bytes = b""
    format: str | None = None
    mode: str | None = None
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    frames: int | None = None
    hashes: bytes = b""
    flat: bool = False
    notes: int = 0
    """A bit for each of NOTES."""
    duplicate_of: Row | None = None
    near: Row | None = None

    def take(self, facts: Mapping[str, Any]) -> None:
        """What `examiner` found."""
        self.fault = facts["fault"]
        self.kind = facts.get("kind", "corrupt") if self.fault else ""
        self.sha256 = bytes.fromhex(facts.get("sha256", ""))
        self.width, self.height = facts.get("width"), facts.get("height")
        self.orientation, self.frames = facts.get("orientation"), facts.get("frames")
        self.format, self.mode = _one_text(facts.get("format")), _one_text(facts.get("mode"))
        if not self.fault:
            self.hashes, self.flat = bytes.fromhex(facts["across"] + facts["down"]), facts["flat"]
            self.notes = sum(applies(facts) << place for place, (_, applies, _) in enumerate(NOTES))

    @property
    def sides(self) -> tuple[int, int]:
        """(width, height) of a sound one."""
        return self.width or 0, self.height or 0

    def __getitem__(self, column: str) -> Any:
        """What stands in a column of CSV_COLUMNS; None where it is not known."""
        value = getattr(self, {"class": "title", "bytes": "size"}.get(column, column))
        if isinstance(value, Row):
            return value.path
        return value.hex() if isinstance(value, bytes) else value


def _one_text(text: str | None) -> str | None:
    return None if text is None else sys.intern(text)


class Finding(NamedTuple):
    """One thing found: of what weight, in which files, and what it means."""

    weight: Weight
    what: str
    files: tuple[str, ...]
    meaning: str


@dataclass
class Inspection:
    """All that was found, with a row for each file."""

    place: str
    layout: str
    files: list[Row]
    findings: list[Finding]
    remarks: tuple[str, ...] = ()
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        return not any(finding.weight == "fault" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "layout": self.layout,
            "images": len(self.files),
            "unusable": sum(bool(row.fault) for row in self.files),
            "findings": [
                {
                    "weight": f.weight,
                    "what": f.what,
                    "count": len(f.files),
                    "files": list(f.files),
                    "meaning": f.meaning,
                }
                for f in self.findings
            ],
            "remarks": list(self.remarks),
            "classes": self.classes,
            "sizes": self.sizes,
            "seconds": round(self.seconds, 3),
        }


def inspect_place(
    place: Path,
    *,
    follow_links: bool = False,
    group: str | None = None,
    processes: int = 0,
    heed: Callable[[], None] = nothing,
    told: Callable[[int, int], None] = lambda done, total: None,
    memory: int = MEMORY,
    seconds: float = SECONDS,
) -> Inspection:
    """Decode every file at a place and say what is found.

    Args:
        processes: how many decode at a time; 0 is automatic.
        told: given how many files of how many are done.
        memory, seconds: the limits of a process that decodes, and for one file.

    Raises:
        DataError: nothing of the kind lies there.
        UsageError: it is a pack, whose images were checked when it was made.
    """
    began = time.monotonic()
    faults: list[DataError] = []
    layout = scan(place, follow_links, group=group, heed=heed, fault=faults.append)
    for remark in layout.remarks:
        log.warning(remark)
    store = layout.store
    if not isinstance(store, FolderStore | ArchiveStore):
        raise UsageError("a pack is checked when it is made", place, "check the photographs it was made from")
    found = [Finding("fault", error.what, (shown(error.where),), error.remedy) for error in faults]
    try:
        found += _missing(layout, class_names(layout))
    except DataError as error:
        found.append(Finding("fault", error.what, (shown(error.where),), error.remedy))
    rows, tasks = _rows(layout), _Tasks(layout, store)
    waiting = [row for row in rows if not row.fault]
    for done, (number, facts) in enumerate(examine_all(tasks, processes, heed, memory, seconds), 1):
        waiting[number].take(facts)
        told(done, len(tasks))
    found += _faults(rows)
    found += _twins(rows)
    found += _balance(rows)
    sound = [row for row in rows if not row.fault]
    for number, (what, _, rule) in enumerate(NOTES):
        files = tuple(row.path for row in sound if row.notes >> number & 1)
        if files:
            found.append(Finding("note", what, files, rule))
    words = layout.words or ("class folders" if "all" in layout.parts else ", ".join(f"{p}/" for p in layout.parts))
    about = (layout.remarks, _counts(rows), _sizes(sound))
    return Inspection(shown(str(place)), words, rows, found, *about, time.monotonic() - began)


class _Tasks(Sequence[Task]):
    """What is to be examined, made when it is asked for."""

    def __init__(self, layout: Layout, store: FolderStore | ArchiveStore) -> None:
        self.store, self.files = store, [file for _, _, held in _classes(layout) for file in held.files]

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, number: int) -> Task: ...
    @overload
    def __getitem__(self, number: slice) -> list[Task]: ...
    def __getitem__(self, number: int | slice) -> Task | list[Task]:
        if isinstance(number, slice):
            return [self[one] for one in range(len(self))[number]]
        file = self.files[number]
        path, offset = self.store.locate(file)
        return file.path, path, offset, file.size if isinstance(self.store, ArchiveStore) else None


def _classes(layout: Layout) -> Iterator[tuple[Part, str, Class]]:
    for part, classes in layout.parts.items():
        for name, held in classes.items():
            yield part, shown(layout.titles.get(name, name)), held


def _rows(layout: Layout) -> list[Row]:
    """A row for each file, those to examine in the order of `_Tasks`."""
    rows: list[Row] = []
    for part, title, held in _classes(layout):
        rows += (
            Row(file.path if file.path.isascii() else shown(file.path), part, title, file.size) for file in held.files
        )
        rows += (Row(shown(bad.path), part, title, 0, bad.why, "no file") for bad in held.bad)
    return rows


def _faults(rows: Sequence[Row]) -> list[Finding]:
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row.fault:
            kinds.setdefault(row.kind, []).append(row)
    judged = any(row.fault and row.part in ("validation", "test") for row in rows)
    stops = "; one that is judged on stops a run" if judged else ""
    return [
        Finding("fault", kind, tuple(row.path for row in bad), f"{bad[0].fault}{stops}")
        for kind, bad in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]


def _twins(rows: Sequence[Row]) -> list[Finding]:
    """Images that are there several times, bit for bit or nearly; across parts and classes above all."""
    once: dict[bytes, Row] = {}
    copies: dict[bytes, list[Row]] = {}
    for row in rows:
        if not row.fault and (first := once.setdefault(row.sha256, row)) is not row:
            copies.setdefault(row.sha256, [first]).append(row)
            row.duplicate_of = first
    exact = [copies[content] for content in once if content in copies]
    marked = [row for row in once.values() if not row.flat]
    alike, whole = near_groups([row.hashes for row in marked])
    near = [[marked[number] for number in group] for group in alike]
    for group in near:
        for row in group[1:]:
            row.near = group[0]
    # An exact twin of a near twin belongs to the same group.
    near = [[row for first in group for row in copies.get(first.sha256, [first])] for group in near]
    found: list[Finding] = []
    for word, sets, bits in (
        ("duplicates", exact, "bit for bit"),
        ("near duplicates", near, f"within {NEAR} of 128 bits"),
    ):
        for by, across, harm in (
            ("part", "parts", "is trained and judged on"),
            ("title", "classes", "has several labels"),
        ):
            apart = [members for members in sets if len({getattr(row, by) for row in members}) > 1]
            if files := tuple(row.path for members in apart for row in members):
                found.append(Finding("concern", f"{word} across {across}", files, f"the same image, {bits}, {harm}"))
        if files := tuple(row.path for members in sets for row in members):
            what = f"{len(sets):,} sets of the same image, {bits}"
            if sets is near and not whole:
                what += f", where the search ended at {MOST_PAIRS:,} pairs and there may be more"
            sides = "may put it" if sets is near else "made here does not put it"
            found.append(Finding("concern", word, files, f"{what}; a division {sides} on both sides"))
    return found


def _missing(layout: Layout, names: Sequence[str]) -> list[Finding]:
    """Classes that are trained on and not judged on."""
    found = []
    for part, classes in layout.parts.items():
        if missing := tuple(shown(layout.titles.get(name, name)) for name in names if name not in classes):
            meaning = f"no {part} figure says how well they are recognised"
            found.append(Finding("concern", f"classes without {part} images", missing, meaning))
    return found


def _counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Usable images by part and class."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = found.setdefault(row.part, {})
        counts[row.title] = counts.get(row.title, 0) + (not row.fault)
    return found


def _balance(rows: Sequence[Row]) -> list[Finding]:
    found = []
    for part, counts in _counts(rows).items():
        few = [f"{name} ({count})" for name, count in counts.items() if count < FEW]
        if few and part in ("train", "all"):
            what = f"{len(few)} classes of fewer than {FEW} images"
            found.append(Finding("concern", what, tuple(few), "too few to learn from and to hold some out"))
        least, most = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
        if counts[most] >= UNEVEN * max(1, counts[least]):
            pair = (f"{least} ({counts[least]:,})", f"{most} ({counts[most]:,})")
            found.append(Finding("concern", f"uneven classes in {part}", pair, "look at the accuracy of each class"))
    return found


def _sizes(rows: Sequence[Row]) -> dict[str, Any]:
    """Smallest, median and largest shorter side, the extreme files, and the formats."""
    if not rows:
        return {}

    def extent(row: Row) -> tuple[int, str]:
        return row.sides[0] * row.sides[1], row.path

    extremes = {
        name: {"path": row.path, "width": row.width, "height": row.height}
        for name, row in (("smallest", min(rows, key=extent)), ("largest", max(rows, key=extent)))
    }
    shorter = [min(row.sides) for row in rows]
    sides = {"least": min(shorter), "median": statistics.median_low(shorter), "most": max(shorter)}
    formats = dict(Counter(row.format for row in rows).most_common())
    return {"shorter_side": sides, **extremes, "formats": formats, "bytes": sum(row.size for row in rows)}


CSV_COLUMNS = (
    "path", "part", "class", "bytes", "format", "mode", "width", "height", "orientation", "frames", "sha256",
    "duplicate_of", "near", "fault",
)  # fmt: skip


def is_csv(path: Path) -> bool:
    """Whether a file begins as the rows of a check do."""
    return begins_with(path, ",".join(CSV_COLUMNS) + "\n")


def csv_rows(inspection: Inspection) -> Iterator[list[str]]:
    """A header and a row for each file."""
    yield list(CSV_COLUMNS)
    for row in inspection.files:
        yield ["" if (value := row[column]) is None else str(value) for column in CSV_COLUMNS]


def summary(finding: Finding) -> str:
    """The first files of a finding, in words."""
    return some(list(finding.files))
