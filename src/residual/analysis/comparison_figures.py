"""The figures of a comparison of searches, from its findings as plain values: nothing is read or trained.

`arm_points`, `difference_points`, `lines_of`, `mean_line` compute, the others draw. Accuracies in percent, losses in
nats, differences in points; an arm has the same colour in every figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from residual.analysis.curves import axis_scale
from residual.analysis.style import (
    GREY,
    INK,
    PALETTE,
    PAPER,
    Kind,
    draw_mean,
    literal,
    look,
    name_ticks,
    plain_ticks,
    rendered,
    style,
)

Facts = Mapping[str, Any]
SEED_FIGURES = {
    "top-1": "Accuracy (top-1), %",
    "top-3": "Top-3 accuracy, %",
    "top-5": "Top-5 accuracy, %",
    "training loss": "Training loss, nats",
    "validation loss": "Validation loss, nats",
}
"""The figures 19 to 23 of seed 001, by epoch."""


class Point(NamedTuple):
    """A mean with its interval (None for a single value) and the values behind it."""

    name: str
    mean: float
    interval: tuple[float, float] | None
    values: tuple[float, ...]


def arm_points(found: Facts, measure: str = "top1") -> list[Point]:
    """Of each arm the mean test accuracy over its searches, in percent."""
    return [_point(arm, means[measure]) for arm, means in found["means"].items() if means[measure] is not None]


def difference_points(found: Facts) -> list[Point]:
    """The paired differences in points of test top-1."""
    return [
        _point(f"{one['first']} − {one['second']}", one) for one in found["differences"] if one.get("mean") is not None
    ]


def _point(name: str, facts: Facts) -> Point:
    span = facts["interval"]
    return Point(
        name,
        100 * facts["mean"],
        None if span is None else (100 * span[0], 100 * span[1]),
        tuple(100 * value for value in facts["values"]),
    )


def lines_of(found: Facts) -> dict[str, list[list[tuple[int, float]]]]:
    """Of each arm and search the best validation top-1 so far, in percent, by trainings done."""
    lines: dict[str, list[list[tuple[int, float]]]] = {arm: [] for arm in found["arms"]}
    for row in found["rows"]:
        best = enumerate(row["best_so_far"], 1)
        lines[row["arm"]].append([(number, 100 * value) for number, value in best if value is not None])
    return lines


def mean_line(lines: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[int, float]]:
    """The mean over the searches, from where all of them have a value: none where all trainings of one failed."""
    tables = [dict(line) for line in lines]
    shared = sorted(set.intersection(*({*table} for table in tables))) if tables else []
    return [(number, sum(table[number] for table in tables) / len(tables)) for number in shared]


def looks(arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The colour and the dashes of each arm."""
    return {arm: look(n) for n, arm in enumerate(arms)}


# -- drawing -----------------------------------------------------------------------------------------------


def _picture(kind: Kind, size: tuple[float, float], draw: Callable[[Any], None]) -> bytes:
    with style(kind):
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        return rendered(figure, kind)


def points_picture(points: Sequence[Point], label: str, kind: Kind, zero: bool = False) -> bytes:
    """A row for each: the values as rings, their mean as a dot with its interval; a line at zero for differences."""

    def draw(axes: Any) -> None:
        if zero:
            axes.axvline(0, color=INK, linewidth=1)
        for place, point in enumerate(points):
            colour = INK if zero else PALETTE[place % len(PALETTE)]
            if point.interval is not None:
                axes.plot(point.interval, [place, place], color=colour, linewidth=1.6)
            rings = {"marker": "o", "markersize": 5, "markerfacecolor": PAPER, "linestyle": "none"}
            axes.plot(point.values, [place + 0.2] * len(point.values), color=GREY, **rings)
            axes.plot([point.mean], [place], color=colour, marker="o", markersize=6.5)
        name_ticks(axes.yaxis, [point.name for point in points])
        low, high = axes.get_xlim()
        axes.set_xlim(max(low, -100.0 if zero else 0.0), min(high, 100.0))  # shares and their differences end there
        axes.set_ylim(len(points) - 0.4, -0.6)
        axes.set_xlabel(label)

    return _picture(kind, (4.9, 1.0 + 0.42 * len(points)), draw)


def best_picture(found: Facts, kind: Kind) -> bytes:
    """Best so far by trainings done: thin lines are searches, thick ones their means.

    Poor first draws are cut off, where they would press together all that comes after a quarter of the trainings.
    """
    searches = lines_of(found)
    every = [line for lines in searches.values() for line in lines if line]
    least = min((y for line in every for x, y in line if 4 * x >= found["trainings"]), default=0.0) - 1
    cut = any(y < least for line in every for _, y in line)

    def draw(axes: Any) -> None:
        styles = looks(found["arms"])
        for arm, lines in searches.items():
            for line in lines:
                axes.step(
                    [x for x, _ in line], [y for _, y in line], where="post", linewidth=0.7, alpha=0.5, **styles[arm]
                )
            mean = mean_line(lines)
            axes.step([x for x, _ in mean], [y for _, y in mean], where="post", linewidth=2.1, **styles[arm])
        if cut:
            axes.set_ylim(bottom=least)
        axes.set_xlabel(f"trainings done{f'; cut below {least:.0f} %' if cut else ''}")
        axes.set_title("Best validation top-1 so far, %")
        axes.locator_params(axis="x", integer=True)
        _arms_legend(axes, found["arms"])

    return _picture(kind, (4.9, 3.6), draw)


