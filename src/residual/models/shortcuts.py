"""Shortcut connections: how a unit's input reaches its sum.

Axes: maps are NCHW. Where stride is 1 and the channels agree, every kind is the identity; the kinds differ at
a change of dimension. Source: He et al. 2015 (Deep Residual Learning), section 3.3 (options A and B) and
section 4.1 (table 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from torch import Tensor, nn
from torch.nn import functional as F

from residual.models.spec import ShortcutKind

Norm = Callable[[int], nn.BatchNorm2d]
"""Makes the batch normalisation of so many channels."""


class ZeroPadShortcut(nn.Module):
    """Option A: every `stride`-th pixel from the top left, and zero channels appended at the END. No weights.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)), c_out >= c_in. Some published code puts half
    of the zero channels in front: the same tensors then make another function.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, c_out - c_in

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        sampled_NCHW = maps_NCHW[:, :, :: self.stride, :: self.stride]
        return F.pad(sampled_NCHW, (0, 0, 0, 0, 0, self.extra))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zero_channels={self.extra}"


class ProjectionShortcut(nn.Module):
    """Option B: a 1x1 convolution with stride and without bias, then batch normalisation.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
        self.norm = norm(c_out)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        projected_NCHW: Tensor = self.norm(self.conv(maps_NCHW))
        return projected_NCHW


def make_shortcut(kind: ShortcutKind, c_in: int, c_out: int, stride: int, norm: Norm) -> nn.Module | None:
    """The shortcut of one unit, or None for a plain network, which has no addition."""
    if kind == "none":
        return None
    if stride == 1 and c_in == c_out:
        return nn.Identity()
    if kind == "A":
        return ZeroPadShortcut(c_in, c_out, stride)
    if kind == "B":
        return ProjectionShortcut(c_in, c_out, stride, norm)
    assert_never(kind)
