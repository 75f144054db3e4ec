"""The look of every figure, whatever the user's own settings are, and names drawn letter by letter.

Colours of files are those of Okabe and Ito (2008); pages have variants of their own for light and dark in `page.css`.
All remain distinct for colour-blind readers, and a line has its dashes or marks besides. Names given by users are
drawn as they are: no mathematics, no markup, a box for what no font here can show.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from residual.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

Kind = Literal["png", "svg", "inline"]
"""A picture's format; `inline` is an SVG for a page, whose letters remain letters."""

MAKER = "residual: deep residual networks"
"""What a picture says of who made it."""
LONGEST_NAME = 28
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
PALETTE = (BLUE, RED, GREEN, PINK, ORANGE, SKY)
DASHES = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (6, 1, 1, 1)), (0, (10, 2)), (0, (6, 1, 1, 1, 1, 1)))
MARKS = ("", "o", "s", "^", "D", "v")
"""For lines whose dashes have a meaning of their own."""
RIGHT, WRONG = "#2b8cd0", "#e2702d"  # of pixels, which cannot follow a page from light to dark
INK, GREY, EDGE, GRID, PAPER = "#222222", "#555555", "#999999", "#e6e6e6", "#ffffff"
FONTS = (
    "Noto Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC",
    "Apple SD Gothic Neo", "Arial Unicode MS",
)  # fmt: skip
STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": EDGE,
    "ytick.color": EDGE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "svg.hashsalt": "residual",
}


def picture_format(path: Path) -> Literal["png", "svg"]:
    """The format a file name asks for.

    Raises:
        UsageError: another suffix.
    """
    match path.suffix.lower():
        case ".png":
            return "png"
        case ".svg":
            return "svg"
    raise UsageError(f"no picture format {path.suffix or '(none)'!r}", path, "end the name in .png or .svg")


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """The beginning and the end of a long name, which tell most."""
    tail = longest // 2 - 1
    return text if len(text) <= longest else f"{text[: longest - tail - 1]}…{text[-tail:]}"


def literal(text: Text, words: str, longest: int = LONGEST_NAME) -> None:
    """Set words as they are: `$` is a dollar, and a letter that no font here has becomes a box."""
    text.set_text(_drawable(words, longest, text.get_fontweight()))


def name_ticks(axis: Axis, names: Sequence[str], longest: int = LONGEST_NAME, **look: Any) -> None:
    """Names at 0, 1, 2 ... along an axis, drawn as they are."""
    axis.set_ticks(range(len(names)), [_drawable(name, longest, "normal") for name in names], **look)


def _drawable(words: str, longest: int, weight: str | int) -> str:
    from matplotlib import rcParams

    known = _letters(tuple(rcParams["font.sans-serif"]), weight)
    words = shortened(words, longest)
    return "".join(letter if letter in known else "\N{REPLACEMENT CHARACTER}" for letter in words)


@cache
def _letters(families: tuple[str, ...], weight: str | int) -> frozenset[str]:
    """Every letter that one of the fonts can draw."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    paths = [findfont(FontProperties(family=[family], weight=weight)) for family in families]
    codes = {code for path in paths for code in get_font(path).get_charmap()}
    return frozenset(letter for letter in map(chr, codes) if letter.isprintable())


@contextmanager
def style(kind: Kind = "png") -> Iterator[None]:
    """Draw within this, and render there too."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in FONTS if name in installed)]
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        settings: Any = STYLE | {"font.family": "sans-serif", "font.sans-serif": families}
        if kind == "inline":
            settings |= {"svg.fonttype": "none", "font.size": 9.5, "legend.fontsize": 9}
        matplotlib.rcParams.update(settings)
        yield


def look(number: int, by: Literal["dashes", "marks"] = "dashes") -> dict[str, Any]:
    """The colour of a line by its number, and dashes or marks that no other of the same colour, or turn, has."""
    turn, place = divmod(number, len(PALETTE))
    kind = (place + turn) % len(DASHES)
    own = {"linestyle": DASHES[kind]} if by == "dashes" else {"marker": MARKS[kind], "markersize": 3}
    return {"color": PALETTE[place], **own}


def plain_ticks(axes: Axes) -> None:
    """0.001 rather than a power of ten on a logarithmic axis: no figure here is set as mathematics.

    An axis of less than two decades has numbers at 2 and 5 as well, so that there are several.
    """
    from matplotlib.ticker import FuncFormatter

    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(FuncFormatter(partial(_between_powers, axis)))


def _between_powers(axis: Axis, value: float, _: int | None = None) -> str:
    low, high = sorted(axis.get_view_interval())
    if value <= 0:
        return ""
    digit = round(value / 10 ** math.floor(math.log10(value) + 1e-9))
    return f"{value:g}" if high < 100 * low and digit in (2, 5) else ""


def whole_ticks(axis: Axis) -> None:
    """Numbers at whole values alone: there is no layer 2.5."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def dot(points: Sequence[float]) -> dict[str, Any]:
    """The mark of a single point, of which no line can be drawn."""
    return {"marker": "o", "markersize": 4} if len(points) == 1 else {}


def draw_mean(
    axes: Axes,
    at: Sequence[float],
    mean: Sequence[float],
    std: Sequence[float],
    own: Mapping[str, Any],
    *,
    alpha: float = 0.2,
    least: float = -math.inf,
) -> Line2D:
    """Means as a line, one deviation around it as a band, not below `least`; a single point as a dot with a bar."""
    low = [max(least, m - s) for m, s in zip(mean, std, strict=True)]
    high = [m + s for m, s in zip(mean, std, strict=True)]
    if len(at) == 1:
        axes.vlines(at, low, high, color=own["color"], linewidth=1)
    else:
        axes.fill_between(at, low, high, color=own["color"], alpha=alpha, linewidth=0)
    (line,) = axes.plot(at, mean, **{**own, **dot(at)})
    return line


def is_ours(path: Path) -> bool:
    """Whether a picture says that this program drew it."""
    try:
        with open(path, "rb") as stream:
            return MAKER.encode() in stream.read(4096)
    except OSError:
        return False


def rendered(figure: Figure, kind: Kind) -> bytes:
    """The bytes of the picture; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Software": MAKER} if kind == "png" else {"Creator": MAKER, "Date": None}
    form = "png" if kind == "png" else "svg"
    figure.savefig(buffer, format=form, dpi=150, metadata=metadata, transparent=kind == "inline")
    return buffer.getvalue()
