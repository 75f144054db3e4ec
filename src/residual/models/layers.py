"""The two kinds of layer every part of a network is made of, as a spec wants them.

Axes: maps are NCHW. A convolution is padded so that stride alone decides the size: ceil(H / stride).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.models.spec import BiasKind, NetworkSpec


@dataclass(frozen=True)
class Layers:
    """Makes convolutions and normalisations; `bias` says which convolutions have one."""

    eps: float = 1e-5
    momentum: float = 0.1
    normalise: bool = True
    bias: BiasKind = False
    group: int = 0

    @staticmethod
    def of(spec: NetworkSpec) -> Layers:
        return Layers(spec.norm_eps, spec.norm_momentum, spec.norm == "batch", spec.conv_bias, spec.norm_group)

    def conv(self, c_in: int, c_out: int, size: int, stride: int = 1, normalised: bool = True) -> nn.Conv2d:
        """A convolution; `normalised` says that a normalisation follows at once."""
        bias = not (normalised and self.normalise) if self.bias == "unnormalised" else self.bias
        return convolution(c_in, c_out, size, stride, bias)

    def norm(self, channels: int) -> nn.Module:
        """Batch normalisation; without normalisation a layer that does nothing, so that names stay."""
        if not self.normalise:
            return nn.Identity()
        if self.group:
            return GroupedBatchNorm(channels, self.eps, self.momentum, self.group)
        return nn.BatchNorm2d(channels, eps=self.eps, momentum=self.momentum)


# oneDNN (issue 6035; torch 2.13 has it) writes beyond a buffer when it computes the weights' gradient of a 1x1
# convolution with stride over channels-last maps of fewer channels than its registers take: 8 with AVX2, 16 with
# AVX-512. The gradient is then wrong, or the process hangs or dies.
_BLOCK = 16


def sample(maps_NCHW: Tensor, stride: int) -> Tensor:
    """Every `stride`-th pixel from the top left: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""
    # A mean over one pixel takes it as a slice does, but its gradient keeps the maps' layout: that of a slice is
    # contiguous, and adding it to one that is channels-last is many times slower.
    return F.avg_pool2d(maps_NCHW, 1, stride) if stride > 1 else maps_NCHW


class SampledConv2d(nn.Conv2d):
    """A 1x1 convolution with stride, computed as one without of the pixels that the stride leaves: the same function.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)).
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(sample(input, self.stride[0]), self.weight, self.bias)


def convolution(c_in: int, c_out: int, size: int, stride: int, bias: bool) -> nn.Conv2d:
    """A convolution, (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride))."""
    kind = SampledConv2d if size == 1 and stride > 1 and c_in < _BLOCK else nn.Conv2d
    return kind(c_in, c_out, size, stride, padding=size // 2, bias=bias)


class GroupedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation that sees `group` images at a time in training: "ghost" batches, or one GPU's share.

    He et al. 2015, section 4.2, train 128 images on two GPUs, so that each normalises 64; Hoffer et al. 2017
    (Train longer, generalize better), algorithm 1. The running statistics take the mean over the groups, once a
    step. (N, C, H, W) -> the same; in evaluation it is plain batch normalisation.
    """

    def __init__(self, channels: int, eps: float, momentum: float, group: int) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.group = group

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(input) <= self.group:
            return super().forward(input)
        tracked_mean, tracked_variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        made, means, variances = [], [], []
        for part in input.split(self.group):
            mean, variance = torch.zeros_like(tracked_mean), torch.zeros_like(tracked_variance)
            made.append(F.batch_norm(part, mean, variance, self.weight, self.bias, True, 1.0, self.eps))
            means.append(mean)
            variances.append(variance)
        with torch.no_grad():
            count = self.get_buffer("num_batches_tracked").add_(1)
            share = self.momentum if self.momentum is not None else 1 / int(count)
            tracked_mean.lerp_(torch.stack(means).mean(0), share)
            tracked_variance.lerp_(torch.stack(variances).mean(0), share)
        return torch.cat(made)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, group={self.group}"
