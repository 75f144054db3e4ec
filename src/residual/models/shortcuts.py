"""Shortcut connections: how a unit's input reaches its sum.

Axes: maps are NCHW. Where stride is 1 and the channels agree, every kind but C is the identity; the kinds differ
at a change of dimension. Sources: [1] He et al. 2015 (Deep Residual Learning), section 3.3 (options A and B) and
section 4.1 (option C, table 3); [2] He et al. 2016 (Identity Mappings), table 1 (C again, as 1x1 convolutions on all
shortcuts); He et al. 2019 (Bag of Tricks), figure 2c (average pooling).
"""

from __future__ import annotations

from typing import assert_never

from torch import Tensor, nn
from torch.nn import functional as F

from residual.models.layers import Layers, sample
from residual.models.spec import ShortcutKind


class ZeroPadShortcut(nn.Module):
    """Option A: every `stride`-th pixel from the top left, and zero channels appended at the END. No weights.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)), c_out >= c_in. With `both_sides` half of the
    zero channels, rounded down, stand in front, as in some published code: the same tensors make another function.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, both_sides: bool = False) -> None:
        super().__init__()
        extra = c_out - c_in
        self.stride, self.front = stride, extra // 2 if both_sides else 0
        self.behind = extra - self.front

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        return F.pad(sample(maps_NCHW, self.stride), (0, 0, 0, 0, self.front, self.behind))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zero_channels={self.front}+{self.behind}"


class ProjectionShortcut(nn.Module):
    """Option B: a 1x1 convolution with stride, then batch normalisation unless the network's projections have none.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, layers: Layers, normalised: bool = True) -> None:
        super().__init__()
        self.conv = layers.conv(c_in, c_out, 1, stride, normalised)
        self.norm = layers.norm(c_out) if normalised else nn.Identity()

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        projected_NCHW: Tensor = self.norm(self.conv(maps_NCHW))
        return projected_NCHW


class PooledShortcut(nn.Module):
    """The average of every stride x stride pixels (of those there are, at an odd edge), then a projection where the
    channels change.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, layers: Layers, normalised: bool = True) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        changes = c_in != c_out
        self.conv = layers.conv(c_in, c_out, 1, normalised=normalised) if changes else nn.Identity()
        self.norm = layers.norm(c_out) if changes and normalised else nn.Identity()

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        pooled_NCHW: Tensor = self.norm(self.conv(self.pool(maps_NCHW)))
        return pooled_NCHW


def make_shortcut(
    kind: ShortcutKind,
    c_in: int,
    c_out: int,
    stride: int,
    layers: Layers,
    normalised: bool = True,
    sampled: bool = False,
) -> nn.Module | None:
    """The shortcut of one unit, or None for a plain network, which has no addition.

    Args:
        sampled: where the size changes and the channels do not, option B takes every `stride`-th pixel and projects
            nothing, as the last unit of a stage does in keras.applications.resnet.
    """
    if kind == "none":
        return None
    if stride == 1 and c_in == c_out and kind != "C":
        return nn.Identity()
    if sampled and kind == "B" and c_in == c_out:
        return ZeroPadShortcut(c_in, c_out, stride)
    match kind:
        case "A":
            return ZeroPadShortcut(c_in, c_out, stride)
        case "A-both":
            return ZeroPadShortcut(c_in, c_out, stride, both_sides=True)
        case "B" | "C":
            return ProjectionShortcut(c_in, c_out, stride, layers, normalised)
        case "avgpool":
            return PooledShortcut(c_in, c_out, stride, layers, normalised)
    assert_never(kind)
