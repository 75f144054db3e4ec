"""Figures of runs: first the numbers (`curves`), then the picture (`draw_curves`, `draw_predictions`).

Losses in nats, errors in percent, shares 0..1; x is epochs. Images are HWC uint8, 0..255, or HW for grey.
Colours are those of Okabe and Ito (2008), which remain distinct for colour-blind readers. Names given by
users are drawn letter by letter: no mathematics, no markup, a box for what no font here can show.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy

from residual.errors import UsageError
from residual.files import replace_file

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

MOST_IMAGES = 36
MOST_CLASSES = 5
LONGEST_NAME = 28
FORMATS = (".png", ".svg")
BLUE, ORANGE, GREEN, PINK, SKY, RED, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442",
)  # fmt: skip
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))  # one for each turn through the palette
GREY = "#555555"
FONTS = (
    "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC",
    "Apple SD Gothic Neo", "Arial Unicode MS",
)  # fmt: skip
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "svg.hashsalt": "residual",
}

Records = Iterable[Mapping[str, Any]]
Array = numpy.ndarray[Any, numpy.dtype[Any]]


class Series(NamedTuple):
    """The points of one curve, in the order of the steps."""

    epochs: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """The curves of one run by name; a name is absent where the run recorded nothing of it."""

    series: Mapping[str, Series]


def percent_wrong(top1: float) -> float:
    return 100 * (1 - top1)


def curves(records: Records) -> Curves:
    """Loss and top-1 error of training (the running measure), validation and test; rate and momentum.

    Of records of the same step the last one counts; a value that is absent or not finite leaves a gap.
    """
    points: dict[str, dict[int, tuple[float, float]]] = {}
    for record in records:
        kind = record.get("kind")
        if kind == "train" and record.get("measure", "running") == "running":
            part = "training"
            found = {"learning rate": record.get("rate"), "momentum": record.get("momentum")}
        elif kind == "evaluation" and record.get("split") in ("validation", "test"):
            part, found = record["split"], {}
        else:
            continue
        top1 = record.get("top1")
        found[f"{part} loss"] = record.get("loss")
        found[f"{part} error"] = None if top1 is None else percent_wrong(top1)
        for name, value in found.items():
            if value is not None and math.isfinite(value):
                points.setdefault(name, {})[record["step"]] = (float(record["epoch"]), float(value))
    series = {}
    for name, by_step in points.items():
        ordered = [by_step[step] for step in sorted(by_step)]
        series[name] = Series(tuple(epoch for epoch, _ in ordered), tuple(value for _, value in ordered))
    return Curves(series)


def axis_scale(values: Sequence[float]) -> Literal["log", "linear"]:
    """Logarithmic for positive values that span more than a factor of 30."""
    return "log" if values and min(values) > 0 and max(values) > 30 * min(values) else "linear"


def picture_format(path: Path) -> str:
    """`png` or `svg`, from the suffix.

    Raises:
        UsageError: another suffix.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"no picture format {path.suffix or '(none)'!r}", path, "end the name in .png or .svg")
    return path.suffix.lower()[1:]


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """The beginning and the end of a long name, which tell most."""
    tail = longest // 2 - 1
    return text if len(text) <= longest else f"{text[: longest - tail - 1]}…{text[-tail:]}"


def draw_curves(runs: Mapping[str, Curves], path: Path, title: str) -> None:
    """Three panels over epochs: loss, top-1 error, learning rate with momentum; runs lie over each other.

    Raises:
        UsageError: the name ends in neither .png nor .svg.
        StorageError: the disk refused; no part of a picture is left.
    """
    kind = picture_format(path)
    with _style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12.6, 4.0), layout="constrained")
        _literal(figure.suptitle("", x=0.008, ha="left", fontsize=12, fontweight="bold"), title, longest=120)
        axes_loss, axes_error, axes_rate = figure.subplots(1, 3)
        for axes in (axes_loss, axes_error, axes_rate):
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        _draw_measure(axes_loss, runs, "loss", "Loss")
        _draw_measure(axes_error, runs, "error", "Top-1 error, %")
        _draw_rate(axes_rate, runs)
        replace_file(path, _rendered(figure, kind))


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
    with _style():
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
        replace_file(path, _rendered(figure, kind))


