"""What a person may name as their photographs: a folder, an archive, a table, a pack, or ImageNet as it is given out.

One door for all of them: `scan` looks at the place and says which images of which classes lie there.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

from residual.data import archives, official, packed, tables
from residual.data.checking import nothing
from residual.data.formats import SUFFIXES
from residual.data.layout import ARCHIVES, EXPECTED, Layout, scan_tree
from residual.data.stores import FolderStore
from residual.data.trees import Fault, FolderTree, stop
from residual.errors import DataError, UsageError

ACCEPTED = (
    f"{EXPECTED}; or a .tar or .tar.gz of such a folder, a .csv or .tsv of paths and labels, ImageNet's official "
    "archives, Tiny ImageNet, or a pack"
)
_SAMPLED = 200


def is_file_of_photographs(place: Path) -> bool:
    """Whether the name of a file, or its first bytes, are of a kind that is read as photographs."""
    try:
        return place.is_file() and (archives.is_archive(place) or tables.is_table(place) or packed.is_pack(place))
    except (OSError, ValueError):
        return False


def scan(
    place: Path,
    follow_links: bool = False,
    *,
    group: str | None = None,
    heed: Callable[[], None] = nothing,
    fault: Fault = stop,
    anew: bool = False,
) -> Layout:
    """The classes and files of photographs that lie at a place.

    Args:
        follow_links: also read what lies outside of the place.
        group: of a table, the column that says which images belong together.
        heed: called now and then; may raise to stop.
        fault: told of what is wrong with some folder or link, which is then passed over; raises to stop.
        anew: read archives through, whatever is remembered of them.

    Raises:
        DataError: nothing of the kind lies there; says what was found and what is accepted.
        UsageError: groups where there are none.
    """
    if place.is_file() and tables.is_table(place):
        return tables.scan_table(place, follow_links, group, heed)
    if group is not None:
        raise UsageError("only a table (.csv, .tsv) has groups", "data.group", "leave it out, or name a table")
    if official.is_imagenet(place):
        return official.scan_imagenet(place, heed, anew)
    if place.is_dir():
        tree = FolderTree(FolderStore(place), place, follow_links)
        return official.scan_tiny(tree, fault) if official.is_tiny(tree) else scan_tree(tree, fault)
    if not place.is_file():
        raise DataError("not a folder", place, f"name a folder; {EXPECTED}")
    if packed.is_pack(place):
        return packed.open_pack(place).layout()
    if archives.is_archive(place):
        inside = archives.open_tree(place, heed, anew)
        return official.scan_tiny(inside, fault) if official.is_tiny(inside) else scan_tree(inside, fault)
    if place.suffix.lower() in ARCHIVES:
        raise DataError("not an archive that is read here", place, "unpack it, or make a .tar of it")
    raise DataError("not a folder, and no archive or table that is read here", place, f"name a folder; {ACCEPTED}")


def holds_photographs(place: Path) -> bool:
    """Whether a place looks like photographs in classes; looks no further than it must."""
    try:
        if place.is_file():
            return tables.is_table(place) or packed.is_pack(place) or _archive_holds(place)
        if official.is_imagenet(place):
            return True
        found = (path for depth in ("*/*", "*/*/*") for path in place.glob(depth))
        return place.is_dir() and any(path.name.lower().endswith(SUFFIXES) for path in found)
    except (OSError, ValueError):
        return False


def _archive_holds(place: Path) -> bool:
    """Whether one of the first files in an archive is an image in a folder, or an archive."""
    if not archives.is_archive(place):
        return False
    try:
        with tarfile.open(place, "r|*") as tar:
            for number, member in enumerate(tar):
                if member.isreg() and number < _SAMPLED:
                    name = member.name.lower()
                    if name.endswith(".tar") or (name.endswith(SUFFIXES) and name.count("/") >= 1):
                        return True
                elif number >= _SAMPLED:
                    break
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError, MemoryError):
        pass
    return False


def names_photographs(name: str) -> bool:
    """Whether a command's argument names photographs: a folder, or a file of one of the kinds read here."""
    ends = name.endswith(("/", os.sep))
    try:
        place = Path(name).expanduser()
        return ends or (
            bool(name) and place.suffix.lower() != ".toml" and (place.is_dir() or is_file_of_photographs(place))
        )
    except (OSError, RuntimeError, ValueError):
        return False
