"""Stems: the layers between the image and the first stage, and which of them suits an image's size.

Axes: images and maps are NCHW. Sources: [1] He et al. 2015 (Deep Residual Learning), table 1 (7x7 and max-pool) and
section 4.2 (3x3); He et al. 2019 (Bag of Tricks), figure 2b (three 3x3). The 3x3 with stride 2 is ours, for
images between those of CIFAR and of ImageNet. A stem that leaves the first activation to the first unit pools what is
not activated, so that the padding counts: keras.applications.resnet pads with zeros, timm.models.resnetv2 does not.
"""

from __future__ import annotations

from typing import assert_never

from torch import Tensor, nn

from residual.models.layers import Layers
from residual.models.spec import NetworkSpec, PoolPaddingKind, StemKind

SMALL, MIDDLE = 48, 112
"""Sides in pixels up to which `auto` chooses the 3x3 stem with stride 1, and with stride 2."""


class Stem(nn.Module):
    """conv-BN-ReLU: (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)); `pool` halves once more.

    Without `activates` it is the convolution alone.
    """

    def __init__(
        self, c_in: int, c_out: int, size: int, stride: int, pool: nn.Module, layers: Layers, activates: bool = True
    ) -> None:
        super().__init__()
        self.conv = layers.conv(c_in, c_out, size, stride, normalised=activates)
        self.norm = layers.norm(c_out) if activates else nn.Identity()
        self.relu = nn.ReLU() if activates else nn.Identity()
        self.pool = pool

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NCHW: Tensor = self.pool(self.relu(self.norm(self.conv(images_NCHW))))
        return maps_NCHW


class ThreeConvStem(nn.Module):
    """Three 3x3 conv-BN-ReLU, the first with stride 2 and the first two with half the width; then max-pool.

    Without `activates` the third is the convolution alone.
    """

    def __init__(self, c_in: int, c_out: int, pool: nn.Module, layers: Layers, activates: bool = True) -> None:
        super().__init__()
        half = max(1, c_out // 2)
        self.conv1, self.norm1, self.relu1 = layers.conv(c_in, half, 3, 2), layers.norm(half), nn.ReLU()
        self.conv2, self.norm2, self.relu2 = layers.conv(half, half, 3), layers.norm(half), nn.ReLU()
        self.conv3 = layers.conv(half, c_out, 3, normalised=activates)
        self.norm3 = layers.norm(c_out) if activates else nn.Identity()
        self.relu3 = nn.ReLU() if activates else nn.Identity()
        self.pool = pool

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NCHW: Tensor = self.relu1(self.norm1(self.conv1(images_NCHW)))
        maps_NCHW = self.relu2(self.norm2(self.conv2(maps_NCHW)))
        maps_NCHW = self.relu3(self.norm3(self.conv3(maps_NCHW)))
        pooled_NCHW: Tensor = self.pool(maps_NCHW)
        return pooled_NCHW


def make_stem(
    kind: StemKind,
    c_in: int,
    c_out: int,
    layers: Layers,
    activates: bool = True,
    pool_padding: PoolPaddingKind = "lowest",
) -> nn.Module:
    """The stem of that kind.

    Args:
        activates: whether it ends with normalisation and ReLU, before it pools; else the first unit begins with them.
        pool_padding: with what the border is filled where it pools.
    """
    match kind:
        case "none":
            return nn.Identity()
        case "3x3":
            return Stem(c_in, c_out, 3, 1, nn.Identity(), layers, activates)
        case "3x3/2":
            return Stem(c_in, c_out, 3, 2, nn.Identity(), layers, activates)
        case "7x7":
            return Stem(c_in, c_out, 7, 2, _pool(pool_padding), layers, activates)
        case "3-conv":
            return ThreeConvStem(c_in, c_out, _pool(pool_padding), layers, activates)
    assert_never(kind)


def stem_of(spec: NetworkSpec, layers: Layers) -> nn.Module:
    """The stem of a network."""
    activates = spec.first_activation == "stem"
    return make_stem(spec.stem, spec.channels, spec.widths[0], layers, activates, spec.pool_padding)


def _pool(padding: PoolPaddingKind) -> nn.Module:
    if padding == "zero":
        return nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, 2))
    return nn.MaxPool2d(3, 2, padding=1)


def stem_for(image_size: tuple[int, int]) -> StemKind:
    """The stem for images of (height, width) pixels, by the shorter side: the maps of the last stage stay large."""
    side = min(image_size)
    return "3x3" if side <= SMALL else "3x3/2" if side <= MIDDLE else "7x7"


def describe_stem(kind: StemKind) -> str:
    """The stem in words."""
    words: dict[StemKind, str] = {
        "none": "no stem",
        "3x3": "3x3 stem, stride 1, no pooling",
        "3x3/2": "3x3 stem, stride 2, no pooling",
        "7x7": "7x7 stem, stride 2, max-pooling",
        "3-conv": "stem of three 3x3, stride 2, max-pooling",
    }
    return words[kind]
