"""The figures of studies, drawn from the points that result files hold; the same as a file or within a page.

Errors in percent, losses in nats, steps counted from 0. Training error is dashed and test error solid, as in He et al.
2015, figure 6; or thin and bold, as in its figure 4. Responses are as in its figure 7. Nothing is computed here but
where figures end and names stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from residual.analysis.style import (
    DASHES,
    GREY,
    PAPER,
    Kind,
    dot,
    draw_mean,
    literal,
    look,
    name_ticks,
    picture_format,
    plain_ticks,
    rendered,
    style,
    whole_ticks,
)
from residual.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Mapping[str, Any]
Draw = Callable[["Axes", Points], None]
Training = Literal["dashed", "thin"]
_MOST_NAMES = 12
_MOST_LINES, _FEW = 4, 3  # lines of so few points that can be told apart, and points
_TRAINING: Mapping[Training, Mapping[str, Any]] = {
    "dashed": {"linestyle": DASHES[1], "linewidth": 1.1},
    "thin": {"linewidth": 0.7},
}
_WORDS: Mapping[Training, str] = {
    "dashed": "dashed: training, solid: test or validation",
    "thin": "thin: training, bold: test or validation",
}
_FAINT: Mapping[str, Any] = {"linewidth": 0.8, "alpha": 0.55}  # runs of other seeds
_OTHERS = "faint: runs of other seeds"
_NEAR = (1.05, 1.25)
"""Points of a figure of costs within these factors, of multiply-adds and of seconds, have one name together."""


def picture(draw: Draw, series: Points, title: str, kind: Kind) -> bytes:
    """One figure of a study as bytes."""
    with style(kind):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.4, 3.6), layout="constrained")
        axes = figure.subplots()
        draw(axes, series)
        if kind != "inline":
            literal(figure.suptitle("", x=0.01, ha="left", fontsize=10), title, longest=80)
        return rendered(figure, kind)


def draw_file(draw: Draw, series: Points, title: str, path: Path) -> None:
    """One figure of a study as a file.

    Raises:
        UsageError: the name ends in neither .png nor .svg.  StorageError: the disk refused.
    """
    replace_file(path, picture(draw, series, title, picture_format(path)))


def draw_errors(
    axes: Axes, series: Points, *, of: Callable[[str], bool] = lambda arm: True, training: Training = "dashed"
) -> None:
    """Of every arm training error, and test (or validation) error with its deviation, against steps.

    Args:
        of: which arms are drawn. The height is that of all arms, so that figures of several of them can be compared;
            the beginning of training is cut off, and an arm that ends above has its last value in its name.
        training: how the training error is told from the other.

    Arms that were judged three times at most have no courses: their last errors stand in rows, the least first.
    """
    chosen = {arm: found for arm, found in series.items() if of(arm)}
    lengths = [len(one["step"]) for one in map(_judged, chosen.values()) if one]
    if len(chosen) > _MOST_LINES and max(lengths, default=0) <= _FEW:
        _draw_last(axes, chosen)
        return
    height = _height([judged["mean"] for found in series.values() if (judged := _judged(found))])
    most = 0.0
    for number, (arm, found) in enumerate(chosen.items()):
        own = look(number, "marks")
        if trained := found.get("training error"):
            axes.plot(trained["step"], trained["mean"], **{**own, **_TRAINING[training], **dot(trained["step"])})
            most = max(most, *trained["mean"])
        if judged := _judged(found):
            line = draw_mean(axes, judged["step"], judged["mean"], judged["std"], {**own, "linewidth": 1.9}, alpha=0.18)
            most, last = max(most, *judged["mean"]), judged["mean"][-1]
            line.set_label(arm if height is None or last <= height else f"{arm} (above: {last:.1f} % at the end)")
    least = 0
    if height is not None:
        drawn = [found[name] for found in series.values() for name in found if name.endswith(" error")]
        lowest = min(m - s for one in drawn for m, s in zip(one["mean"], one["std"], strict=True))
        least = _ground(lowest, height)
        axes.set_ylim(least, height)
    axes.set(xlabel="step", ylabel="error, %")
    cut = f"; cut at {height} %" if height is not None and most > height else ""
    band = "; band: one deviation over seeds" if any(_deviates(found) for found in chosen.values()) else ""
    _note(axes, _WORDS[training] + band + (f"; from {least} % up" if least else "") + cut)
    _legend(axes, len(chosen))


def _deviates(found: Points) -> bool:
    judged = _judged(found)
    return judged is not None and any(judged["std"])


def _draw_last(axes: Axes, series: Points) -> None:
    """A row for each arm: its last error with its deviation, and its last training error, hollow."""
    judged = {arm: one for arm, found in series.items() if (one := _judged(found))}
    rows = sorted(judged, key=lambda arm: -judged[arm]["mean"][-1])
    for row, arm in enumerate(rows):
        last, trained = judged[arm], series[arm].get("training error")
        color = look(0)["color"]
        axes.errorbar(last["mean"][-1], row, xerr=last["std"][-1], fmt="o", markersize=5, color=color, linewidth=1)
        if trained:
            axes.plot(trained["mean"][-1], row, "o", markersize=5, markerfacecolor=PAPER, markeredgecolor=color)
    name_ticks(axes.yaxis, rows, fontsize=8)
    axes.grid(axis="y", alpha=0.4)
    axes.set(xlabel="error, %")
    axes.margins(y=0.08)
    last_step = max((one["step"][-1] for one in judged.values()), default=0)
    _note(axes, f"step {last_step:,}; hollow: training, full: test or validation")


def _ground(lowest: float, height: int) -> int:
    """Where the axis begins: at 0, or at a whole ten below all curves where these lie in its upper half alone."""
    return 0 if lowest < height / 2 else 10 * math.floor((lowest - 0.05 * (height - lowest)) / 10)


def _height(curves: Sequence[Sequence[float]]) -> int | None:
    """The height, in whole percent, below which are nine tenths of all points and three quarters of what ends there."""
    if not any(curves):
        return None
    most = _quantile([height for curve in curves for height in curve], 0.9)
    each = [_quantile(curve, 0.75) for curve in curves if curve and curve[-1] <= most]
    return min(100, math.ceil(1.1 * max([most, *each])))


def _quantile(heights: Sequence[float], share: float) -> float:
    return sorted(heights)[int(share * (len(heights) - 1))]


def _judged(found: Points) -> Points | None:
    """The test's curve, or the validation's where the test was read once, at the end."""
    test, validation = found.get("test error"), found.get("validation error")
    if validation and (test is None or len(test["step"]) < 2):
        return dict(validation)
    return None if test is None else dict(test)


def draw_losses(axes: Axes, series: Points) -> None:
    """Training loss of every arm against steps."""
    for own, (arm, found) in _each(series):
        loss = found["training loss"]
        axes.plot(loss["step"], loss["mean"], label=arm, **own)
    axes.set(xlabel="step", ylabel="training loss, nats")
    _legend(axes, len(series))


def draw_variances(axes: Axes, series: Points) -> None:
    """Variance of what every convolution gives; dotted, what the formula says from the first on."""
    for own, (name, found) in _each(series):
        layers = range(1, len(found["variance"]) + 1)
        axes.plot(layers, found["variance"], label=name, **own)
        if formula := found.get("formula"):
            start = found["variance"][0]
            axes.plot(layers, [start * value for value in formula], color=own["color"], linestyle=":", linewidth=0.9)
    _logarithmic(axes, "y")
    whole_ticks(axes.xaxis)
    axes.set(xlabel="convolution", ylabel="variance of its output")
    _note(axes, "dotted: the formula")
    _legend(axes, len(series))


def draw_gradients(axes: Axes, series: Points) -> None:
    """Deviation of the gradient at every convolution's output."""
    _runs(axes, series, lambda found: (range(1, len(found["gradient"]) + 1), found["gradient"]))
    _logarithmic(axes, "y")
    whole_ticks(axes.xaxis)
    axes.set(xlabel="convolution", ylabel="gradient at its output")
    _legend(axes, len(series))


