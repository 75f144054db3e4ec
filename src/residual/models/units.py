"""Units: the few layers that a shortcut spans. A network is a stem, stages of units, and a classifier.

Axes: maps are NCHW. Source: He et al. 2015 (Deep Residual Learning), figure 2 and section 3.4 (batch
normalisation after each convolution and before the activation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from residual.models.shortcuts import Norm
from residual.models.spec import UnitKind


class BasicUnit(nn.Module):
    """conv3x3(stride)-BN-ReLU-conv3x3-BN, plus the shortcut, ReLU; without the addition when `shortcut` is None.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)). Nothing is done in place, so a hook may
    keep what any layer gave; in place would save some time and memory. `relu1` and `relu2` are
    two modules so that each can be hooked or replaced alone.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, shortcut: nn.Module | None, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.norm1 = norm(c_out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm2 = norm(c_out)
        self.shortcut = shortcut
        self.relu2 = nn.ReLU()

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The normalisation that ends the residual branch, whose scale `zero_last_scale` sets to zero."""
        return self.norm2

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        branch_NCHW: Tensor = self.relu1(self.norm1(self.conv1(maps_NCHW)))
        branch_NCHW = self.norm2(self.conv2(branch_NCHW))
        if self.shortcut is not None:
            branch_NCHW = branch_NCHW + self.shortcut(maps_NCHW)
        output_NCHW: Tensor = self.relu2(branch_NCHW)
        return output_NCHW


UNITS: Final[Mapping[UnitKind, type[BasicUnit]]] = {"basic": BasicUnit}