def _draw_measure(axes: Axes, runs: Mapping[str, Curves], measure: str, title: str) -> None:
    """Colour tells runs apart where there are several, else the parts; line weight and marks tell the parts."""
    axes.set_title(title)
    entries: list[tuple[Artist, str]] = []
    parts: dict[str, Artist] = {}
    drawn: list[float] = []
    alone = len(runs) == 1
    looks: dict[str, dict[str, Any]] = {
        "training": {"linewidth": 1.0, "alpha": 0.55},
        "validation": {"linewidth": 1.9},
        "test": {"linewidth": 0.9, "marker": "D", "markersize": 4.5, "markerfacecolor": "white"},
    }
    for number, (run, curve) in enumerate(runs.items()):
        lines = []
        for (part, look), own in zip(looks.items(), (BLUE, RED, GREEN), strict=True):
            series = curve.series.get(f"{part} {measure}")
            if series is None:
                continue
            sparse = {"marker": "o", "markersize": 3.2} if len(series.epochs) <= 30 else {}
            colour = {"color": own} if alone else _run_look(number)
            (line,) = axes.plot(*series, **{**sparse, **colour, **look})
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


def _draw_rate(axes: Axes, runs: Mapping[str, Curves]) -> None:
    """Several runs have the colours they have in the other panels, whose legends name them."""
    axes.set_title("Learning rate (left) and momentum (dashed, right)")
    alone = len(runs) == 1
    entries: list[tuple[Artist, str]] = []
    rates: list[float] = []
    momenta: list[float] = []
    right = axes.twinx()
    right.grid(False)
    right.spines["right"].set_visible(True)
    for number, curve in enumerate(runs.values()):
        look: dict[str, Any] = {"color": BLUE} if alone else {"color": _run_look(number)["color"]}
        if series := curve.series.get("learning rate"):
            (line,) = axes.plot(*series, **look)
            entries.append((line, "learning rate"))
            rates += series.values
        if series := curve.series.get("momentum"):
            (line,) = right.plot(
                *series, **{**look, "linewidth": 1.1, **({"color": RED} if alone else {})}, linestyle="--"
            )
            momenta += series.values
            entries.append((line, "momentum"))
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
    _literal(axes.set_title("", fontsize=8, loc="center", pad=3), name)


def _draw_bars(axes: Axes, guesses: Sequence[tuple[str, float]], places: int) -> None:
    """One bar for each class, its name and its share written over it."""
    for place, (name, share) in enumerate(guesses):
        axes.barh(place, 1, height=0.84, color="#f0f0f0")
        axes.barh(place, share, height=0.84, color=SKY if place == 0 else "#c9d6df")
        weight = "bold" if place == 0 else "normal"
        _literal(axes.text(0.03, place, "", va="center", fontsize=7.5, fontweight=weight), name, longest=17)
        axes.text(0.97, place, f"{share:.1%}", va="center", ha="right", fontsize=7.5)
    axes.set_xlim(0, 1)
    axes.set_ylim(places - 0.5, -0.5)
    axes.set_axis_off()


def _run_look(number: int) -> dict[str, Any]:
    turn, place = divmod(number, len(PALETTE))
    return {"color": PALETTE[place], "linestyle": DASHES[turn % len(DASHES)]}


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
        _literal(text, name)
    if len(entries) > len(shown):
        legend.set_title(f"{len(shown)} of {len(entries)} runs named")


def _literal(text: Text, words: str, longest: int = LONGEST_NAME) -> None:
    """Set words as they are: `$` is a dollar, and a letter that no font here has becomes a box."""
    from matplotlib import rcParams

    known = _letters(tuple(rcParams["font.sans-serif"]), text.get_fontweight())
    words = shortened(words, longest)
    text.set_text("".join(letter if letter in known else "\N{REPLACEMENT CHARACTER}" for letter in words))


@cache
def _letters(families: tuple[str, ...], weight: str | int) -> frozenset[str]:
    """Every letter that one of the fonts can draw."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    paths = [findfont(FontProperties(family=[family], weight=weight)) for family in families]
    codes = {code for path in paths for code in get_font(path).get_charmap()}
    return frozenset(letter for letter in map(chr, codes) if letter.isprintable())


@contextmanager
def _style() -> Iterator[None]:
    """The look of every figure, whatever the user's own settings are."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = STYLE | {"font.family": "sans-serif", "font.sans-serif": families}
        matplotlib.rcParams.update(settings)
        yield


def _rendered(figure: Figure, kind: str) -> bytes:
    """The bytes of the picture; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()
