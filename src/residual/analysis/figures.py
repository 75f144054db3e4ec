"""Figures of runs: curves, predictions, confusion. The numbers come from `curves` and `statistics`.

Losses in nats, errors in percent, shares 0..1. Images are HWC uint8, 0..255, or HW for grey;
confusion_KK holds counts, rows are true classes, columns predicted ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy

from residual.analysis.curves import Against, Curves, axis_scale
from residual.analysis.elements import percent
from residual.analysis.style import (
    BLUE,
    GREEN,
    GREY,
    PAPER,
    RED,
    RIGHT,
    SKY,
    WRONG,
    Kind,
    literal,
    look,
    name_ticks,
    picture_format,
    rendered,
    style,
)
from residual.errors import UsageError
from residual.files import replace_file

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_IMAGES = 36
MOST_CLASSES = 5
MOST_NAMES = 20
"""So many classes are named along a confusion matrix; more are numbered."""
SHADES = "shade: root of the share of the row; blue right, orange wrong"

_RETRACED: Mapping[str, Mapping[str, Any]] = {"learning rate": {}, "momentum": {"linestyle": "--", "linewidth": 1.1}}
_RECORDED: Mapping[str, Mapping[str, Any]] = {
    "learning rate": {"linestyle": "none", "marker": "o", "markersize": 3.2},
    "momentum": {"linestyle": "none", "marker": "x", "markersize": 3.6},
}

Array = numpy.ndarray[Any, numpy.dtype[Any]]
Panel = Literal["loss", "error", "rate"]
PANELS: tuple[Panel, ...] = ("loss", "error", "rate")


def draw_curves(runs: Mapping[str, Curves], path: Path, title: str, against: Against = "epoch") -> None:
    """Three panels over epochs or steps: loss, top-1 error, learning rate with momentum; runs lie over each other.

    Raises:
        UsageError: the name ends in neither .png nor .svg.
        StorageError: the disk refused; no part of a picture is left.
    """
    kind = picture_format(path)
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12.6, 4.0), layout="constrained")
        literal(figure.suptitle("", x=0.008, ha="left", fontsize=12, fontweight="bold"), title, longest=120)
        for axes, panel in zip(figure.subplots(1, 3), PANELS, strict=True):
            _draw_panel(axes, runs, panel, against)
        replace_file(path, rendered(figure, kind))


def panel_picture(runs: Mapping[str, Curves], panel: Panel, against: Against, kind: Kind) -> bytes:
    """One of the three panels as a picture of its own."""
    with style(kind):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.3, 3.2), layout="constrained")
        _draw_panel(figure.subplots(), runs, panel, against)
        return rendered(figure, kind)


def confusion_picture(confusion_KK: Array, names: Sequence[str], kind: Kind) -> bytes:
    """Shares of each true class as shades, blue where right and red where wrong; the root of a share, to show few."""
    classes = len(names)
    shares = confusion_KK / numpy.maximum(1, confusion_KK.sum(1, keepdims=True))
    shades = numpy.empty((classes, classes, 4))
    shades[...] = (*_rgb(WRONG), 0)
    shades[numpy.arange(classes), numpy.arange(classes), :3] = _rgb(RIGHT)
    shades[..., 3] = numpy.sqrt(shares)
    with style(kind):
        from matplotlib.figure import Figure

        side = 6.2 if classes > MOST_NAMES else 2.6 + 0.3 * classes
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shades, interpolation="none")
        axes.grid(False)
        if classes <= MOST_NAMES:
            for axis, turn in ((axes.xaxis, 90), (axes.yaxis, 0)):
                name_ticks(axis, names, longest=16, rotation=turn)
        axes.set_xlabel("predicted class" if classes <= MOST_NAMES else "predicted class, by number")
        axes.set_ylabel("true class" if classes <= MOST_NAMES else "true class, by number")
        if kind != "inline":  # a page says it beside the picture
            figure.supxlabel(SHADES, fontsize=min(7.5, 2 * side), color=GREY)
        return rendered(figure, kind)


def draw_predictions(
    images: Sequence[Array],
    names: Sequence[str],
    predictions: Sequence[Sequence[tuple[str, float]]],
    path: Path,
) -> None:
    """A grid of images, under each its name and its first classes as bars from 0 to 100 %.

    `predictions` holds (class name, share) from the likeliest down. The first 36 images are drawn; the
    footer says how many are not.

    Raises:
        UsageError: there is no image, or the name ends in neither .png nor .svg.
        StorageError: the disk refused; no part of a picture is left.
    """
    kind = picture_format(path)
    cells = list(zip(images, names, predictions, strict=True))
    if not cells:
        raise UsageError("no image to draw", path, "name at least one image")
    shown = cells[:MOST_IMAGES]
    columns = min(6, max(3, math.ceil(math.sqrt(len(shown)))), len(shown))
    rows = math.ceil(len(shown) / columns)
    bars = max(1, *(min(MOST_CLASSES, len(guesses)) for _, _, guesses in shown))
    with style():
        from matplotlib.figure import Figure

        heights = [1.75, 0.21 * bars + 0.08]
        figure = Figure(figsize=(2.05 * columns, rows * (sum(heights) + 0.45) + 0.2), layout="constrained")
        grid = figure.add_gridspec(rows * 2, columns, height_ratios=heights * rows)
        for number, (image, name, guesses) in enumerate(shown):
            row, column = divmod(number, columns)
            _draw_image(figure.add_subplot(grid[2 * row, column]), image, name)
            _draw_bars(figure.add_subplot(grid[2 * row + 1, column]), guesses[:bars], bars)
        if len(cells) > len(shown):
            footer = f"The first {len(shown)} of {len(cells):,} images; {len(cells) - len(shown):,} are not shown."
            figure.supxlabel(footer, fontsize=9, color=GREY)
        replace_file(path, rendered(figure, kind))


def _draw_panel(axes: Axes, runs: Mapping[str, Curves], panel: Panel, against: Against) -> None:
    axes.set_xlabel(against)
    axes.locator_params(axis="x", integer=True)
    if panel == "rate":
        _draw_rate(axes, runs, against)
    else:
        _draw_measure(axes, runs, panel, {"loss": "Loss, nats", "error": "Top-1 error, %"}[panel], against)


def _draw_measure(axes: Axes, runs: Mapping[str, Curves], measure: str, title: str, against: Against) -> None:
    """Colour tells runs apart where there are several, else the parts; line weight and marks tell the parts."""
    axes.set_title(title)
    entries: list[tuple[Artist, str]] = []
    parts: dict[str, Artist] = {}
    drawn: list[float] = []
    alone = len(runs) == 1
    weights: dict[str, dict[str, Any]] = {
        "training": {"linewidth": 0.7, "alpha": 0.75},
        "validation": {"linewidth": 1.9},
        "test": {"linewidth": 1.1, "marker": "D", "markersize": 4.5, "markerfacecolor": PAPER},
    }
    for number, (run, curve) in enumerate(runs.items()):
        lines = []
        for (part, weight), own in zip(weights.items(), (BLUE, RED, GREEN), strict=True):
            series = curve.series.get(f"{part} {measure}")
            if series is None:
                continue
            sparse = {"marker": "o", "markersize": 3.2} if len(series.epochs) <= 30 else {}
            colour = {"color": own} if alone else look(number)
            (line,) = axes.plot(*series.points(against), **{**sparse, **colour, **weight})
            lines.append(line)
            parts.setdefault(part, line)
            drawn += series.values
        if lines and not alone:
            entries.append((lines[min(1, len(lines) - 1)], run))
    if not drawn:
        _note_absence(axes)
        return
    axes.set_yscale(axis_scale(drawn))
    _plain_ticks(axes)
    _legend(axes, [(line, part) for part, line in parts.items()] if alone else entries)
    if not alone and measure == "loss":
        words = {"training": "thin: training", "validation": "thick: validation", "test": "diamonds: test"}
        axes.set_title("; ".join(words[part] for part in parts), loc="right", fontsize=8, color=GREY)


def _draw_rate(axes: Axes, runs: Mapping[str, Curves], against: Against) -> None:
    """Lines where every step is known, else marks at those recorded, between which no line may lead.

    Several runs have the colours they have in the other panels, whose legends name them.
    """
    known = all(curve.retraced for curve in runs.values() if "learning rate" in curve.series)
    axes.set_title(
        "Learning rate; momentum (dashed, right)" if known else "Recorded learning rate; momentum (x, right)"
    )
    alone = len(runs) == 1
    entries: list[tuple[Artist, str]] = []
    drawn: dict[str, list[float]] = {"learning rate": [], "momentum": []}
    right = axes.twinx()
    right.grid(False)
    right.spines["right"].set_visible(True)
    for number, curve in enumerate(runs.values()):
        # Runs of one schedule lie on one another: the first are the widest.
        wide = {} if alone else {"linewidth": 1.2 + 1.8 * (len(runs) - 1 - number) / (len(runs) - 1)}
        for name, place, own in (("learning rate", axes, BLUE), ("momentum", right, RED)):
            series = curve.series.get(name)
            if series is None:
                continue
            how = {**_RETRACED[name], **wide} if curve.retraced else _RECORDED[name]
            (line,) = place.plot(*series.points(against), color=own if alone else look(number)["color"], **how)
            drawn[name] += series.values
            entries.append((line, name))
    rates, momenta = drawn.values()
    if not rates and not momenta:
        right.set_axis_off()
        _note_absence(axes)
        return
    axes.set_yscale(axis_scale(rates))
    _plain_ticks(axes)
    if momenta:
        right.set_ylim(min(0.8, *momenta) - 0.02, max(1.0, *momenta))
    else:
        right.set_axis_off()
    if alone:
        _legend(axes, entries)


def _draw_image(axes: Axes, image: Array, name: str) -> None:
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    small = max(pixels.shape[:2]) < 200
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest" if small else "antialiased")
    axes.set_axis_off()
    literal(axes.set_title("", fontsize=8, loc="center", pad=3), name)


def _draw_bars(axes: Axes, guesses: Sequence[tuple[str, float]], places: int) -> None:
    """One bar for each class, its name and its share written over it."""
    for place, (name, share) in enumerate(guesses):
        axes.barh(place, 1, height=0.84, color="#f0f0f0")
        axes.barh(place, share, height=0.84, color=SKY if place == 0 else "#c9d6df")
        weight = "bold" if place == 0 else "normal"
        literal(axes.text(0.03, place, "", va="center", fontsize=7.5, fontweight=weight), name, longest=17)
        axes.text(0.97, place, percent(share, 1), va="center", ha="right", fontsize=7.5)
    axes.set_xlim(0, 1)
    axes.set_ylim(places - 0.5, -0.5)
    axes.set_axis_off()


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))


def _note_absence(axes: Axes) -> None:
    axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def _plain_ticks(axes: Axes) -> None:
    """0.5 rather than 5 x 10^-1 on a logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if axes.get_yscale() == "log":
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, entries: Sequence[tuple[Artist, str]]) -> None:
    """The names are set afterwards: matplotlib leaves out a label that begins with an underscore."""
    shown = entries[:12]
    legend = axes.legend([line for line, _ in shown], ["-"] * len(shown), loc="best")
    for text, (_, name) in zip(legend.get_texts(), shown, strict=True):
        literal(text, name)
    if len(entries) > len(shown):
        legend.set_title(f"{len(shown)} of {len(entries)} runs named")
