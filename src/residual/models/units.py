"""Units: the few layers that a shortcut spans. A network is a stem, stages of units, and a classifier.

Axes: maps are NCHW. Sources: [1] He et al. 2015 (Deep Residual Learning), figures 2 and 5 (basic, bottleneck);
[2] He et al. 2016 (Identity Mappings), figure 4 (the five orders), table 3 (one layer) and the appendix (first and
last unit, changes of dimension).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from torch import Tensor, nn

from residual.models.additions import StochasticDepth, make_addition
from residual.models.layers import Layers
from residual.models.shortcuts import make_shortcut
from residual.models.spec import EXPANSION, NetworkSpec, OrderKind, UnitKind

SIZES: Final[Mapping[UnitKind, tuple[int, ...]]] = {"basic": (3, 3), "bottleneck": (1, 3, 1), "1layer": (3,)}
"""The convolutions of a branch, by the side of their filters."""

# What stands around every convolution (c) of the branch, and around the last, and after the addition (+):
# n a normalisation, r a ReLU.
_ORDERS: Final[Mapping[OrderKind, tuple[str, str, str]]] = {
    "original": ("cnr", "cn", "r"),
    "bn-after-addition": ("cnr", "c", "nr"),
    "relu-before-addition": ("cnr", "cnr", ""),
    "relu-only-pre-activation": ("rcn", "rcn", ""),
    "full-pre-activation": ("nrc", "nrc", ""),
}
_NAMES: Final = {"c": "conv", "n": "norm", "r": "relu"}


class Unit(nn.Module):
    """One unit of any form and order; without the addition when the network is plain.

    (N, c_in, H, W) -> (N, c_out, ceil(H / stride), ceil(W / stride)). The layers are named conv1, norm1, relu1, ...
    in the order in which they compute; each is a module of its own and none works in place, so that any can be
    hooked. With a pre-activation order, `first` says that the stem has done the first activation, and where the
    dimensions change the shortcut reads the activated maps too; but not the last unit of a stage where that has the
    stride, which carries on every other pixel of what it got. `depth` is the unit's number over that of all units,
    with which its chance of `stochastic_depth` grows.
    """

    def __init__(
        self, c_in: int, width: int, stride: int, spec: NetworkSpec, first: bool = False, depth: float = 1.0
    ) -> None:
        super().__init__()
        c_out = width * EXPANSION[spec.unit]
        layers = Layers.of(spec)
        before, branch, after = _steps(spec.unit, spec.order)
        self._before, self._branch, self._after = () if first else before, branch, after
        convs = iter(_convolutions(spec, c_in, width, stride, layers, branch))
        channels = c_in
        for name in (*self._before, *branch):
            channels = self._make(name, channels, convs, layers)
        late = spec.stride_unit == "last"
        self.shortcut = make_shortcut(spec.shortcut, c_in, c_out, stride, layers, spec.projection_norm, sampled=late)
        self.addition = make_addition(c_in, c_out, stride, spec)
        self.skipping = StochasticDepth(spec.stochastic_depth * depth) if spec.stochastic_depth else None
        for name in after:
            self._make(name, c_out, convs, layers)
        self._shared = c_in != c_out or (stride != 1 and not late)
        self._last = branch[-1]

    def _make(self, name: str, channels: int, convs: Iterator[nn.Conv2d], layers: Layers) -> int:
        """Make the layer of that name for so many channels; gives the channels that come out of it."""
        if name.startswith("conv"):
            conv = next(convs)
            channels = conv.out_channels
            self.add_module(name, conv)
        else:
            self.add_module(name, layers.norm(channels) if name.startswith("norm") else nn.ReLU())
        return channels

    @property
    def branch_end(self) -> str:
        """The name of the layer whose output is F(x), what the branch gives to the addition."""
        return self._last

    def follower(self, name: str) -> str | None:
        """The layer of the branch that reads what the layer of that name gives; None for the last."""
        names = (*self._before, *self._branch)
        place = names.index(name) + 1
        return names[place] if place < len(names) else None

    @property
    def last_norm(self) -> nn.BatchNorm2d | None:
        """The normalisation that ends the branch, which `zero_last_scale` is about; None where it ends otherwise."""
        found = self.get_submodule(self._last)
        return found if isinstance(found, nn.BatchNorm2d) else None

    def _run(self, names: tuple[str, ...], maps_NCHW: Tensor) -> Tensor:
        for name in names:
            maps_NCHW = self._modules[name](maps_NCHW)  # type: ignore[misc]
        return maps_NCHW

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        activated_NCHW = self._run(self._before, maps_NCHW)
        branch_NCHW = self._run(self._branch, activated_NCHW)
        if self.skipping is not None:
            branch_NCHW = self.skipping(branch_NCHW)
        if self.shortcut is not None:
            source_NCHW = activated_NCHW if self._shared else maps_NCHW
            carried_NCHW: Tensor = self.shortcut(source_NCHW)
            if self.addition is None:
                branch_NCHW = branch_NCHW + carried_NCHW
            else:
                branch_NCHW = self.addition(branch_NCHW, carried_NCHW, source_NCHW)
        return self._run(self._after, branch_NCHW)


def _steps(unit: UnitKind, order: OrderKind) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The names of the layers before the first convolution, of the rest of the branch, and after the addition."""
    every, last, after = _ORDERS[order]
    count = len(SIZES[unit])
    names = [f"{_NAMES[step]}{i}" for i in range(1, count) for step in every]
    names += [f"{_NAMES[step]}{count}" for step in last]
    start = names.index("conv1")
    return tuple(names[:start]), tuple(names[start:]), tuple(f"{_NAMES[step]}{count}" for step in after)


def _convolutions(
    spec: NetworkSpec, c_in: int, width: int, stride: int, layers: Layers, branch: Sequence[str]
) -> list[nn.Conv2d]:
    """The branch's convolutions; a bottleneck has its stride in the first 1x1 or in the 3x3."""
    sizes = SIZES[spec.unit]
    strided = sizes.index(3) if spec.stride == "3x3" else 0
    channels = [c_in, *[width] * (len(sizes) - 1), width * EXPANSION[spec.unit]]
    normalised = [after.startswith("norm") for name, after in pairwise((*branch, "")) if name.startswith("conv")]
    return [
        layers.conv(channels[i], channels[i + 1], size, stride if i == strided else 1, normalised[i])
        for i, size in enumerate(sizes)
    ]
