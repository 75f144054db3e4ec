"""Curves of several runs as one: mean and sample deviation at every step that all of them recorded."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from residual.analysis.curves import Curves
from residual.analysis.style import draw_mean, look, picture_format, rendered, style
from residual.files import replace_file


@dataclass(frozen=True)
class Band:
    """Epochs, and at each the mean and the deviation (0 for one run) of a curve over the runs."""

    epochs: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def band(runs: Sequence[Curves], name: str) -> Band | None:
    """The band of the curve of that name; None where a run lacks it or no step is common to all."""
    if not runs or any(name not in run.series for run in runs):
        return None
    tables = [
        dict(
            zip(run.series[name].steps, zip(run.series[name].epochs, run.series[name].values, strict=True), strict=True)
        )
        for run in runs
    ]
    steps = sorted(set.intersection(*({*table} for table in tables)))
    if not steps:
        return None
    values = [[table[step][1] for table in tables] for step in steps]
    deviations = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
    return Band(
        tuple(tables[0][step][0] for step in steps), tuple(statistics.fmean(v) for v in values), tuple(deviations)
    )


def draw_bands(bands: Mapping[str, Band], path: Path, title: str, axis: str = "top-1 error, %") -> None:
    """Mean as a line, mean +- one deviation as a band, for each name.

    Raises:
        UsageError: the name ends in neither .png nor .svg.
        StorageError: the disk refused.
    """
    kind = picture_format(path)
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for number, (name, found) in enumerate(bands.items()):
            draw_mean(axes, found.epochs, found.mean, found.std, {**look(number), "label": name})
        axes.locator_params(axis="x", integer=True)
        axes.set(xlabel="epoch", ylabel=axis, title=title)
        axes.legend()
        replace_file(path, rendered(figure, kind))
