"""How a unit's branch and shortcut are put together, where that is more than a sum.

Axes: maps are NCHW. Source: He et al. 2016 (Identity Mappings), section 3.1, figure 2 and table 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from residual.models.layers import convolution
from residual.models.spec import NetworkSpec


class Addition(nn.Module):
    """branch_scale * g * branch + dropout(shortcut_scale * (1 - g) * shortcut).

    g = sigmoid(1x1 convolution of what the shortcut reads, with bias). An exclusive gate scales both; a
    shortcut-only gate leaves the branch alone; without a gate both factors are 1. The gate's convolution has the
    unit's stride and a channel for each of the branch, so it fits where the dimensions change.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, spec: NetworkSpec) -> None:
        super().__init__()
        self.branch_scale, self.shortcut_scale = spec.branch_scale, spec.shortcut_scale
        self.exclusive = spec.gate == "exclusive"
        self.gate = convolution(c_in, c_out, 1, stride, bias=True) if spec.gate != "none" else None
        self.sigmoid = nn.Sigmoid()
        self.dropout = nn.Dropout(spec.shortcut_dropout)

    def forward(self, branch_NCHW: Tensor, shortcut_NCHW: Tensor, source_NCHW: Tensor) -> Tensor:
        if self.gate is not None:
            gate_NCHW: Tensor = self.sigmoid(self.gate(source_NCHW))
            shortcut_NCHW = (1 - gate_NCHW) * shortcut_NCHW
            if self.exclusive:
                branch_NCHW = gate_NCHW * branch_NCHW
        if self.shortcut_scale != 1:
            shortcut_NCHW = self.shortcut_scale * shortcut_NCHW
        if self.branch_scale != 1:
            branch_NCHW = self.branch_scale * branch_NCHW
        return torch.add(branch_NCHW, self.dropout(shortcut_NCHW))

    def extra_repr(self) -> str:
        return f"branch_scale={self.branch_scale}, shortcut_scale={self.shortcut_scale}, exclusive={self.exclusive}"


class StochasticDepth(nn.Module):
    """In training leaves out the branch of an image with this chance, and scales those it keeps so that the mean stays.

    Huang et al. 2016 (Deep Networks with Stochastic Depth), section 3, drop the branch of a whole batch and scale when
    they test; by image and scaled at once is what timm and torchvision do.
    """

    def __init__(self, chance: float) -> None:
        super().__init__()
        self.chance = chance

    def forward(self, branch_NCHW: Tensor) -> Tensor:
        if not self.training:
            return branch_NCHW
        kept_N111 = branch_NCHW.new_empty(branch_NCHW.shape[0], 1, 1, 1).bernoulli_(1 - self.chance)
        return branch_NCHW * kept_N111.div_(1 - self.chance)

    def extra_repr(self) -> str:
        return f"chance={self.chance:g}"


def make_addition(c_in: int, c_out: int, stride: int, spec: NetworkSpec) -> Addition | None:
    """What joins branch and shortcut; None for their plain sum."""
    plain = (spec.branch_scale, spec.shortcut_scale, spec.gate, spec.shortcut_dropout) == (1, 1, "none", 0)
    return None if plain else Addition(c_in, c_out, stride, spec)
