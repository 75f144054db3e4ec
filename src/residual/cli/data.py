"""`residual data list`, `fetch`, `verify` and `show`; `check`, `pack` and `cache` stand beside it."""

from __future__ import annotations

import json as json_
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import cyclopts
from cyclopts import Parameter

from residual.cli.data_cache import cache
from residual.cli.data_check import check, ends_cleanly, pack
from residual.cli.text import Whole, beside, printable

if TYPE_CHECKING:
    from residual.data.datasets import DataSettings
    from residual.data.download import Told
    from residual.data.published import Form

Many = Annotated[list[str], Parameter(allow_repeating=True, negative=())]

data = cyclopts.App(
    name="data",
    help="List data sets, fetch and verify them, check and pack photographs, draw a batch, clear caches.",
)
data.command(cache)
data.command(check)
data.command(pack)


@data.command(name="list")
def list_(*, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the data sets, what each needs, and where it was found.

    Parameters
    ----------
    json
        JSON instead of a table, with the addresses and checksums of the archives.
    """
    from residual.data.datasets import FAMILIES

    rows: list[dict[str, Any]] = []
    for name in _names():
        if name not in FAMILIES:
            needs = "nothing: it is embedded" if name == "digits" else "images of your own, named with --data"
            rows.append({"name": name, "needs": needs, "found": "embedded" if name == "digits" else None, "forms": []})
            continue
        forms = FAMILIES[name].forms
        needs = f"{forms[0].archive} or {forms[1].archive} ({forms[0].size / 1e6:.0f} MB): {forms[0].fetch}"
        facts = [
            {"form": f.kind, "url": f.url, "bytes": f.size, "sha256": f.sha256, "md5": f.md5, "folder": f.folder}
            for f in forms
        ]
        rows.append({"name": name, "needs": needs, "found": _found(forms), "forms": facts})
    if json:
        print(json_.dumps(rows))
        return 0
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import console

    table = Table(title="data sets", title_justify="left")
    for column in ("data set", "needs", "found"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(row[k] or "no"))) for k in ("name", "needs", "found")))
    console().print(table)
    return 0


def _found(forms: tuple[Form, ...]) -> str | None:
    from residual.data.datasets import search_places
    from residual.data.published import locate, recognised

    for place in search_places():
        if recognised(place, forms) is not None:
            return str(locate(place, forms))
    return None


@data.command
def fetch(
    name: str,
    /,
    *,
    form: Literal["binary", "python"] = "binary",
    to: str | None = None,
    mirror: Many | None = None,
) -> int:
    """Download a data set from its official host; a file whose checksum is wrong is never kept.

    Parameters
    ----------
    name
        A data set, as cifar-10.
    form
        The version of the archive; both hold the same images.
    to
        Where to; without it RESIDUAL_DATA, else data/, where `residual train` looks.
    mirror
        The https address of a folder that holds the archive, asked before the official host; may be given several
        times. RESIDUAL_MIRRORS names more, separated by spaces.
    """
    from residual.data.datasets import FAMILIES, search_places
    from residual.data.download import fetch as download
    from residual.errors import UsageError

    family = FAMILIES.get(_known(name))
    if family is None and name == "folder":
        raise UsageError("a folder of photographs is nobody's to give", "data fetch", "name its path to train")
    if family is None:
        print(f"{name} needs no download")
        return 0
    chosen = next(f for f in family.forms if f.kind == form)
    folder = search_places()[0] if to is None else Path(os.path.expanduser(to))
    with ends_cleanly("fetch"), _progress(chosen) as told:
        path = download(chosen, folder, mirror or [], told)
    print(printable(f"{path} ({chosen.size:,} bytes, SHA-256 {chosen.sha256})"))
    return 0


@contextmanager
def _progress(form: Form) -> Iterator[Told]:
    """A bar with rate and time left on a terminal; elsewhere a line every ten seconds."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from residual.training.progress import Output

    output = Output(stderr=True)
    if output.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=output) as bar:
            task = bar.add_task(form.archive, total=form.size)
            yield lambda received: bar.update(task, completed=received)
        return
    began = said = time.monotonic()

    def tell(received: int) -> None:
        nonlocal said
        if time.monotonic() - said >= 10 and received:
            said = time.monotonic()
            rate = received / (said - began)
            left = (form.size - received) / rate
            share = f"{received / form.size:.0%} of {form.size / 1e6:.0f} MB"
            print(f"{form.archive}: {share}, {rate / 1e6:.2f} MB/s, {left:.0f} s left", file=sys.stderr, flush=True)

    yield tell


def _names() -> tuple[str, ...]:
    from residual.data.datasets import Name

    return get_args(Name)


def _known(name: str) -> str:
    from residual.errors import UsageError, nearest

    if name not in _names():
        raise UsageError(f"no data set is named {name[:80]!r}", "data", nearest(name[:80], _names()))
    return name


