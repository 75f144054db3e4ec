"""Parameters and multiply-adds of a network, layer by layer, without computing anything.

Axes: shapes are (C, H, W), one image. Multiply-adds are those of convolutions and fully connected layers, a
bias not counted: what the papers call FLOPs. Parameters count everything that is trained, batch normalisation
too. Source: He et al. 2015 (Deep Residual Learning), table 1, section 4.2 and table 6.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from residual.errors import Fault, check
from residual.models.networks import outline
from residual.models.spec import NetworkSpec


@dataclass(frozen=True)
class LayerCount:
    """One layer with weights; a fully connected layer gives shape (K, 1, 1)."""

    name: str
    kind: str
    shape: tuple[int, int, int]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Counts:
    """The counts of a network for one image, and of its layers in the order in which they compute."""

    parameters: int
    multiply_adds: int
    weighted_layers: int
    layers: tuple[LayerCount, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as numbers, strings, lists and dictionaries, ready for JSON."""
        layers = [{**asdict(layer), "shape": list(layer.shape)} for layer in self.layers]
        return {
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "weighted_layers": self.weighted_layers,
            "layers": layers,
        }


def count(spec: NetworkSpec, image_size: int | tuple[int, int]) -> Counts:
    """Count the network of `spec` on images of a side, or of (height, width), in pixels.

    Raises `UsageError` when an image is too small to leave a map.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    sides = {"height": height, "width": width}
    faults = [
        Fault(side, pixels, "an image has at least 1 pixel a side") for side, pixels in sides.items() if pixels < 1
    ]
    check(f"images of {height}x{width} are too small", faults, spec.name)

    network = outline(spec).eval()
    layers: list[LayerCount] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d | nn.ReLU):
            _skip(module)
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.register_forward_hook(partial(_record, layers, name))
    with torch.inference_mode():
        network(torch.empty(1, spec.channels, height, width, device="meta"))
    return Counts(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        weighted_layers=spec.weighted_layers,
        layers=tuple(layers),
    )


def _skip(module: nn.Module) -> None:
    """Let a layer that keeps the shape pass its input on: the meta device takes half of the time to find that out."""
    module.forward = lambda maps_NCHW: maps_NCHW


def _record(layers: list[LayerCount], name: str, module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
    channels, height, width = (*output.shape[1:], 1, 1)[:3]
    # Each output value is one dot product with the weights of its filter.
    multiply_adds = 0
    kind = "batch norm"
    if isinstance(module, nn.Conv2d):
        kind = "convolution"
        multiply_adds = module.weight.numel() * height * width
    elif isinstance(module, nn.Linear):
        kind = "fully connected"
        multiply_adds = module.weight.numel()
    parameters = sum(math.prod(parameter.shape) for parameter in module.parameters())
    layers.append(LayerCount(name, kind, (channels, height, width), parameters, multiply_adds))
