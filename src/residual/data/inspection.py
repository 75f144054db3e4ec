"""What a person should know of a place of photographs before training: every file decoded, every oddity named.

Nothing is changed. Files that cannot be used are *faults*; oddities that are read by a documented rule are *notes*;
twins, near twins, small and uneven classes are *concerns*.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from residual.data.checking import nothing
from residual.data.concerns import FEW, UNEVEN
from residual.data.examination import MEMORY, SECONDS, Task, examine_all
from residual.data.folder import class_names
from residual.data.layout import Layout, some
from residual.data.likeness import MOST_PAIRS, NEAR, near_groups
from residual.data.places import scan
from residual.data.stores import ArchiveStore, FolderStore, shown
from residual.errors import DataError, UsageError, log

Weight = Literal["fault", "concern", "note"]
TINY = 32  # pixels of the shorter side below which an image is mostly made up by enlarging
NARROW = 4  # times as long as wide

# what an examined file may be, when, and the rule by which it is read
NOTES: tuple[tuple[str, Callable[[Mapping[str, Any]], bool], str], ...] = (
    ("greyscale", lambda f: bool(f["grey"]), "read as grey, or its one channel three times"),
    ("CMYK", lambda f: bool(f["cmyk"]), "converted to RGB without its colour profile"),
    ("16 bits a channel", lambda f: bool(f["deep"]), "the upper 8 bits are read"),
    ("palette", lambda f: bool(f["palette"]), "converted to RGB"),
    ("transparent", lambda f: bool(f["alpha"]), "laid on black"),
    ("animated", lambda f: int(f["frames"]) > 1, "the first frame is read"),
    ("turned by EXIF", lambda f: int(f["orientation"]) > 1, "turned upright"),
    ("named as another format", lambda f: bool(f["misnamed"]), "read by content"),
    ("smaller than 32 pixels", lambda f: min(f["width"], f["height"]) < TINY, "enlarged"),
    (
        "longer than 4:1",
        lambda f: max(f["width"], f["height"]) > NARROW * min(f["width"], f["height"]),
        "only the middle is seen in evaluation",
    ),
)


class Finding(NamedTuple):
    """One thing found: of what weight, in which files, and what it means."""

    weight: Weight
    what: str
    files: tuple[str, ...]
    meaning: str


@dataclass
class Inspection:
    """All that was found. `files` holds a row for each file: path, part, class, and what it is."""

    place: str
    layout: str
    files: list[dict[str, Any]]
    findings: list[Finding]
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
            "unusable": sum(bool(row["fault"]) for row in self.files),
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
    rows, tasks = _rows(layout, store)
    waiting = [row for row in rows if not row["fault"]]
    for done, (number, facts) in enumerate(examine_all(tasks, processes, heed, memory, seconds), 1):
        waiting[number].update(facts)
        told(done, len(tasks))
    found += _faults(rows)
    found += _twins(rows)
    found += _balance(rows)
    sound = [row for row in rows if not row["fault"]]
    for what, applies, rule in NOTES:
        files = tuple(row["path"] for row in sound if applies(row))
        if files:
            found.append(Finding("note", what, files, rule))
    words = layout.words or ("class folders" if "all" in layout.parts else ", ".join(f"{p}/" for p in layout.parts))
    return Inspection(shown(str(place)), words, rows, found, _counts(rows), _sizes(sound), time.monotonic() - began)


def _rows(layout: Layout, store: FolderStore | ArchiveStore) -> tuple[list[dict[str, Any]], list[Task]]:
    rows: list[dict[str, Any]] = []
    tasks: list[Task] = []
    for part, classes in layout.parts.items():
        for name, held in classes.items():
            title = shown(layout.titles.get(name, name))
            for file in held.files:
                row = {"path": shown(file.path), "part": part, "class": title, "bytes": file.size, "fault": ""}
                rows.append(row)
                path, offset = store.locate(file)
                tasks.append((file.path, path, offset, file.size if isinstance(store, ArchiveStore) else None))
            for bad in held.bad:
                row = {"path": shown(bad.path), "part": part, "class": title, "bytes": 0, "fault": bad.why}
                rows.append(row | {"kind": "no file"})
    return rows, tasks


def _faults(rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    kinds: dict[str, list[str]] = {}
    for row in rows:
        if row["fault"]:
            kinds.setdefault(row.get("kind", "corrupt"), []).append(row["path"])
    first = {row.get("kind", "corrupt"): row["fault"] for row in reversed(rows) if row["fault"]}
    judged = any(row["fault"] and row["part"] in ("validation", "test") for row in rows)
    stops = "; one that is judged on stops a run" if judged else ""
    return [
        Finding("fault", kind, tuple(files), f"{first[kind]}{stops}")
        for kind, files in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]


def _twins(rows: list[dict[str, Any]]) -> list[Finding]:
    """Images that are there several times, bit for bit or nearly; across parts and classes above all."""
    by_content: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if not row["fault"]:
            by_content.setdefault(row["sha256"], []).append(number)
    exact = [members for members in by_content.values() if len(members) > 1]
    for members in exact:
        for number in members[1:]:
            rows[number]["duplicate_of"] = rows[members[0]]["path"]
    once = [members[0] for members in by_content.values() if not rows[members[0]]["flat"]]
    alike, whole = near_groups([bytes.fromhex(rows[number]["across"] + rows[number]["down"]) for number in once])
    near = [[once[place] for place in group] for group in alike]
    for group in near:
        for number in group[1:]:
            rows[number]["near"] = rows[group[0]]["path"]
    # An exact twin of a near twin belongs to the same group.
    near = [[n for first in group for n in by_content[rows[first]["sha256"]]] for group in near]
    found: list[Finding] = []
    for word, sets, bits in (
        ("duplicates", exact, "bit for bit"),
        ("near duplicates", near, f"within {NEAR} of 128 bits"),
    ):
        found += _across(
            rows, sets, "part", f"{word} across parts", f"the same image, {bits}, is trained and judged on"
        )
        found += _across(rows, sets, "class", f"{word} across classes", f"the same image, {bits}, has several labels")
        if files := tuple(rows[n]["path"] for members in sets for n in members):
            what = f"{len(sets):,} sets of the same image, {bits}"
            if sets is near and not whole:
                what += f", where the search ended at {MOST_PAIRS:,} pairs and there may be more"
            found.append(Finding("concern", word, files, f"{what}; a division may put it on both sides"))
    return found


def _across(
    rows: Sequence[Mapping[str, Any]], sets: Sequence[list[int]], by: str, what: str, meaning: str
) -> list[Finding]:
    files = tuple(rows[n]["path"] for members in sets if len({rows[n][by] for n in members}) > 1 for n in members)
    return [Finding("concern", what, files, meaning)] if files else []


def _missing(layout: Layout, names: Sequence[str]) -> list[Finding]:
    """Classes that are trained on and not judged on."""
    found = []
    for part, classes in layout.parts.items():
        if missing := tuple(shown(layout.titles.get(name, name)) for name in names if name not in classes):
            meaning = f"no {part} figure says how well they are recognised"
            found.append(Finding("concern", f"classes without {part} images", missing, meaning))
    return found


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Usable images by part and class."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        counts = found.setdefault(row["part"], {})
        counts[row["class"]] = counts.get(row["class"], 0) + (not row["fault"])
    return found


def _balance(rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
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


def _sizes(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Smallest, median and largest shorter side, the extreme files, and the formats."""
    if not rows:
        return {}
    ordered = sorted(rows, key=lambda row: (row["width"] * row["height"], row["path"]))
    extremes = {
        name: {"path": row["path"], "width": row["width"], "height": row["height"]}
        for name, row in (("smallest", ordered[0]), ("largest", ordered[-1]))
    }
    shorter = [min(row["width"], row["height"]) for row in rows]
    sides = {"least": min(shorter), "median": statistics.median_low(shorter), "most": max(shorter)}
    formats = dict(Counter(row["format"] for row in rows).most_common())
    return {"shorter_side": sides, **extremes, "formats": formats, "bytes": sum(row["bytes"] for row in rows)}


CSV_COLUMNS = (
    "path", "part", "class", "bytes", "format", "mode", "width", "height", "orientation", "frames", "sha256",
    "duplicate_of", "near", "fault",
)  # fmt: skip


def is_csv(path: Path) -> bool:
    """Whether a file begins as the rows of a check do."""
    head = ",".join(CSV_COLUMNS).encode() + b"\n"
    try:
        with path.open("rb") as stream:
            return stream.read(len(head)) == head
    except OSError:
        return False


def csv_rows(inspection: Inspection) -> list[list[str]]:
    """A header and a row for each file."""
    return [list(CSV_COLUMNS), *([str(row.get(name, "")) for name in CSV_COLUMNS] for row in inspection.files)]


def summary(finding: Finding) -> str:
    """The first files of a finding, in words."""
    return some(list(finding.files))
