"""The figure of a study: fitness by individual with the best so far, and the history of each gene.

`history` computes from plain values (a summary of the study); `draw_study` draws. Fitness in percent, x the number of
the individual; a gene's panel shows every individual's value, the darker the fitter, and the best one ringed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residual.analysis.style import (
    BLUE,
    GREY,
    PALETTE,
    RED,
    literal,
    name_ticks,
    picture_format,
    plain_ticks,
    rendered,
    style,
    whole_ticks,
)
from residual.files import replace_file

MOST_GENES = 11


@dataclass(frozen=True)
class History:
    """Points by number of the individual, between which trials of others may have numbers.

    A share is None where a training failed or is not done.
    """

    numbers: tuple[int, ...]
    generations: tuple[int, ...]
    percent: tuple[float | None, ...]
    best: tuple[float | None, ...]
    rank: tuple[float, ...]  # 0 the worst, 1 the fittest; 0 without fitness
    genes: Mapping[str, tuple[Any, ...]]
    scales: Mapping[str, str]  # linear, log or choice
    winner: int | None


def history(summary: Mapping[str, Any]) -> History:
    rows: Sequence[Mapping[str, Any]] = summary["individuals"]
    fitness = [row["fitness"] for row in rows]
    ordered = sorted({value for value in fitness if value is not None})
    places = {value: place / max(1, len(ordered) - 1) for place, value in enumerate(ordered)}
    paths = list(summary["space"]["genes"])
    kinds = {path: text.partition(":")[0] for path, text in summary["space"]["genes"].items()}
    return History(
        tuple(row["number"] for row in rows),
        tuple(row["generation"] for row in rows),
        tuple(None if value is None else 100 * value for value in fitness),
        tuple(None if value is None else 100 * value for value in summary["best_so_far"]),
        tuple(0.0 if value is None else places[value] for value in fitness),
        {path: tuple(row["genes"][path] for row in rows) for path in paths},
        {
            path: {"choice": "choice", "log": "log", "int-log": "log"}.get(kind, "linear")
            for path, kind in kinds.items()
        },
        None if summary["best"] is None else summary["best"]["number"],
    )


def draw_study(found: History, path: Path, title: str) -> None:
    """Draw into a .png or .svg file.

    Raises:
        UsageError: another suffix.  StorageError: the disk refused.
    """
    kind = picture_format(path)
    shown = list(found.genes)[:MOST_GENES]
    columns = min(4, 1 + len(shown))
    rows = math.ceil((1 + len(shown)) / columns)
    with style(kind):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.3 * columns, 2.8 * rows + 0.5), layout="constrained")
        literal(figure.suptitle("", x=0.008, ha="left", fontsize=12, fontweight="bold"), title, longest=100)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        _draw_fitness(grid[0], found)
        for axes, name in zip(grid[1:], shown, strict=False):
            _draw_gene(axes, found, name)
        for axes in grid[1 + len(shown) :]:
            axes.set_axis_off()
        replace_file(path, rendered(figure, kind))


def _draw_fitness(axes: Any, found: History) -> None:
    axes.set_title("Validation top-1, %")
    for number, generation, value in zip(found.numbers, found.generations, found.percent, strict=True):
        if value is None:
            axes.plot([number], [0.02], marker="x", color=GREY, transform=axes.get_xaxis_transform(), clip_on=False)
        else:
            axes.plot([number], [value], marker="o", markersize=4, color=PALETTE[generation % len(PALETTE)])
    drawn = [(n, b) for n, b in zip(found.numbers, found.best, strict=True) if b is not None]
    if drawn:
        axes.step([n for n, _ in drawn], [b for _, b in drawn], where="post", color=GREY, linewidth=1.2)
    whole_ticks(axes.xaxis)
    axes.set_xlabel("individual; colour: generation\nline: best so far; cross: failed or not done", fontsize=8)


def _draw_gene(axes: Any, found: History, name: str) -> None:
    literal(axes.set_title(""), name, longest=34)
    values = list(found.genes[name])
    if found.scales[name] == "choice":
        words = sorted({str(value) for value in values})
        name_ticks(axes.yaxis, words)
        values = [words.index(str(value)) for value in values]
        axes.set_ylim(-0.5, len(words) - 0.5)
    else:
        axes.set_yscale(found.scales[name])
        plain_ticks(axes)
    for number, value, rank in zip(found.numbers, values, found.rank, strict=True):
        axes.plot([number], [value], marker="o", markersize=4, color=BLUE, alpha=0.15 + 0.85 * rank)
    if found.winner is not None:
        axes.plot(
            [found.winner],
            [values[found.numbers.index(found.winner)]],
            marker="o",
            markersize=9,
            color=RED,
            fillstyle="none",
        )
    whole_ticks(axes.xaxis)
    axes.set_xlabel("individual")
