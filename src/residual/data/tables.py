"""A table of photographs: CSV or TSV with a path and a label in each line, and, where there are, a part and a group.

The columns are found by their names (`path`, `label`, `split`, `group` and their like), else the first two columns
are path and label; columns that are not used are told. Paths count from the folder of the table. Labels are names;
where all of them are whole numbers, these are 0 to K-1. Every fault is told with its line. UTF-8, with or without a
mark at its beginning; any line ends.
"""

from __future__ import annotations

import csv
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from residual.data.checking import nothing
from residual.data.formats import SUFFIXES
from residual.data.layout import PARTS, Bad, Class, Layout, Part, some, warn_of_case
from residual.data.stores import File, FolderStore, shown
from residual.data.trees import composed, inside
from residual.errors import DataError, log, nearest

TABLES = (".csv", ".tsv")

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "fname"),
    "label": ("label", "class", "target", "category", "class_name", "label_name", "labels"),
    "split": ("split", "part", "set", "subset", "phase", "partition", "is_valid"),
    "group": ("group", "group_id"),
}
_BESIDE = ("fname", "labels")  # of fastai; alone, such a name does not say that the other one must be there, too
_IS_VALID = {"true": "val", "1": "val", "false": "train", "0": "train"}
LONGEST_LINE = 1 << 16
MOST_LINES = 10_000_000
_HEED = 1000
_KINDS = {"path": "path", "label": "label", "split": "part", "group": "group"}


class _Row(NamedTuple):
    line: int
    path: str
    label: str
    split: str
    group: str


@dataclass
class _Columns:
    """Which column holds what; `header` is empty where the table has none."""

    places: dict[str, int]
    header: list[str] = field(default_factory=list)
    guessed: bool = False
    """Whether the header has none of the known names."""

    def name(self, kind: str) -> str:
        """What the table calls a column, in small letters; empty where it has none of that kind."""
        return self.header[self.places[kind]].strip().lower() if self.header and kind in self.places else ""


def begins_with(path: Path, head: str) -> bool:
    """Whether a file is there that begins so, as the tables that this program writes do."""
    with suppress(OSError), path.open("rb") as stream:
        return stream.read(len(head.encode())) == head.encode()
    return False


def is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def scan_table(
    table: Path, follow_links: bool = False, group: str | None = None, heed: Callable[[], None] = nothing
) -> Layout:
    """The images that a table names, by part and class.

    Args:
        group: the column that says which images belong together; without it, a column named `group`.

    Raises:
        DataError: with the line of the table that is wrong.
    """
    rows = list(_rows(table, group, heed))
    if not rows:
        raise DataError("the table names no image", table, "a line is PATH,LABEL")
    _check_labels(table, rows)
    warn_of_case(sorted({composed(row.label) for row in rows}), shown(str(table)), "each is a class of its own")
    store = FolderStore(table.parent, table)
    place = _Place(table, follow_links)
    seen: dict[str, int] = {}
    parts: dict[Part, dict[str, Class]] = {}
    groups: dict[str, str] = {}
    for number, row in enumerate(rows):
        if number % _HEED == 0:
            heed()
        path = place.path(row)
        if path in seen:
            raise _fault(table, row.line, f"{shown(path)!r} stands in line {seen[path]:,} as well", "name it once")
        seen[path] = row.line
        held = parts.setdefault(_part(table, row), {}).setdefault(composed(row.label), Class())
        place.look(row, path, held)
        if row.group:
            groups[path] = row.group
    if "all" in parts and len(parts) > 1:
        line = next(row.line for row in rows if not row.split.strip())
        raise _fault(table, line, "its part is empty, and other lines have one", "fill it: train, val or test")
    return Layout(store, {part: parts[part] for part in (*PARTS.values(), "all") if part in parts}, {}, "table", groups)


