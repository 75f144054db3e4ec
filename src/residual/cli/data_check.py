"""`residual data check` and `pack`."""

from __future__ import annotations

import json as json_
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from residual.cli.text import Number, Whole, beside, printable

if TYPE_CHECKING:
    from residual.data.inspection import Inspection

Told = Callable[[int, int], None]
_SHOWN = 20  # classes that are listed


def check(
    photos: str,
    /,
    *,
    json: Annotated[bool, Parameter(negative=())] = False,
    csv: str | None = None,
    follow_links: bool = False,
    group: str | None = None,
    processes: Whole = 0,
) -> int:
    """Decode all photographs and report damaged, unusual and duplicate files and uneven classes; changes nothing.

    The files are decoded in separate processes, with limits of time and memory. The exit code is 3 if a file or a
    folder cannot be used.

    Parameters
    ----------
    photos
        A folder, archive (.tar, .tar.gz) or table (.csv, .tsv) of photographs.
    json
        JSON instead of tables, with all files of every finding.
    csv
        A file to write a row for each image to; must not lie among the images. One of an earlier check is replaced,
        any other that stands there is refused.
    follow_links
        Also follow links that lead out of the folder.
    group
        The column of a table that says which images belong together.
    processes
        How many processes decode images; without it, one for each processor, at most 16.
    """
    from residual.data.inspection import csv_rows, inspect_place, is_csv
    from residual.errors import UsageError
    from residual.evaluation.destination import mind_places
    from residual.files import growing_file

    if not 0 <= processes <= 256:
        raise UsageError(f"processes is {processes}", "--processes", "choose a number between 1 and 256")
    place = _place(photos)
    target = beside(place, csv) if csv is not None else None
    if target is not None and os.path.lexists(target):
        mind_places([target], "--csv", is_csv)
    # The file is there before the images are decoded, which may take hours: what cannot be written is not begun.
    remedy = "make room, or name a file elsewhere"
    with ends_cleanly("check"), nullcontext() if target is None else growing_file(target, remedy) as write:
        with _progress("decoded") as told:
            found = inspect_place(place, follow_links=follow_links, group=group, processes=processes, told=told)
        if write is not None:
            import csv as csv_
            import io

            rows = csv_rows(found)
            while some := list(islice(rows, 1000)):
                text = io.StringIO()
                csv_.writer(text, lineterminator="\n").writerows(some)
                write(text.getvalue().encode())
    if json:
        print(json_.dumps(found.as_dict()))
    else:
        _print(found)
    return 0 if found.sound else 3


class _Ended(KeyboardInterrupt):
    """SIGTERM came: passes by whatever hears of mere errors, as SIGINT does."""


