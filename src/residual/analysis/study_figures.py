"""The figures of studies, drawn from the points that result files hold; the same as a file or within a page.

Errors in percent, losses in nats, steps counted from 0. Training error is dashed and test error solid, as in He et al.
2015, figure 6; or thin and bold, as in its figure 4. Responses are as in its figure 7. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from residual.analysis.style import DASHES, GREY, PALETTE, Kind, literal, picture_format, rendered, style
from residual.files import replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = Mapping[str, Any]
Draw = Callable[["Axes", Points], None]
Training = Literal["dashed", "thin"]
_MOST_NAMES = 12
_TRAINING: Mapping[Training, Mapping[str, Any]] = {
    "dashed": {"linestyle": DASHES[1], "linewidth": 1.1},
    "thin": {"linewidth": 0.7},
}
_WORDS: Mapping[Training, str] = {
    "dashed": "dashed: training, solid: test or validation",
    "thin": "thin: training, bold: test or validation",
}
_MARKS = ("", "o", "s", "^")  # one for each turn through the palette, where dashes have a meaning of their own


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
        of: which arms are drawn. The height is that of all arms, so that figures of several of them can be compared.
        training: how the training error is told from the other.
    """
    chosen = {arm: found for arm, found in series.items() if of(arm)}
    for number, (arm, found) in enumerate(chosen.items()):
        turn, place = divmod(number, len(PALETTE))
        look: dict[str, Any] = {"color": PALETTE[place], "marker": _MARKS[turn % len(_MARKS)], "markersize": 3}
        if trained := found.get("training error"):
            axes.plot(trained["step"], trained["mean"], **look, **_TRAINING[training])
        if judged := _judged(found):
            (line,) = axes.plot(judged["step"], judged["mean"], linewidth=1.9, **look)
            low = [m - s for m, s in zip(judged["mean"], judged["std"], strict=True)]
            high = [m + s for m, s in zip(judged["mean"], judged["std"], strict=True)]
            axes.fill_between(judged["step"], low, high, color=look["color"], alpha=0.18, linewidth=0)
            line.set_label(arm)
    heights = sorted(height for found in series.values() for height in (_judged(found) or {"mean": ()})["mean"])
    if heights:
        axes.set_ylim(0, 1.1 * heights[int(0.9 * (len(heights) - 1))])
    axes.set(xlabel="step", ylabel="error, %")
    _note(axes, _WORDS[training])
    _legend(axes, len(chosen))


def _judged(found: Points) -> Points | None:
    """The test's curve, or the validation's where the test was read once, at the end."""
    test, validation = found.get("test error"), found.get("validation error")
    if validation and (test is None or len(test["step"]) < 2):
        return dict(validation)
    return None if test is None else dict(test)


def draw_losses(axes: Axes, series: Points) -> None:
    """Training loss of every arm against steps."""
    for look, (arm, found) in zip(_looks(len(series)), series.items(), strict=True):
        loss = found["training loss"]
        axes.plot(loss["step"], loss["mean"], label=arm, **look)
    axes.set(xlabel="step", ylabel="training loss, nats")
    _legend(axes, len(series))


def draw_variances(axes: Axes, series: Points) -> None:
    """Variance of what every convolution gives; dotted, what the formula says from the first on."""
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        layers = range(1, len(found["variance"]) + 1)
        axes.plot(layers, found["variance"], label=name, **look)
        if formula := found.get("formula"):
            start = found["variance"][0]
            axes.plot(layers, [start * value for value in formula], color=look["color"], linestyle=":", linewidth=0.9)
    _logarithmic(axes, "y")
    axes.set(xlabel="convolution", ylabel="variance of its output")
    _note(axes, "dotted: the formula")
    _legend(axes, len(series))


def draw_gradients(axes: Axes, series: Points) -> None:
    """Deviation of the gradient at every convolution's output."""
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        axes.plot(range(1, len(found["gradient"]) + 1), found["gradient"], label=name, **look)
    _logarithmic(axes, "y")
    axes.set(xlabel="convolution", ylabel="gradient at its output")
    _legend(axes, len(series))