def draw_responses(axes: Axes, series: Points) -> None:
    """Standard deviation of every 3x3 layer's response, in the order of the layers."""
    _responses(axes, series, list, "layer")


def draw_sorted_responses(axes: Axes, series: Points) -> None:
    """The same from the largest down."""
    _responses(axes, series, lambda values: sorted(values, reverse=True), "layer, sorted by its response")


def _responses(axes: Axes, series: Points, order: Callable[[Sequence[float]], list[float]], label: str) -> None:
    _runs(axes, series, lambda found: (range(1, len(found["response"]) + 1), order(found["response"])), 3)
    whole_ticks(axes.xaxis)
    axes.set(xlabel=label, ylabel="standard deviation")
    axes.set_ylim(bottom=0)
    _legend(axes, len(series))


def draw_lesions(axes: Axes, series: Points) -> None:
    """Error after deleting each unit, and after swapping neighbours, beside the whole network's (line)."""
    for number, (name, found) in enumerate(series.items()):
        own = look(number, "marks")
        colour, mark = own["color"], own["marker"] or ">"
        names = (f"{name}, one unit deleted", f"{name}, neighbours swapped")
        for turn, one in enumerate((found, *found.get("others", ()))):
            faint: dict[str, Any] = {"alpha": _FAINT["alpha"]} if turn else {}
            how: dict[str, Any] = {"linestyle": "none", "marker": mark, "markersize": 3 if turn else 4, "color": colour}
            deleted, swapped = (None, None) if turn else names
            axes.plot(one["unit"], one["deleted"], label=deleted, **how, **faint)
            axes.plot(one["swap"], one["swapped"], label=swapped, markerfacecolor=PAPER, **how, **faint)
            axes.axhline(one["whole"], color=colour, linewidth=1, linestyle="--", **faint)
    whole_ticks(axes.xaxis)
    axes.set(xlabel="unit", ylabel="error, %")
    _note(axes, "dashed: the whole network" + (f"; {_OTHERS}" if _has_others(series) else ""))
    _legend(axes, 2 * len(series))


