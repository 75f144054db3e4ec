"""Parameters, multiply-adds, activations and memory of a network, layer by layer, without computing anything.

Axes: shapes are (C, H, W), one image. Multiply-adds are those of convolutions and fully connected layers, a bias and
the product with a gate not counted: what the papers call FLOPs. Parameters count everything that is trained, batch
normalisation too. Activations are output elements. Source: He et al. 2015 (Deep Residual Learning), table 1,
section 4.2 and table 6; activations of convolutions as in Radosavovic et al. 2020 (Designing Network Design Spaces).

Memory of training in float32 is `memory_fixed` (weights, gradients, momentum) and, for every image of the batch,
`memory_per_image`: what the backward pass needs again, each tensor once. That is the input of every convolution,
normalisation and fully connected layer, the output of every ReLU and sigmoid, of max-pooling the input and its
64-bit indices, the factors of a gate, the mask of a dropout. Not in it: the passing gradients of the backward pass,
workspaces of the device's libraries, the running program.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from residual.errors import Fault, check
from residual.models.additions import Addition
from residual.models.by_shape import ByShape
from residual.models.heads import AverageHead
from residual.models.networks import ResidualNetwork, outline
from residual.models.shortcuts import ZeroPadShortcut
from residual.models.spec import NetworkSpec, StrideUnitKind
from residual.models.units import Unit

_FLOAT, _INDEX = 4, 8  # bytes
_KEPT_COPIES = 3  # of every parameter: weight, gradient, momentum


@dataclass(frozen=True)
class LayerCount:
    """One layer with weights; a fully connected layer gives shape (K, 1, 1)."""

    name: str
    kind: str
    shape: tuple[int, int, int]
    parameters: int
    multiply_adds: int

    @property
    def activations(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Counts:
    """The counts of a network for one image, and of its layers in the order in which they compute.

    `activations` are the output elements of convolutions, `activations_total` those of every layer and addition;
    memory is in bytes.
    """

    image_size: tuple[int, int]
    parameters: int
    multiply_adds: int
    weighted_layers: int
    activations: int
    activations_total: int
    memory_fixed: int
    memory_per_image: int
    layers: tuple[LayerCount, ...]

    def memory(self, batch_size: int) -> int:
        """Bytes needed to train with batches of that size, as the head of this file says."""
        return self.memory_fixed + batch_size * self.memory_per_image

    def summary(self) -> dict[str, Any]:
        """The totals, ready for JSON."""
        return {**{k: v for k, v in vars(self).items() if k != "layers"}, "image_size": list(self.image_size)}

    def as_dict(self) -> dict[str, Any]:
        """The totals and the layers, ready for JSON."""
        layers = [
            {**asdict(layer), "shape": list(layer.shape), "activations": layer.activations} for layer in self.layers
        ]
        return {**self.summary(), "layers": layers}


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

    # From the second on, the units of a stage are alike, but for the last where that has the stride: one is counted
    # and stands for all.
    unlike = 3 if spec.stride_unit == "last" else 2
    network = outline(spec.model_copy(update={"depths": tuple(min(depth, unlike) for depth in spec.depths)})).eval()
    tallies = _listen(network)
    with torch.no_grad(), ByShape():
        network(torch.empty(1, spec.channels, height, width, device="meta"))

    found = list(_repeated(spec, tallies))
    layers = [layer for tally in found for layer in tally.layers]
    parameters = sum(layer.parameters for layer in layers)
    return Counts(
        image_size=(height, width),
        parameters=parameters,
        multiply_adds=sum(layer.multiply_adds for layer in layers),
        weighted_layers=spec.weighted_layers,
        activations=sum(layer.activations for layer in layers if layer.kind == "convolution"),
        activations_total=sum(tally.activations for tally in found),
        memory_fixed=_KEPT_COPIES * _FLOAT * parameters,
        memory_per_image=sum(tally.kept for tally in found),
        layers=tuple(layers),
    )


@dataclass
class _Tally:
    """What is counted within the stem, one unit, the head or another part; `kept` in bytes an image."""

    layers: list[LayerCount] = field(default_factory=list)
    activations: int = 0
    kept: int = 0


def _repeated(spec: NetworkSpec, tallies: dict[str, _Tally]) -> Iterator[_Tally]:
    """The tallies of the whole network, from those of the network whose stages have at most two or three units."""
    for part, tally in tallies.items():
        if not part.startswith("stages."):
            yield tally
            continue
        _, stage, place = part.split(".")
        for unit in _places(int(place), spec.depths[int(stage)], spec.stride_unit):
            prefix = f"stages.{stage}.{unit}"
            layers = [replace(layer, name=layer.name.replace(part, prefix, 1)) for layer in tally.layers]
            yield replace(tally, layers=layers)


def _places(place: int, depth: int, stride_unit: StrideUnitKind) -> Sequence[int]:
    """The places in a stage of `depth` units that the unit at `place` of the short stage stands for."""
    late = stride_unit == "last"
    if late and place == 2:
        return (depth - 1,)
    return range(1, max(2, depth - late)) if place == 1 else (place,)


def _listen(network: ResidualNetwork) -> dict[str, _Tally]:
    """Have every layer noted when the network computes, by the part it belongs to, in the order of computing."""
    tallies: dict[str, _Tally] = {}
    # The tensors themselves: while they are held, no other can take their identity.
    held: dict[int, Tensor] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        part = ".".join(name.split(".")[: 3 if name.startswith("stages.") else 1])
        tally = tallies.setdefault(part, _Tally())
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            tally.layers.append(_layer(name, module, output))
        if not isinstance(module, Unit) or module.shortcut is not None:
            tally.activations += output.numel()
        for tensor in _needed(module, inputs, output):
            if id(tensor) not in held:
                held[id(tensor)] = tensor
                tally.kept += _FLOAT * tensor.numel()
        if isinstance(module, nn.MaxPool2d):
            tally.kept += _INDEX * output.numel()
        elif isinstance(module, nn.Dropout):
            tally.kept += _FLOAT * output.numel()

    for name, module in network.named_modules():
        if isinstance(module, nn.Dropout) and module.p == 0:
            continue
        if isinstance(module, nn.BatchNorm2d | nn.ReLU | nn.Dropout):
            _skip(module)
        if isinstance(module, _COMPUTING):
            module.register_forward_hook(partial(note, name))
    return tallies


def _skip(module: nn.Module) -> None:
    """Let a layer that keeps the shape pass its input on, as a new tensor: the meta device takes half of the time to
    find that out.
    """
    module.forward = torch.Tensor.detach


_COMPUTING = (
    nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.Sigmoid, nn.MaxPool2d, nn.AvgPool2d, nn.Dropout,
    ZeroPadShortcut, Addition, AverageHead, Unit,
)  # fmt: skip


def _needed(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Iterator[Tensor]:
    """The maps that the backward pass of a layer reads."""
    if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.MaxPool2d | nn.AvgPool2d):
        yield inputs[0]
    elif isinstance(module, nn.ReLU | nn.Sigmoid):
        yield output
    elif isinstance(module, Addition) and module.gate is not None:
        branch, shortcut, _ = inputs
        yield shortcut.new_empty(shortcut.shape)  # one minus the gate
        yield shortcut
        if module.exclusive:
            yield branch


def _layer(name: str, module: nn.Module, output: Tensor) -> LayerCount:
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
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return LayerCount(name, kind, (channels, height, width), parameters, multiply_adds)