def curve_picture(found: Facts, name: str, kind: Kind) -> bytes:
    """One of the seed's figures: the mean over an arm's winners by epoch, one deviation as a band."""

    def draw(axes: Any) -> None:
        styles, scale = looks(found["arms"]), 1 if name.endswith("loss") else 100
        drawn = [arm for arm in found["arms"] if name in found["curves"][arm]]
        means: list[float] = []
        for arm in drawn:
            band = found["curves"][arm][name]
            mean = [scale * value for value in band["mean"]]
            std = [scale * value for value in band["std"]]
            draw_mean(axes, band["epochs"], mean, std, styles[arm], alpha=0.13, least=0.0)
            means += mean
        if name.endswith("loss"):
            axes.set_yscale(axis_scale(means))
            plain_ticks(axes)
        axes.set_title(SEED_FIGURES[name])
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True)
        _arms_legend(axes, drawn, styles)

    return _picture(kind, (4.3, 3.2), draw)


def gene_picture(found: Facts, path: str, kind: Kind) -> bytes:
    """The values of a gene by number of the individual, over all searches: the fuller the fitter, winners ringed."""
    ranged = found["space"]["genes"][path]
    scale = {"log": "log", "int-log": "log", "choice": "choice"}.get(ranged.partition(":")[0], "linear")
    rows = [row for row in found["rows"] if row["history"] and path in row["history"][0]["genes"]]
    words = sorted({str(one["genes"][path]) for row in rows for one in row["history"]}) if scale == "choice" else []

    def place(value: Any) -> Any:
        return words.index(str(value)) if words else value

    def draw(axes: Any) -> None:
        styles = looks(found["arms"])
        for row in rows:
            colour = styles[row["arm"]]["color"]
            for one, rank in zip(row["history"], _ranks(row["history"]), strict=True):
                at = [one["number"]], [place(one["genes"][path])]
                axes.plot(*at, marker="o", markersize=3.4, color=colour, alpha=0.12 + 0.75 * rank)
                if one["number"] == row["winner"]:
                    axes.plot(*at, marker="o", markersize=8, color=colour, fillstyle="none", markeredgewidth=1.4)
        if words:
            name_ticks(axes.yaxis, words)
        else:
            axes.set_yscale(scale)
            plain_ticks(axes)
        literal(axes.set_title(""), path, longest=40)
        axes.set_xlabel("number of the individual")
        colours = {arm: {"color": how["color"], "linestyle": "none", "marker": "o"} for arm, how in styles.items()}
        arms = [arm for arm in found["arms"] if any(row["arm"] == arm for row in rows)]
        _arms_legend(axes, arms, colours, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4)

    return _picture(kind, (4.3, 3.4), draw)


def proxy_picture(found: Facts, kind: Kind) -> bytes:
    """Random settings: validation top-1 of the short training against that of the long one, in percent."""
    rows = [row for row in found["proxy"]["rows"] if None not in (row["short"], row["long"])]

    def draw(axes: Any) -> None:
        axes.plot([100 * row["short"] for row in rows], [100 * row["long"] for row in rows], "o", color=PALETTE[0])
        if (default := found["proxy"]["default"]) is not None:
            axes.axvline(100 * default, color=GREY, linewidth=1, linestyle=":")
        axes.set_xlabel("short training: validation top-1, %")
        axes.set_title(f"{found['proxy']['longer']:g} times as long, %")

    return _picture(kind, (4.3, 3.2), draw)


def _ranks(history: Sequence[Facts]) -> list[float]:
    """0 the worst, 1 the fittest; 0 without fitness."""
    ordered = sorted({one["fitness"] for one in history if one["fitness"] is not None})
    places = {value: n / max(1, len(ordered) - 1) for n, value in enumerate(ordered)}
    return [0.0 if one["fitness"] is None else places[one["fitness"]] for one in history]


def _arms_legend(
    axes: Any, arms: Sequence[str], styles: Mapping[str, dict[str, Any]] | None = None, **place: Any
) -> None:
    from matplotlib.lines import Line2D

    styles = styles or looks(arms)
    keys = [Line2D([], [], linewidth=2, **styles[arm]) for arm in arms]
    legend = axes.legend(keys, ["-"] * len(arms), **{"loc": "best", **place})
    for text, arm in zip(legend.get_texts(), arms, strict=True):
        literal(text, arm)