def meant(target: str) -> DataSettings:
    """The data set of a name, or the one that lies at a path."""
    from residual.data.datasets import DataSettings, recognise
    from residual.errors import DataError, UsageError

    if target == "folder":
        what = "a folder of photographs has no name of its own"
        raise UsageError(what, "data", "name its path, as in `residual data show PHOTOS/`")
    if target in _names():
        return DataSettings.model_validate({"dataset": target})
    path = Path(os.path.expanduser(target))
    if not os.path.exists(path) and not {"/", os.sep} & {*target}:
        _known(target)
    if not os.path.exists(path):
        raise DataError("no such folder or file", target[:200], "check the path")
    return recognise(path)


@data.command
def verify(
    target: str,
    /,
    *,
    follow_links: bool = False,
    group: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Read every file of a data set anew, compare its checksums, and count its images by class.

    Photographs are decoded again even if earlier results are cached, and the new results are cached. The exit code is
    3 if a file cannot be used.

    Parameters
    ----------
    target
        A data set that `residual data list` found, or the path of one.
    follow_links
        Also follow links that lead out of the folder.
    group
        The column of a table that says which images belong together.
    json
        JSON instead of a table.
    """
    from residual.data.datasets import read_anew

    every = {"quarantine": 1.0}  # what cannot be used is listed here, however much it is
    settings = meant(target).model_copy(update={"follow_links": follow_links, "group": group, **every})
    with ends_cleanly("verify"):
        dataset = read_anew(settings)
    sources = {"training": dataset.train, "validation": dataset.validation, "test": dataset.test}
    counts = {
        part: source.labels.bincount(minlength=len(dataset.class_names)).tolist()
        for part, source in sources.items()
        if source is not None
    }
    rows = [
        {"class": name, **dict(zip(counts, numbers, strict=True))}
        for name, *numbers in zip(dataset.class_names, *counts.values(), strict=True)
    ]
    if json:
        facts = {"name": dataset.name, "origin": dataset.origin, "checksums": dataset.checksums}
        facts |= {"left_out": dict(dataset.left_out)} if dataset.left_out else {}
        print(json_.dumps(facts | {part: sum(numbers) for part, numbers in counts.items()} | {"classes": rows}))
        return 3 if dataset.left_out else 0
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import console

    for name, value in dataset.checksums.items():
        print(printable(f"{value}  {name}"))
    for path, why in dataset.left_out.items():
        print(printable(f"{path}: {why}"))
    verdict = f"{len(dataset.left_out):,} files cannot be used" if dataset.left_out else "every file is right"
    print(printable(f"{dataset.name} ({dataset.origin}): {verdict}"))
    table = Table()
    for column in ("class", *counts):
        table.add_column(column, justify="left" if column == "class" else "right")
    for row in rows:
        table.add_row(Text(printable(row["class"])), *(f"{row[part]:,}" for part in counts))
    table.add_section()
    table.add_row(f"{len(rows)} classes", *(f"{sum(numbers):,}" for numbers in counts.values()))
    console().print(table)
    return 3 if dataset.left_out else 0


@data.command
def show(
    target: str,
    /,
    *,
    recipe: str | None = None,
    set: Many | None = None,
    seed: Whole | None = None,
    step: Whole = 0,
    follow_links: bool = False,
    out: str | None = None,
) -> int:
    """Draw a batch of training images, augmented, exactly as a network sees them at one step of a run.

    Parameters
    ----------
    target
        A data set, or the path of one.
    recipe
        The run's recipe; without it the first named recipe for this data set, else one without augmentation.
    set
        Any setting by path, as in `--set data.augment.mirror=false`; may be given several times.
    seed
        The run's seed.
    step
        The step of the run whose batch is drawn, from 0.
    follow_links
        Also follow links that lead out of the folder.
    out
        A .png or .svg file; without it, NAME-batch.png in the working folder.
    """
    from residual.environment import check_versions

    check_versions()
    from residual.analysis.style import is_ours, picture_format
    from residual.cli.batch_shown import draw_batch, recipe_shown
    from residual.errors import UsageError
    from residual.evaluation.destination import mind_places
    from residual.training.values import parse_override

    if not 0 <= step < 10**9:
        raise UsageError(f"step is {step}", "--step", "choose 0 or more")
    changes = [parse_override(text) for text in [*(set or []), *(["data.follow_links=true"] if follow_links else [])]]
    chosen = recipe_shown(meant(target), recipe, changes, seed)
    path = Path(f"{chosen.data.dataset}-batch.png")
    if out is not None:
        path = beside(Path(os.path.expanduser(target)) if chosen.data.path else Path(os.devnull), out)
    picture_format(path)
    mind_places([path], "--out", is_ours)
    draw_batch(chosen, [path for path, _ in changes], step, path)
    print(printable(str(path)))
    return 0
