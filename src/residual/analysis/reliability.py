"""Reliability diagrams: accuracy of the answers of each confidence, in percent. The numbers come from `calibration`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from residual.analysis.figures import confusion_picture
from residual.analysis.style import BLUE, EDGE, GREY, RED, Kind, rendered, style
from residual.evaluation.calibration import Calibration
from residual.evaluation.figures import Report
from residual.files import replace_file


def reliability_picture(found: Calibration, kind: Kind, protocol: str = "") -> bytes:
    """Bars for the accuracy of each bin, marks for its mean confidence; below, the share of the answers it holds."""
    filled = [one for one in found.bins if one.accuracy is not None and one.confidence is not None]
    total = max(1, sum(one.images for one in found.bins))
    width = 100 / len(found.bins)
    with style(kind):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.3, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 100], [0, 100], color=EDGE, linewidth=1, linestyle="--")
        middles = [50 * (one.low + one.high) for one in filled]
        upper.bar(middles, [100 * (one.accuracy or 0) for one in filled], width=0.92 * width, color=BLUE, alpha=0.75)
        means = [100 * (one.confidence or 0) for one in filled]
        upper.plot(
            means, [100 * (one.accuracy or 0) for one in filled], "D", markersize=4, color=RED, clip_on=False, zorder=3
        )
        upper.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy, %")
        upper.set_title(f"Calibration error {100 * found.error:.2f} %")
        if protocol:
            upper.set_title(protocol, loc="right", fontsize=8, color=GREY)
        lower.bar(middles, [100 * one.images / total for one in filled], width=0.92 * width, color=GREY, alpha=0.6)
        lower.set_ylabel("answers, %")
        lower.set_xlabel("confidence, %; diamonds stand at the mean of each bin")
        return rendered(figure, kind)


def draw_reports(reports: Sequence[Report], album: Path) -> list[Path]:
    """Reliability and confusion of each report as PNG and SVG; numbered where there are several, the ensemble last.

    Raises:
        StorageError: the disk refused.
    """
    kinds: tuple[Kind, ...] = ("png", "svg")
    drawn: list[Path] = []
    for place, one in enumerate(reports, 1):
        mark = f"-{place}" if len(reports) > 1 else ""
        confusion, names = one.evaluation.confusion.numpy(), one.class_names
        for kind in kinds:
            protocol = str(one.sheet.facts["protocol"])
            pictures = {
                "reliability": reliability_picture(one.calibration, kind, protocol),
                "confusion": confusion_picture(confusion, names, kind),
            }
            for name, picture in pictures.items():
                drawn.append(album / f"{name}{mark}.{kind}")
                replace_file(drawn[-1], picture)
    return drawn