def _rows(table: Path, group: str | None, heed: Callable[[], None]) -> Iterator[_Row]:
    try:
        with open(table, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise DataError("not a regular file", table, "name a table")
            yield from _parse(table, stream, group, heed)
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", table, "make it readable") from None


def _parse(table: Path, stream: IO[bytes], group: str | None, heed: Callable[[], None]) -> Iterator[_Row]:
    lines = _lines(table, stream, heed)
    first = next(lines, "")
    mark = "\t" if table.suffix.lower() == ".tsv" else ";" if ";" in first and "," not in first else ","
    reader = csv.reader(_both(first, lines), delimiter=mark, strict=True)
    columns: _Columns | None = None
    watch: _Watch | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None or watch is None:
                columns = _columns(table, cells, group)
                watch = _Watch(table, columns, len(cells))
                if columns.header:
                    continue
            values = {kind: cells[place].strip() for kind, place in columns.places.items() if place < len(cells)}
            for kind in ("path", "label"):
                if not values.get(kind):
                    raise _fault(
                        table, reader.line_num, f"no {kind}", f"a line is {mark.join(columns.header) or 'PATH,LABEL'}"
                    )
            split = values.get("split", "")
            if columns.name("split") == "is_valid" and split:
                if split.lower() not in _IS_VALID:
                    what = f"is_valid is {split[:40]!r}"
                    raise _fault(table, reader.line_num, what, "write true or false, or rename the column")
                split = _IS_VALID[split.lower()]
            watch.look(reader.line_num, cells, values)
            yield _Row(reader.line_num, values["path"], values["label"], split, values.get("group", ""))
    except csv.Error as error:
        raise _fault(table, reader.line_num, f"not a line of a table: {error}", "quote cells as CSV does") from None
    if watch is not None:
        watch.end()


class _Watch:
    """What the lines say together of columns that would be misread."""

    def __init__(self, table: Path, columns: _Columns, width: int) -> None:
        self.table, self.columns = table, columns
        used = columns.places.values()
        self.parts: dict[int, set[str]] = {place: set() for place in range(width) if place not in used}
        self.labels: dict[str, int] = {}  # the first line of each
        if "split" in columns.places:
            self.parts = {}

    def look(self, line: int, cells: list[str], values: Mapping[str, str]) -> None:
        """Take heed of a line.

        Raises:
            DataError: the first line is taken for a header and is like this one.
        """
        label = values["label"]
        if self.columns.guessed:
            first = {kind: self.columns.header[place].strip() for kind, place in self.columns.places.items()}
            suffix = Path(first["path"]).suffix
            if first["label"] == label or (suffix and suffix == Path(values["path"]).suffix):
                what = f"{first['path'][:200]!r} is no file and no header, for line {line:,} is like it"
                raise _fault(self.table, 1, what, "correct the path, or name the columns path and label")
        for place in [*self.parts]:
            value = cells[place].strip().lower() if place < len(cells) else ""
            if value in PARTS:
                self.parts[place].add(value)
            else:
                del self.parts[place]
        self.labels.setdefault(label, line)

    def end(self) -> None:
        """Tell of a column that divides the images and is not used.

        Raises:
            DataError: cells hold several labels: words that are labels of other images.
        """
        for label, line in self.labels.items() if self.columns.name("label") == "labels" else ():
            words = set(label.split())
            if len(words) > 1 and words <= self.labels.keys():
                remedy = "give every image one label; where this is the name of a class, call the column label"
                raise _fault(self.table, line, f"several labels in a cell, {label[:40]!r}", remedy)
        for place, values in self.parts.items():
            if len({PARTS[value] for value in values}) > 1:
                name = self.columns.header[place].strip() if self.columns.header else str(place + 1)
                what = "the column %s divides the images (%s) and is not used (%s): call it split where that is meant"
                log.warning(what, name, ", ".join(sorted(values)), self.table)


def _both(first: str, lines: Iterator[str]) -> Iterator[str]:
    if first:
        yield first
        yield from lines


def _lines(table: Path, stream: IO[bytes], heed: Callable[[], None]) -> Iterator[str]:
    """The lines as text, none of them so long that it would fill the memory."""
    for number, line in enumerate(_ended(stream), 1):
        if number > MOST_LINES:
            raise _fault(table, MOST_LINES, f"more than {MOST_LINES:,} lines", "divide the table")
        if number % _HEED == 0:
            heed()
        if len(line) > LONGEST_LINE:
            raise _fault(table, number, f"longer than {LONGEST_LINE:,} bytes", "give every image a line of its own")
        if b"\0" in line:
            raise _fault(table, number, "a NUL byte", "save the table as UTF-8 text")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _fault(table, number, "not UTF-8", "save the table as UTF-8 text") from None


def _ended(stream: IO[bytes]) -> Iterator[bytes]:
    """The lines with their ends, a line feed, a carriage return or both; one that is too long comes in parts."""
    rest = b""
    while part := stream.readline(LONGEST_LINE + 1):
        *lines, rest = (rest + part).splitlines(keepends=True)
        yield from lines
        if rest.endswith(b"\n") or len(rest) > LONGEST_LINE:
            yield rest
            rest = b""
    if rest:
        yield rest


def _columns(table: Path, cells: list[str], group: str | None) -> _Columns:
    """Which columns mean what, by the first line."""
    names = [cell.strip().lower() for cell in cells]
    found: dict[str, int] = {}
    for kind, known in COLUMNS.items():
        there = [name for name in known if name in names]
        if there and names.count(there[0]) > 1:
            raise _fault(table, 1, f"two columns are named {there[0]!r}", "rename one of them")
        if there:
            found[kind] = names.index(there[0])
    titled = bool(found) or not _is_file(table, cells[0].strip())
    guessed = titled and not found and (group is None or group.strip().lower() not in names)
    if group is not None:
        if not titled or group.strip().lower() not in names:
            what = f"no column is named {group!r}, which data.group asks for"
            raise _fault(table, 1, what, nearest(group, [cell.strip() for cell in cells]))
        found["group"] = names.index(group.strip().lower())
    if ("path" in found) != ("label" in found):
        found = {kind: place for kind, place in found.items() if names[place] not in _BESIDE}
    if "path" not in found and "label" not in found and len(cells) >= 2:
        found |= {"path": 0, "label": 1}
    missing = [kind for kind in ("path", "label") if kind not in found]
    if missing:
        has = ", ".join(repr(cell) for cell in cells[:8])
        what = f"no column of {' and '.join(missing)}s: found {has}"
        raise _fault(table, 1, what, "name the columns path and label, and split and group where there are such")
    if "group" in found:
        log.info("images with the same %r stay on one side of every division (%s)", names[found["group"]], table)
    _tell_of_columns(table, cells if titled else [str(number) for number in range(1, len(cells) + 1)], found)
    if guessed:
        log.info("line 1 is taken for the header: %s (%s)", some([cell.strip() for cell in cells]), table)
    return _Columns(found, cells if titled else [], guessed)


def _tell_of_columns(table: Path, names: list[str], found: dict[str, int]) -> None:
    """Say in a line which columns are used, where some are not."""
    unused = [name.strip() for place, name in enumerate(names) if place not in found.values()]
    if unused:
        used = ", ".join(
            f"{names[place].strip()} ({_KINDS[kind]})"
            for kind, place in sorted(found.items(), key=lambda item: item[1])
        )
        log.info("columns used: %s; not used: %s (%s)", used, some(unused), table)


def _is_file(table: Path, name: str) -> bool:
    try:
        return name.lower().endswith(SUFFIXES) or (table.parent / name).is_file()
    except (OSError, ValueError):
        return False


def _check_labels(table: Path, rows: list[_Row]) -> None:
    """Where all labels are whole numbers, they count the classes: none is below 0 or beyond their number."""
    values: dict[str, int] = {}
    for row in rows:
        if not row.label.isprintable() or len(row.label) > 255:
            raise _fault(table, row.line, f"no label: {row.label[:40]!r}", "name classes in printable letters")
    for row in rows:
        if row.label not in values:
            digits = row.label.removeprefix("-")
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
                return
            values[row.label] = int(row.label)
    count = len(set(values.values()))
    for row in rows:
        if not 0 <= values[row.label] < count:
            what = f"label {row.label} is out of range: {count} different labels are numbered 0 to {count - 1}"
            raise _fault(table, row.line, what, "number the classes from 0 without gaps, or give them names")
        if row.label != str(values[row.label]):
            raise _fault(table, row.line, f"label {row.label!r}", f"write it {values[row.label]}")


def _part(table: Path, row: _Row) -> Part:
    if not row.split:
        return "all"
    part = PARTS.get(row.split.lower())
    if part is None:
        what = f"no part is named {row.split[:40]!r}"
        raise _fault(table, row.line, what, f"name one of {', '.join(PARTS)}")
    return part


class _Place:
    """The folder of a table, and what of it was looked at."""

    def __init__(self, table: Path, follow_links: bool) -> None:
        self.table, self.follow_links = table, follow_links
        self.root = os.path.realpath(table.parent)
        self.folders: dict[str, str] = {}

    def path(self, row: _Row) -> str:
        """The path of a row's image below the table's folder, `/` between the names."""
        root = self.root
        try:
            real = self._real(os.path.normpath(os.path.join(root, row.path)))
            if inside(real, root) and not os.path.isabs(row.path):
                return "/".join(Path(os.path.normpath(row.path)).parts)
            if inside(real, root):
                return Path(os.path.relpath(real, root)).as_posix()
        except (OSError, ValueError):
            raise _fault(self.table, row.line, f"no file can be named {row.path[:80]!r}", "correct the path") from None
        if not self.follow_links:
            what = f"{row.path[:200]!r} lies outside of the table's folder"
            remedy = "move the table above its images, or allow it with --follow-links"
            raise _fault(self.table, row.line, what, remedy)
        return os.path.normpath(os.path.join(root, row.path)).replace(os.sep, "/")

    def _real(self, path: str) -> str:
        """The real place of a file. Of its folder it is found out once: there are a thousand files in one."""
        folder, name = os.path.split(path)
        if folder not in self.folders:
            self.folders[folder] = os.path.realpath(folder)
        real = os.path.join(self.folders[folder], name)
        return os.path.realpath(real) if os.path.islink(real) else real

    def look(self, row: _Row, path: str, held: Class) -> None:
        """Put the file among those of its class.

        Raises:
            DataError: there is none.
        """
        try:
            status = os.stat(os.path.join(self.table.parent, path))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no such file"
            what = f"{row.path[:200]!r}: {reason[:1].lower() + reason[1:]}"
            remedy = f"paths count from the folder {shown(str(self.table.parent))}"
            raise _fault(self.table, row.line, what, remedy) from None
        if stat.S_ISREG(status.st_mode):
            held.files.append(File(path, status.st_size, status.st_mtime_ns))
        else:
            held.bad.append(Bad(path, "not a regular file"))


def _fault(table: Path, line: int, what: str, remedy: str) -> DataError:
    return DataError(f"line {line:,}: {what}", shown(str(table)), remedy)
