"""Heads: from the last stage's maps to the features that the classifier reads.

Axes: maps are NCHW, features NC. Sources: He et al. 2015 (Deep Residual Learning), table 1 (global average);
Simonyan & Zisserman 2014 (Very Deep Convolutional Networks), section 2.1 and table 1 (two hidden layers of 4096).
Where what is done follows from the maps, that is a function which tracing by torch.fx takes as one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.models.spec import NetworkSpec

_HIDDEN, SIDE = 4096, 7


class AverageHead(nn.Module):
    """The mean over height and width: (N, C, H, W) -> (N, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = channels

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        return _averaged(maps_NCHW)


class HiddenHead(nn.Module):
    """Two hidden layers on maps of 7x7, to which maps of another size are averaged: (N, C, H, W) -> (N, 4096)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.width = _HIDDEN
        self.hidden1, self.relu1 = nn.Linear(channels * SIDE**2, _HIDDEN), nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.hidden2, self.relu2 = nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU()

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        hidden_NC: Tensor = self.dropout(self.relu1(self.hidden1(_pooled(maps_NCHW).flatten(1))))
        features_NC: Tensor = self.relu2(self.hidden2(hidden_NC))
        return features_NC


@torch.fx.wrap
def _averaged(maps_NCHW: Tensor) -> Tensor:
    if maps_NCHW.is_contiguous(memory_format=torch.channels_last):
        return maps_NCHW.permute(0, 2, 3, 1).mean(dim=(1, 2))  # the same sums; the gradient keeps the layout
    return maps_NCHW.mean(dim=(2, 3))


@torch.fx.wrap
def _pooled(maps_NCHW: Tensor) -> Tensor:
    """Maps averaged to 7x7."""
    if maps_NCHW.shape[2:] == (SIDE, SIDE):
        return maps_NCHW
    if maps_NCHW.device.type == "mps" and any(side % SIDE for side in maps_NCHW.shape[2:]):
        return F.adaptive_avg_pool2d(maps_NCHW.cpu(), SIDE).to(maps_NCHW.device)  # torch has it there for multiples
    return F.adaptive_avg_pool2d(maps_NCHW, SIDE)


def make_head(spec: NetworkSpec) -> AverageHead | HiddenHead:
    channels = spec.outputs[-1]
    return HiddenHead(channels, spec.dropout) if spec.head == "vgg" else AverageHead(channels)