def draw_responses(axes: Axes, series: Points) -> None:
    """Standard deviation of every 3x3 layer's response, in the order of the layers."""
    _responses(axes, series, list, "layer")


def draw_sorted_responses(axes: Axes, series: Points) -> None:
    """The same from the largest down."""
    _responses(axes, series, lambda values: sorted(values, reverse=True), "layer, sorted by its response")


def _responses(axes: Axes, series: Points, order: Callable[[Sequence[float]], list[float]], label: str) -> None:
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        values = order(found["response"])
        axes.plot(range(1, len(values) + 1), values, label=name, marker=".", markersize=3, **look)
    axes.set(xlabel=label, ylabel="standard deviation")
    axes.set_ylim(bottom=0)
    _legend(axes, len(series))


def draw_lesions(axes: Axes, series: Points) -> None:
    """Error after deleting each unit (points) beside the whole network's (line)."""
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        colour = look["color"]
        axes.plot(found["unit"], found["deleted"], "o", markersize=4, color=colour, label=f"{name}, one unit deleted")
        axes.plot(found["swap"], found["swapped"], "x", markersize=4, color=colour, label=f"{name}, neighbours swapped")
        axes.axhline(found["whole"], color=colour, linewidth=1, linestyle="--")
    axes.set(xlabel="unit", ylabel="error, %")
    _note(axes, "dashed: the whole network")
    _legend(axes, 2 * len(series))


def draw_probes(axes: Axes, series: Points) -> None:
    """Accuracy of a linear classifier on each unit's maps, over the share of the network that lies before it."""
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        axes.plot(found["depth"], found["accuracy"], label=name, marker=".", markersize=4, **look)
    axes.set(xlabel="share of the units before", ylabel="accuracy of a linear probe, %")
    _legend(axes, len(series))


def draw_similarities(axes: Axes, series: Points) -> None:
    """Linear CKA of each unit's maps with the one before, over the share of the network."""
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        axes.plot(found["depth"][1:], found["similarity"], label=name, marker=".", markersize=4, **look)
    axes.set(xlabel="share of the units before", ylabel="CKA with the unit before")
    _legend(axes, len(series))


def draw_rates(axes: Axes, series: Points) -> None:
    """The smoothed loss of a range test against the learning rate."""
    least: list[float] = []
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        axes.plot(found["rate"][: len(found["loss"])], found["loss"], label=name, **look)
        least.append(min(found["loss"], default=0))
    _logarithmic(axes, "x")
    axes.set_ylim(0.9 * min(least), 2 * max(least))
    axes.set(xlabel="learning rate", ylabel="smoothed loss, nats")
    _legend(axes, len(series))


def draw_costs(axes: Axes, series: Points) -> None:
    """Seconds of a training step on an image against multiply-adds."""
    for look, (name, found) in zip(_looks(len(series)), series.items(), strict=True):
        axes.plot(found["multiply_adds"], found["seconds"], label=name, marker="o", markersize=4, **look)
        for x, y, network in zip(found["multiply_adds"], found["seconds"], found["network"], strict=True):
            text = axes.annotate("", (x, y), textcoords="offset points", xytext=(4, -8), fontsize=7, color=GREY)
            literal(text, network)
    _logarithmic(axes, "x")
    _logarithmic(axes, "y")
    axes.set(xlabel="multiply-adds of an image", ylabel="seconds of a step, an image")
    _legend(axes, len(series))


def _looks(count: int) -> list[dict[str, Any]]:
    turns = [divmod(number, len(PALETTE)) for number in range(count)]
    return [{"color": PALETTE[place], "linestyle": DASHES[turn % len(DASHES)]} for turn, place in turns]


def _logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis whose numbers are plain text, since no figure here is set as mathematics."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _note(axes: Axes, words: str) -> None:
    axes.text(1, 1.01, words, transform=axes.transAxes, ha="right", va="bottom", fontsize=7.5, color=GREY)


def _legend(axes: Axes, names: int) -> None:
    if names:
        axes.legend(fontsize=7.5, ncols=2 if names > _MOST_NAMES // 2 else 1)
