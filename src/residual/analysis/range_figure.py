"""The picture of a range test: loss against learning rate, with the suggested rates named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from residual.analysis.style import BLUE, GREY, look, picture_format, plain_ticks, rendered, style
from residual.files import replace_file


def draw_range(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestions: Mapping[str, float],
    title: str,
    path: Path,
    linear: bool = False,
) -> None:
    """Losses in nats as they were (thin) and smoothed; a vertical line for every suggestion.

    Raises:
        UsageError: the name ends in neither .png nor .svg.
        StorageError: the disk refused.
    """
    kind = picture_format(path)
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(rates, losses, color=GREY, linewidth=0.7, alpha=0.6, label="loss of each batch")
        axes.plot(rates, smoothed, color=BLUE, linewidth=2, label="smoothed")
        if not linear:
            axes.set_xscale("log")
            plain_ticks(axes)
        if smoothed:
            low, high = min(smoothed), max(smoothed[: max(1, len(smoothed) // 2)])
            axes.set_ylim(low - 0.1 * (high - low) - 0.01, high + 0.6 * (high - low) + 0.01)
        for number, (name, rate) in enumerate(suggestions.items(), 2):  # blue is the loss
            axes.axvline(rate, linewidth=1.2, label=f"{name}: {rate:.2g}", **look(number))
        axes.set(xlabel="learning rate", ylabel="loss, nats", title=title)
        axes.legend(loc="upper left")
        replace_file(path, rendered(figure, kind))
