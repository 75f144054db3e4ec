"""Pictures for a notebook: `residual.draw_curves`, `residual.draw_batch`, `residual.draw_report`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from residual.analysis.curves import named_curves
from residual.analysis.figures import confusion_picture
from residual.analysis.figures import draw_curves as draw_lines
from residual.analysis.reliability import reliability_picture
from residual.borrowed import borrowed
from residual.cli.batch_shown import draw_batch as draw_step
from residual.cli.batch_shown import recipe_shown
from residual.cli.data import meant
from residual.device import mind_fork
from residual.errors import UsageError, is_whole, nearest
from residual.evaluation.figures import Report
from residual.files import replace_file
from residual.runs.folder import find_run
from residual.runs.studies import runs_of
from residual.training.rates import rates_of
from residual.training.recipe import Changes, as_overrides


@dataclass(frozen=True)
class Picture:
    """A picture that a notebook shows where it is the value of a cell."""

    png: bytes = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it into a .png file, over one that stands there.

        Raises:
            UsageError: the name does not end so.  StorageError: the disk refused.
        """
        place = Path(path).expanduser()
        if place.suffix.lower() != ".png":
            raise UsageError("this picture is a PNG", place, "let the name end in .png")
        replace_file(place, self.png)
        return place


def _drawn(draw: Callable[[Path], object]) -> Picture:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        draw(path)
        return Picture(path.read_bytes())


def draw_curves(*runs: str | os.PathLike[str]) -> Picture:
    """Loss, error and learning rate of runs over each other: `residual.draw_curves`.

    Args:
        runs: run folders, their names, or folders of several, such as a study's; the last run unless given.

    Raises:
        UsageError: there is no such run.
    """
    chosen = [find_run(name) for name in runs_of([os.fspath(run) for run in runs] or ["last"])]
    lines = named_curves(chosen, rates_of)
    title = ", ".join(lines) if len(lines) < 4 else f"{len(lines)} runs"
    return _drawn(lambda path: draw_lines(lines, path, title=title))


@borrowed()
def draw_batch(
    target: str | os.PathLike[str],
    *,
    recipe: str | None = None,
    set: Changes = (),
    seed: int | None = None,
    step: int = 0,
) -> Picture:
    """A batch of training images, augmented, exactly as a network sees them at one step: `residual.draw_batch`.

    Args:
        target: a data set by its name, or a folder or file of images.
        recipe: the run's recipe; without it the first for such data, else one without augmentation.
        set: values to change, by path.

    Raises:
        UsageError: no such recipe or setting.  DataError: the images cannot be read.
    """
    mind_fork()
    if not is_whole(step) or not 0 <= step < 10**9:
        raise UsageError(f"step is {step!r:.40}", "step", "give a whole number, 0 or more")
    changes = as_overrides(set)
    chosen = recipe_shown(meant(os.fspath(target)), recipe, changes, seed)
    return _drawn(lambda path: draw_step(chosen, [name for name, _ in changes], int(step), path))


def draw_report(report: Report, kind: Literal["confusion", "reliability"] = "confusion") -> Picture:
    """The confusion matrix of an evaluation, or its reliability diagram: `residual.draw_report`.

    Args:
        report: what `residual.evaluate` gives.
    """
    if kind == "confusion":
        return Picture(confusion_picture(report.evaluation.confusion.numpy(), report.class_names, "png"))
    if kind != "reliability":
        raise UsageError(f"no picture is called {kind!r:.40}", "draw_report", nearest(str(kind), _KINDS))
    return Picture(reliability_picture(report.calibration, "png", str(report.sheet.facts["protocol"])))


_KINDS = ["confusion", "reliability"]
