"""Initial weights: each tensor drawn at its own address, so none depends on the order of construction.

Axes: convolution weights are (c_out, c_in, k, k). A convolution is drawn from N(0, sqrt(2 / fan)) with fan
k*k*c_in ("he-fan-in") or k*k*c_out ("he-fan-out"), the classifier from N(0, sqrt(1 / fan_in)) with bias 0;
scales start at 1, shifts at 0. Source: He et al. 2015 (Delving Deep into Rectifiers), section 2.2, equations
10 and 14; the last scale of a branch at zero: Goyal et al. 2017 (Accurate, Large Minibatch SGD), section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from residual.chance import stream
from residual.models.spec import InitialisationKind, NetworkSpec
from residual.models.units import BasicUnit


class Network(Protocol):
    """What `initialise` needs of a network: its spec, and its modules by name."""

    spec: NetworkSpec

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...


@torch.no_grad()
def initialise(network: Network, seed: int) -> None:
    """Set every parameter and every buffer of `network`, wherever it lies, to its value at the start of a run."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            deviation = math.sqrt(2 / _fan(module, network.spec.initialisation))
            _draw(module.weight, deviation, seed, f"{name}.weight")
        elif isinstance(module, nn.Linear):
            _draw(module.weight, math.sqrt(1 / module.in_features), seed, f"{name}.weight")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # scale 1, shift 0, and the running statistics of a new layer
    if network.spec.zero_last_scale:
        for _, module in network.named_modules():
            if isinstance(module, BasicUnit):
                nn.init.zeros_(module.last_norm.weight)


def _fan(conv: nn.Conv2d, kind: InitialisationKind) -> int:
    channels = conv.in_channels if kind == "he-fan-in" else conv.out_channels
    return math.prod(conv.kernel_size) * channels


def _draw(weight: Tensor, deviation: float, seed: int, name: str) -> None:
    # Drawn contiguous on the CPU, then copied: the device and the memory format change no number.
    draw = torch.empty(weight.shape, dtype=torch.float32)
    weight.copy_(draw.normal_(0, deviation, generator=stream(seed, "initialise", name)))
