"""Pictures of explanations: the image as the network sees it, and for each of its first classes where it was found."""

from __future__ import annotations

from pathlib import Path

from residual.analysis.explain import Explanation, overlay
from residual.analysis.style import GREY, literal, picture_format, rendered, style
from residual.files import replace_file


def draw_explanation(found: Explanation, path: Path, title: str) -> None:
    """The image, then one panel a class: its map over the image, its name and probability above.

    Raises:
        UsageError: the name ends in neither .png nor .svg.  StorageError: the disk refused.
    """
    kind = picture_format(path)
    pixels = found.pixels.permute(1, 2, 0).numpy()
    smooth = "nearest" if max(pixels.shape[:2]) < 200 else "antialiased"
    with style(kind):
        from matplotlib.figure import Figure

        panels = 1 + len(found.answers)
        figure = Figure(figsize=(2.4 * panels, 3.1), layout="constrained")
        row = figure.subplots(1, panels, squeeze=False)[0]
        image = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        row[0].imshow(image, cmap="gray", vmin=0, vmax=255, interpolation=smooth)
        literal(row[0].set_title("", fontsize=8, loc="center"), title)
        for axes, (name, share), map_HW in zip(row[1:], found.answers, found.maps, strict=True):
            axes.imshow(overlay(found.pixels, map_HW).permute(1, 2, 0).numpy(), interpolation=smooth)
            literal(axes.set_title("", fontsize=9, loc="center"), f"{name} {100 * share:.1f} %", longest=26)
            if not map_HW.any():
                axes.text(0.5, -0.04, "nothing speaks for it", transform=axes.transAxes, ha="center", va="top")
        for axes in row:
            axes.set_axis_off()
        words = "Grad-CAM on the last stage; each map relative to its own largest value"
        figure.supxlabel(words, fontsize=7.5, color=GREY)
        replace_file(path, rendered(figure, kind))
