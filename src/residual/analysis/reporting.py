"""Run folders become one HTML file, and figures of their own where wanted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from residual.analysis.curves import Against, Retraced, unknown
from residual.analysis.figures import confusion_picture, draw_curves, draw_predictions
from residual.analysis.page import page
from residual.analysis.reliability import reliability_picture
from residual.analysis.report import Judged, Progress, ReportData, Stated, read_report
from residual.analysis.style import Kind, is_ours
from residual.errors import ResidualError, UsageError
from residual.evaluation.destination import (
    mind_images,
    mind_places,
    photographs,
    refuse_places,
    tell_left,
    tell_replaced,
)
from residual.evaluation.judged import Split
from residual.files import replace_file
from residual.runs.folder import RunFolder, find_run
from residual.runs.studies import runs_of

PAGE = "report.html"
_PICTURE = re.compile(r"(curves-by-(epoch|step)|(confusion|reliability|most-wrong)(-\d+)?)\.(png|svg)")
_KINDS: tuple[Kind, ...] = ("png", "svg")
_AGAINST: tuple[Against, ...] = ("epoch", "step")


@dataclass(frozen=True)
class Report:
    """Where a report was written, and what it says."""

    page: Path
    figures: tuple[Path, ...]
    data: ReportData = field(repr=False)


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
    split: Split | None = None,
    data: str | None = None,
    device: str = "auto",
    stated: Stated = lambda _: None,
    retraced: Retraced = unknown,
    progress: Progress = lambda _run, _done, _all: None,
) -> Report:
    """Report one run, or several beside each other; see `read_report` for what is read and refused.

    Args:
        runs: paths or names of runs; without any, the last one.
        out: the .html file; without it, report.html in the folder of a single run.
        figures: a folder for the figures as PNG and SVG.

    Raises:
        UsageError: a run is not there or named twice, or a place is none to write to; said before anything is computed.
        StorageError: the disk refused.
    """
    folders = [find_run(name) for name in runs_of(os.fspath(name) for name in runs or ("last",))]
    _refuse_twice(folders)
    place, album = _page_place(out, folders), _album_place(figures)
    if out is not None:
        mind_places([place], "--out", is_ours)
    if album is not None:
        pictures = [*_pictures(album, len(folders))]
        mind_images(pictures, "--figures", [place for folder in folders for place in _photographs(folder, data)])
        refuse_places(pictures, "--figures", is_ours)
    found = read_report(
        folders, split=split, data=data, device=device, stated=stated, retraced=retraced, progress=progress
    )
    if album is not None:
        _tell_of_others(found, album)
    drawn = tuple(_draw(found, album)) if album is not None else ()
    replace_file(place, page(found))
    return Report(place, drawn, found)


def _refuse_twice(folders: Sequence[RunFolder]) -> None:
    seen = set()
    for folder in folders:
        place = folder.path.resolve()
        if place in seen:
            raise UsageError("a run is named twice", folder.path, "name it once")
        seen.add(place)


def _page_place(out: str | os.PathLike[str] | None, folders: Sequence[RunFolder]) -> Path:
    if out is None:
        if len(folders) > 1:
            raise UsageError("several runs need a file to be reported in", "report", "name it with --out report.html")
        return folders[0].path / PAGE
    path = Path(os.path.expanduser(out))
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"no page format {path.suffix or '(none)'!r}", path, "end the name in .html")
    if path.is_dir():
        raise UsageError("this is a folder", path, "name a file that ends in .html")
    return path


def _album_place(figures: str | os.PathLike[str] | None) -> Path | None:
    if figures is None:
        return None
    folder = Path(os.path.expanduser(figures))
    if folder.exists() and not folder.is_dir():
        raise UsageError("this is not a folder", folder, "name a folder with --figures")
    return folder


def _photographs(run: RunFolder, data: str | None) -> list[str]:
    """Where the photographs of a run are, then and now."""
    with suppress(ResidualError, LookupError, TypeError, AttributeError):  # of a damaged run nothing is drawn
        if origin := photographs(run.facts()["data"]):
            return [origin, os.path.expanduser(data or "")]
    return []


def _tell_of_others(report: ReportData, album: Path) -> None:
    """Say which pictures in the folder are replaced, and which stay though they are of another report."""
    drawn = set(_planned(report, album))
    there = [one for one in sorted(album.glob("*")) if _PICTURE.fullmatch(one.name) and is_ours(one)]
    tell_replaced([one for one in there if one in drawn])
    tell_left([one for one in there if one not in drawn])


def _planned(report: ReportData, album: Path) -> Iterator[Path]:
    """What `_draw` will draw."""
    names = [f"curves-by-{against}" for against in _AGAINST]
    for place, run in enumerate(report.runs, 1):
        mark = f"-{place}" if len(report.runs) > 1 else ""
        if run.judged is not None:
            names += [f"confusion{mark}", f"reliability{mark}"]
            names += [f"most-wrong{mark}"] * bool(run.judged.images)
    yield from (album / f"{name}.{kind}" for name in names for kind in _KINDS)


def _pictures(album: Path, runs: int) -> Iterator[Path]:
    """All that may be drawn into the folder."""
    marks = [f"-{place}" for place in range(1, runs + 1)] if runs > 1 else [""]
    names = [f"curves-by-{against}" for against in _AGAINST]
    names += [f"{name}{mark}" for name in ("confusion", "reliability", "most-wrong") for mark in marks]
    yield from (album / f"{name}.{kind}" for name in names for kind in _KINDS)


def _draw(report: ReportData, album: Path) -> Iterator[Path]:
    """The figures of the page as files; those of a single run are numbered where there are several runs."""
    lines = {run.name: run.curves for run in report.runs}
    title = ", ".join(lines) if len(lines) < 4 else f"{len(lines)} runs"
    for against in _AGAINST:
        for kind in _KINDS:
            path = album / f"curves-by-{against}.{kind}"
            draw_curves(lines, path, title, against)
            yield path
    for place, run in enumerate(report.runs, 1):
        if run.judged is not None:
            yield from _draw_judged(run.judged, album, f"-{place}" if len(report.runs) > 1 else "")


def _draw_judged(judged: Judged, album: Path, mark: str) -> Iterator[Path]:
    names = [one.name for one in sorted(judged.classes, key=lambda one: one.number)]
    for kind in _KINDS:
        path = album / f"confusion{mark}.{kind}"
        replace_file(path, confusion_picture(judged.confusion.numpy(), names, kind))
        yield path
        path = album / f"reliability{mark}.{kind}"
        replace_file(path, reliability_picture(judged.calibration, kind, "1-crop"))
        yield path
    if not judged.images:
        return
    answers = [
        [(names[m.predicted], m.probability), (f"truth: {names[m.true]}", m.probability_of_truth)]
        for m in judged.mistakes
    ]
    pixels = [image.permute(1, 2, 0).numpy() for image in judged.images]
    for kind in _KINDS:
        path = album / f"most-wrong{mark}.{kind}"
        draw_predictions(pixels, list(judged.titles), answers, path)
        yield path
