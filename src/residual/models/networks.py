"""The network: a stem, stages of units, a global average, a fully connected layer.

Axes: images and maps are NCHW, pooled features NC, logits NK (K classes). Images are floating point, already
normalised. Source: He et al. 2015 (Deep Residual Learning), sections 3.3 and 4.2.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from residual.models.initialisation import initialise
from residual.models.shortcuts import Norm, make_shortcut
from residual.models.spec import NetworkSpec
from residual.models.stems import STEMS
from residual.models.units import UNITS


class ResidualNetwork(nn.Module):
    """The network of a spec, with torch's own initial weights; `build` gives it those of the paper."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        norm: Norm = partial(nn.BatchNorm2d, eps=spec.norm_eps, momentum=spec.norm_momentum)
        self.stem = STEMS[spec.stem](spec.channels, spec.widths[0], norm)
        # The first stage keeps the stem's width and size; every later one halves the maps in its first unit.
        changes = [(spec.widths[0], spec.widths[0], 1), *((a, b, 2) for a, b in pairwise(spec.widths))]
        self.stages = nn.ModuleList(
            _stage(spec, depth, *change, norm) for depth, change in zip(spec.depths, changes, strict=True)
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(spec.widths[-1], spec.classes)

    def features(self, images_NCHW: Tensor) -> list[Tensor]:
        """The maps (N, widths[s], H / 2^s, W / 2^s, rounded up) that each stage s gives, in order."""
        maps_NCHW: Tensor = self.stem(images_NCHW)
        features = []
        for stage in self.stages:
            maps_NCHW = stage(maps_NCHW)
            features.append(maps_NCHW)
        return features

    def embed(self, images_NCHW: Tensor) -> Tensor:
        """The last stage's maps averaged over height and width: (N, widths[-1])."""
        return self.features(images_NCHW)[-1].mean(dim=(2, 3))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """The logits (N, classes), before the softmax."""
        logits_NK: Tensor = self.classifier(self.dropout(self.embed(images_NCHW)))
        return logits_NK


def _stage(spec: NetworkSpec, depth: int, c_in: int, c_out: int, stride: int, norm: Norm) -> nn.Sequential:
    """`depth` units; only the first changes the channels and the size."""
    changes = [(c_in, stride), *[(c_out, 1)] * (depth - 1)]
    return nn.Sequential(
        *(UNITS[spec.unit](c, c_out, s, make_shortcut(spec.shortcut, c, c_out, s, norm), norm) for c, s in changes)
    )


def outline(spec: NetworkSpec) -> ResidualNetwork:
    """The network on the meta device: shapes without storage, in no time and no memory."""
    with torch.device("meta"):
        return ResidualNetwork(spec).float()


def build(spec: NetworkSpec, seed: int = 0) -> ResidualNetwork:
    """The network with the initial weights of that seed: on the CPU, float32, in training mode.

    Same spec, same seed: same weights, whatever was drawn before. Leaves torch's global generator as it was.
    """
    network = outline(spec).to_empty(device="cpu")
    initialise(network, seed)
    return network