@contextmanager
def ends_cleanly(verb: str) -> Iterator[None]:
    """Where SIGTERM is obeyed as SIGINT is: what is half written is removed, and one line says so.

    Raises:
        Interrupted: it came.
    """

    def hear(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # cleaning up is not to be ended
        raise _Ended

    # Python lets only the main thread receive signals; one that its user had ignored stays so.
    before = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    signal.signal(signal.SIGTERM, hear)
    try:
        yield
    except _Ended:
        from residual.errors import Interrupted

        remedy = "nothing is left half done, give the command again"
        raise Interrupted("stopped by SIGTERM", f"residual data {verb}", remedy, signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _place(name: str) -> Path:
    from residual.errors import DataError

    place = Path(os.path.expanduser(name))
    if not os.path.lexists(place):
        raise DataError("no such folder or file", name[:200], "check the path")
    return place


def _print(found: Inspection) -> None:
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import console
    from residual.data.inspection import summary

    out = console()
    usable = sum(not row.fault for row in found.files)
    print(printable(f"{found.place}: {found.layout}, {len(found.files):,} images, {usable:,} usable"))
    if sizes := found.sizes:
        side, formats = sizes["shorter_side"], ", ".join(f"{n:,} {form}" for form, n in sizes["formats"].items())
        print(f"shorter side {side['least']:,} to {side['most']:,} pixels, median {side['median']:,}; {formats}")
        for name in ("smallest", "largest"):
            one = sizes[name]
            print(printable(f"{name:<8} {one['width']:,} x {one['height']:,}  {one['path']}"))
    table = Table(title="classes", title_justify="left")
    parts = list(found.classes)
    names = sorted({name for counts in found.classes.values() for name in counts})
    for column in ("class", *parts):
        table.add_column(column, justify="left" if column == "class" else "right", overflow="fold")
    # Of many classes the extremes are of interest.
    shown = sorted(names, key=lambda n: (sum(c.get(n, 0) for c in found.classes.values()), n))
    listed = names if len(names) <= _SHOWN else [*shown[: _SHOWN // 2], *shown[-_SHOWN // 2 :]]
    for name in listed:
        table.add_row(Text(printable(name)), *(f"{found.classes[part].get(name, 0):,}" for part in parts))
    table.add_section()
    total = f"{len(names):,} classes" + (", the smallest and largest shown" if len(listed) < len(names) else "")
    table.add_row(total, *(f"{sum(found.classes[part].values()):,}" for part in parts))
    out.print(table)
    if not found.findings:
        print("nothing is wrong with them")
        return
    table = Table(title="found", title_justify="left")
    for column in ("", "what", "count", "where", "meaning"):
        table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
    for one in found.findings:
        cells = (one.weight, one.what, f"{len(one.files):,}", summary(one), one.meaning)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    out.print(table)


def pack(
    photos: str,
    out: str,
    /,
    *,
    short_side: Whole = 256,
    follow_links: bool = False,
    group: str | None = None,
    quarantine: Number = 0.01,
    threads: Whole = 0,
) -> int:
    """Decode photographs once into one file that `residual train` reads like a folder, only faster.

    Parameters
    ----------
    photos
        A folder, archive or table of photographs.
    out
        The pack to write; nothing may stand there.
    short_side
        Larger images are brought to this shorter side in pixels, none is enlarged; 0 keeps every image as it is.
    follow_links
        Also follow links that lead out of the folder.
    group
        The column of a table that says which images belong together.
    quarantine
        The largest share of training images that may be unusable; they are left out and listed in the pack.
    threads
        How many threads decode images; without it, one for each processor, at most 16.
    """
    from residual.environment import check_versions

    check_versions()
    from residual.data.folder import Wishes
    from residual.data.packing import pack as make
    from residual.errors import UsageError, argument

    ranges = {
        "--short-side": (short_side, 0, 8192),
        "--quarantine": (quarantine, 0, 0.5),
        "--threads": (threads, 0, 256),
    }
    for flag, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise UsageError(f"{flag.lstrip('-')} is {value}", flag, f"choose a number between {least} and {most}")
    place = _place(photos)
    target = beside(place, out)
    wishes = Wishes(quarantine=quarantine, follow_links=follow_links, threads=threads, group=group)
    with ends_cleanly("pack"), _progress("packed") as told:
        made = make(place, target, short_side, wishes, told=told)
    resized = f"{made.resized:,} brought to a shorter side of {short_side}" if made.resized else "none resized"
    print(printable(f"{made.path}: {made.images:,} images, {made.bytes:,} bytes, {resized}"))
    print(printable(f"next     residual train {argument(made.path)}"))
    return 0


@contextmanager
def _progress(word: str) -> Iterator[Told]:
    """A bar with rate and time left on a terminal; elsewhere a line every ten seconds."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from residual.training.progress import Output

    output = Output(stderr=True)
    if output.is_terminal:
        rate = TextColumn("{task.fields[rate]}")
        with Progress(BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn(), console=output) as bar:
            task = bar.add_task(word, total=None, rate="")
            start = time.monotonic()

            def draw(done: int, total: int) -> None:
                speed = done / max(1e-9, time.monotonic() - start)
                bar.update(task, completed=done, total=total, rate=f"{speed:,.0f} images/s")

            yield draw
        return
    began = said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= 10 and done < total:
            said = time.monotonic()
            rate = done / (said - began)
            line = f"{word} {done:,} of {total:,}, {rate:,.0f} images/s, {(total - done) / rate:.0f} s left"
            print(line, file=sys.stderr, flush=True)

    yield tell
