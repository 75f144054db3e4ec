"""Progressive resizing: smaller images early in the run, where the network learns what smaller ones show as well.

A network that averages its last maps takes any size, and half the side costs a quarter. Sources: Howard
2018 (fast.ai's DAWNBench entry); Tan and Le 2021 (EfficientNetV2), section 4. `stages` are pairs (share of
the run, side in pixels) in growing order: side until that share of the steps is done; then full size.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

Stages = tuple[
    tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[int, Field(ge=8, le=4096)]],
    ...,
]


def check_stages(stages: Stages) -> None:
    """Raise ValueError unless shares and sides both grow."""
    for (share, side), (later, larger) in pairwise(stages):
        if later <= share or larger <= side:
            raise ValueError(f"sizes has [{share}, {side}] before [{later}, {larger}]; shares and sides must both grow")


def side_at(stages: Stages, step: int, total: int) -> int | None:
    """The side of the images at a step of `total`; None for full size."""
    for share, side in stages:
        if step < share * total:
            return side
    return None


def shrink(images: Tensor, side: int | None) -> Tensor:
    """Float NCHW with its longer side at `side` (bilinear, antialiased); left alone if it is no larger, or None."""
    height, width = images.shape[2:]
    longer = max(height, width)
    if side is None or side >= longer:
        return images
    size = (max(1, round(height * side / longer)), max(1, round(width * side / longer)))
    return interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
