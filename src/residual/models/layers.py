"""The two kinds of layer every part of a network is made of, as a spec wants them.

Axes: maps are NCHW. A convolution is padded so that stride alone decides the size: ceil(H / stride).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from residual.models.spec import NetworkSpec


@dataclass(frozen=True)
class Layers:
    """Makes convolutions and normalisations; `bias` is whether convolutions have one."""

    eps: float = 1e-5
    momentum: float = 0.1
    normalise: bool = True
    bias: bool = False

    @staticmethod
    def of(spec: NetworkSpec) -> Layers:
        return Layers(spec.norm_eps, spec.norm_momentum, spec.norm == "batch", spec.conv_bias)

    def conv(self, c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=self.bias)

    def norm(self, channels: int) -> nn.Module:
        """Batch normalisation; without normalisation a layer that does nothing, so that names stay."""
        if not self.normalise:
            return nn.Identity()
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)
