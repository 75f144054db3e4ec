"""Stems: the layers between the image and the first stage.

Axes: images and maps are NCHW. Source: He et al. 2015 (Deep Residual Learning), section 4.2 (one 3x3
convolution with as many filters as the first stage).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from residual.models.shortcuts import Norm
from residual.models.spec import StemKind


class SmallStem(nn.Module):
    """conv3x3-BN-ReLU at full resolution, for small images: (N, c_in, H, W) -> (N, c_out, H, W)."""

    def __init__(self, c_in: int, c_out: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.norm = norm(c_out)
        self.relu = nn.ReLU()

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NCHW: Tensor = self.relu(self.norm(self.conv(images_NCHW)))
        return maps_NCHW


STEMS: Final[Mapping[StemKind, type[SmallStem]]] = {"3x3": SmallStem}
