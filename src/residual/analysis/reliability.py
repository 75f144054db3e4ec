"""Reliability diagrams: accuracy of the answers of each confidence, in percent. The numbers come from `calibration`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from residual.analysis.elements import points
from residual.analysis.figures import confusion_picture
from residual.analysis.style import BLUE, EDGE, GREY, PAPER, RED, Kind, rendered, style
from residual.evaluation.calibration import Calibration
from residual.evaluation.figures import Report
from residual.files import replace_file

FEW = 20
"""Bins of fewer answers are drawn hollow."""


def reliability_picture(found: Calibration, kind: Kind, protocol: str = "") -> bytes:
    """Bars for the accuracy of each bin, marks for its mean confidence; below, the share of the answers it holds.

    A bin of few answers is hollow: its accuracy is mostly chance.
    """
    filled = [one for one in found.bins if one.accuracy is not None and one.confidence is not None]
    total = max(1, sum(one.images for one in found.bins))
    width = 100 / len(found.bins)
    with style(kind):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.3, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        upper.plot([0, 100], [0, 100], color=EDGE, linewidth=1, linestyle="--")
        for one in filled:
            middle, height, few = 50 * (one.low + one.high), 100 * (one.accuracy or 0), one.images < FEW
            shade = {"fill": False, "edgecolor": BLUE} if few else {"color": BLUE, "alpha": 0.75}
            upper.bar(middle, height, width=0.92 * width, **shade)
            marks = {"color": RED, "markersize": 4, "markerfacecolor": PAPER if few else RED}
            upper.plot([100 * (one.confidence or 0)], [height], "D", clip_on=False, zorder=3, **marks)
            lower.bar(middle, 100 * one.images / total, width=0.92 * width, color=GREY, alpha=0.6)
        upper.set(xlim=(0, 100), ylim=(0, 100), ylabel="accuracy, %")
        upper.set_title(f"Calibration error {points(found.error)}", loc="left", fontsize=9)
        if protocol:
            upper.set_title(protocol, loc="right", fontsize=8, color=GREY)
        lower.set_ylabel("answers, %")
        hollow = f"; hollow: below {FEW} answers" if any(one.images < FEW for one in filled) else ""
        lower.set_xlabel("confidence, %")
        figure.supxlabel(f"diamonds: the mean of each bin{hollow}", fontsize=7.5, color=GREY)
        return rendered(figure, kind)


def pictures(album: Path, reports: int) -> list[Path]:
    """The files that `draw_reports` writes for so many reports."""
    marks = [f"-{place}" for place in range(1, reports + 1)] if reports > 1 else [""]
    return [
        album / f"{name}{mark}.{kind}"
        for mark in marks
        for kind in ("png", "svg")
        for name in ("reliability", "confusion")
    ]


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
