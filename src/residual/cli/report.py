"""`residual report`."""

from __future__ import annotations

import json as json_
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    import torch

    from residual.analysis.reporting import Report

Split = Literal["test", "validation", "training"]
Progress = Callable[[str, int, int], None]


def report(
    *runs: str,
    out: str | None = None,
    figures: str | None = None,
    split: Split | None = None,
    data: str | None = None,
    device: str = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write one HTML file about a run, or about several beside each other.

    Curves, results for each class, the confusion matrix, the worst mistakes, every setting with its origin. The file
    loads nothing from elsewhere.

    Parameters
    ----------
    runs
        The runs; without any, the last one.
    out
        The .html file; without it, report.html in the folder of a single run.
    figures
        Also write the figures as PNG and SVG into this folder.
    split
        The images to judge by; without it, test, or validation where there is no test.
    data
        Where the images are, if not where they were at training.
    device
        auto, cpu, mps, cuda or cuda:N.
    json
        Say everything as one JSON value as well; the page is written all the same.
    """
    from residual.environment import check_versions

    check_versions()
    from residual.cli.text import printable

    with _progress(quiet=json) as progress:
        made = make_report(*runs, out=out, figures=figures, split=split, data=data, device=device, progress=progress)
    if json:
        value = made.data.as_dict() | {"page": str(made.page), "drawn": [str(path) for path in made.figures]}
        print(json_.dumps(value, allow_nan=False))
        return 0
    for run in made.data.runs:
        for note in run.missing:
            print(printable(f"note     {run.name}: {note}"))
    print(printable(f"report   {made.page}"))
    if made.figures:
        print(printable(f"figures  {made.figures[0].parent}: {len(made.figures)} files"))
    return 0


def make_report(
    *runs: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    figures: str | os.PathLike[str] | None = None,
    split: Split | None = None,
    data: str | os.PathLike[str] | None = None,
    device: str | torch.device = "auto",
    progress: Progress = lambda _run, _done, _all: None,
) -> Report:
    """Write the report of a run, or of several beside each other: `residual.report`.

    Args:
        runs: paths or names of runs; without any, the last one.
        out: the .html file; without it, report.html in the folder of a single run.
        figures: a folder for the figures as PNG and SVG.
        split: the images to judge by; without it, test, or validation where there is no test.
        data: where the images are, if not where they were at training.
        progress: told the run, and how many of its images of how many are done.

    Raises:
        UsageError: no such run, or a place that cannot be written to.  ModelError: every run is damaged.
        StorageError: the disk refused.
    """
    from residual.analysis.reporting import write_report
    from residual.borrowed import borrowed
    from residual.training.rates import rates_of

    with borrowed():
        return write_report(
            runs,
            out=out,
            figures=figures,
            split=split,
            data=None if data is None else os.fspath(data),
            device=str(device),
            stated=_stated,
            retraced=rates_of,
            progress=progress,
        )


def _stated(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings that a named recipe states itself; None where the run has a recipe of another's."""
    from residual.training.recipes import RECIPES

    recipe = RECIPES.get(facts["recipe"]["name"])
    if recipe is None:
        return None
    found = recipe.model_dump(mode="json", exclude_unset=True)
    found["schedule"]["kind"] = recipe.schedule.kind  # stated by the schedule that was chosen
    return found


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """A bar on a terminal, on standard error; elsewhere one line for each run, and with --json none."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from residual.cli.text import printable
    from residual.training.progress import Output

    console = Output(file=sys.stderr)
    if not console.is_terminal or console.is_dumb_terminal:

        def line(run: str, done: int, total: int) -> None:
            if done == 0 and not quiet:
                print(printable(f"evaluating {run}: {total:,} images"), flush=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def show(run: str, done: int, total: int) -> None:
            if run not in tasks:
                tasks[run] = bar.add_task(printable(f"evaluating {run}"), total=total)
            bar.update(tasks[run], completed=done)

        yield show