def draw_probes(axes: Axes, series: Points) -> None:
    """Accuracy of a linear classifier on each unit's maps, over the share of the network that lies before it."""
    _runs(axes, series, lambda found: (found["depth"], found["accuracy"]), 4)
    axes.set(xlabel="share of the units before", ylabel="accuracy of a linear probe, %")
    _legend(axes, len(series))


def draw_similarities(axes: Axes, series: Points) -> None:
    """Linear CKA of each unit's maps with the one before, over the share of the network."""
    _runs(axes, series, lambda found: (found["depth"][1:], found["similarity"]), 4)
    axes.set(xlabel="share of the units before", ylabel="CKA with the unit before")
    _legend(axes, len(series))


def draw_rates(axes: Axes, series: Points) -> None:
    """The smoothed loss of a range test against the learning rate."""
    least: list[float] = []
    for own, (name, found) in _each(series):
        axes.plot(found["rate"][: len(found["loss"])], found["loss"], label=name, **own)
        least.append(min(found["loss"], default=0))
    _logarithmic(axes, "x")
    axes.set_ylim(0.9 * min(least), 2 * max(least))
    axes.set(xlabel="learning rate", ylabel="smoothed loss, nats")
    _legend(axes, len(series))


def draw_costs(axes: Axes, series: Points) -> None:
    """Seconds on an image against multiply-adds; names below and above by turns."""
    for own, (name, found) in _each(series):
        axes.plot(found["multiply_adds"], found["seconds"], label=name, marker="o", markersize=4, **own)
        for turn, (x, y, words) in enumerate(names_of_points(found)):
            place, side = ((4.0, 5.0), "right") if turn % 2 else ((3.0, -10.0), "left")
            text = axes.annotate("", (x, y), place, textcoords="offset points", ha=side, fontsize=7, color=GREY)
            literal(text, words, longest=60)
    _logarithmic(axes, "x")
    _logarithmic(axes, "y")
    axes.margins(0.08)
    axes.set(xlabel="multiply-adds of an image", ylabel="seconds an image (step, or forward pass)")
    _legend(axes, len(series))


def names_of_points(found: Points) -> list[tuple[float, float, str]]:
    """Where a name stands beside the points of one series; those of almost one place stand together."""
    points = sorted(zip(found["multiply_adds"], found["seconds"], found["network"], strict=True))
    named: list[tuple[float, float, str]] = []
    for x, y, name in points:
        if named and x <= _NEAR[0] * named[-1][0] and max(y, named[-1][1]) <= _NEAR[1] * min(y, named[-1][1]):
            named[-1] = (*named[-1][:2], f"{named[-1][2]}, {name}")
        else:
            named.append((x, y, name))
    return named


def _runs(
    axes: Axes,
    series: Points,
    course: Callable[[Points], tuple[Sequence[float], Sequence[float]]],
    dots: float | None = None,
) -> None:
    """The course of every network's first run, and faintly those of its other seeds."""
    marks: dict[str, Any] = {} if dots is None else {"marker": ".", "markersize": dots}
    for own, (name, found) in _each(series):
        axes.plot(*course(found), label=name, **{**marks, **own})
        for one in found.get("others", ()):
            axes.plot(*course(one), **{**own, **_FAINT})
    if _has_others(series):
        _note(axes, _OTHERS)


def _has_others(series: Points) -> bool:
    return any(found.get("others") for found in series.values())


def _each(series: Points) -> Iterator[tuple[dict[str, Any], tuple[str, Any]]]:
    """Every series with its name and a look of its own."""
    return ((look(number), named) for number, named in enumerate(series.items()))


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis whose numbers are plain text."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    plain_ticks(axes)


def _note(axes: Axes, words: str) -> None:
    axes.text(1, 1.01, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=7.5, color=GREY)


def _legend(axes: Axes, names: int) -> None:
    if names:
        axes.legend(fontsize=7.5, ncols=2 if names > _MOST_NAMES // 2 else 1)
