"""Pictures of training images as the network sees them: first the pixels (`displayed`), then the sheet.

Images come as normalised float NCHW, the input of the network, and are shown as uint8 NHWC, 0..255. What
augmentation left empty holds zeros there and shows as the mean of the training images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
from torch import Tensor

from residual.analysis.style import GREY, literal, picture_format, rendered, style
from residual.data.preprocessing import Preprocessing
from residual.errors import UsageError
from residual.files import replace_file

MOST = 64
Array = numpy.ndarray[Any, numpy.dtype[Any]]


def displayed(images: Tensor, preprocessing: Preprocessing) -> Array:
    """uint8 NHWC from normalised float NCHW: the inverse of `Preprocessing.normalise`, cut to 0..255."""
    pixels = images.cpu() * preprocessing.std + preprocessing.mean
    return numpy.asarray((pixels * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())


def draw_sheet(images: Array, labels: Sequence[str], title: str, path: Path) -> None:
    """A sheet of images with a label under each; the first 64 are drawn, and the footer says of how many.

    Raises:
        UsageError: there is no image, or the name ends in neither .png nor .svg.
        StorageError: the disk refused; no part of a picture is left.
    """
    kind = picture_format(path)
    cells = list(zip(images, labels, strict=True))[:MOST]
    if not cells:
        raise UsageError("no image to draw", path, "name at least one image")
    columns = min(8, math.ceil(math.sqrt(len(cells))))
    rows = math.ceil(len(cells) / columns)
    with style(kind):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.35 * max(columns, 4), 1.6 * rows + 0.7), layout="constrained")
        literal(figure.suptitle("", fontsize=11, fontweight="bold"), title, longest=120)
        for axes, (image, label) in zip(figure.subplots(rows, columns, squeeze=False).flat, cells, strict=False):
            pixels = image[..., 0] if image.shape[-1] == 1 else image
            smooth = "nearest" if max(pixels.shape[:2]) < 200 else "antialiased"
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation=smooth)
            literal(axes.text(0.5, -0.04, "", transform=axes.transAxes, ha="center", va="top", fontsize=8), label, 20)
        for axes in figure.axes:
            axes.set_axis_off()
        if len(images) > len(cells):
            figure.supxlabel(f"The first {len(cells)} of {len(images):,} images.", fontsize=9, color=GREY)
        replace_file(path, rendered(figure, kind))
