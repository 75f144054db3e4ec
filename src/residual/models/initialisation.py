"""Initial weights: each tensor drawn at its own address, so none depends on the order of construction.

Axes: convolution weights are (c_out, c_in, k, k). With fan_in = k*k*c_in and fan_out = k*k*c_out a convolution, or a
hidden layer, is drawn from N(0, d), d = sqrt(2 / fan_in) ("he-fan-in"), sqrt(2 / fan_out) ("he-fan-out"), sqrt(1 /
fan_in) ("lecun") or sqrt(2 / (fan_in + fan_out)) ("xavier"). The classifier is drawn with the same words, or from
N(0, 0.01), or is zero. Biases and shifts start at 0, scales at 1, a gate's bias as the spec says.
Sources: He et al. 2015 (Delving Deep into Rectifiers), section 2.2, equations 10 and 14, where sqrt(1 / fan_in) is the
control of the 30-layer experiment; Glorot & Bengio 2010, equation 12; Krizhevsky et al. 2012, section 5 (0.01);
the last scale of a branch at zero: Goyal et al. 2017 (Accurate, Large Minibatch SGD), section 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol, assert_never

import torch
from torch import Tensor, nn

from residual.chance import stream
from residual.models.additions import Addition
from residual.models.spec import ClassifierInitialisationKind, InitialisationKind, NetworkSpec
from residual.models.units import Unit


class Network(Protocol):
    """What `initialise` needs of a network: its spec, its classifier, and its modules by name."""

    spec: NetworkSpec
    classifier: nn.Linear

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...


@torch.no_grad()
def initialise(network: Network, seed: int) -> None:
    """Set every parameter and every buffer of `network`, wherever it lies, to its value at the start of a run."""
    spec = network.spec
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            is_classifier = module is network.classifier
            kind = spec.classifier_initialisation if is_classifier else spec.initialisation
            _draw(module.weight, deviation(module.weight, kind), seed, f"{name}.weight")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()  # scale 1, shift 0, and the running statistics of a new layer
    for _, module in network.named_modules():
        if isinstance(module, Addition) and module.gate is not None and module.gate.bias is not None:
            nn.init.constant_(module.gate.bias, spec.gate_bias)
        if isinstance(module, Unit) and module.last_norm is not None and spec.zero_last_scale:
            nn.init.zeros_(module.last_norm.weight)


def deviation(weight: Tensor, kind: InitialisationKind | ClassifierInitialisationKind) -> float:
    """The standard deviation that `kind` gives to a weight of that shape."""
    c_out, c_in = weight.shape[:2]
    area = math.prod(weight.shape[2:])
    match kind:
        case "he-fan-in" | "he":
            return math.sqrt(2 / (area * c_in))
        case "he-fan-out":
            return math.sqrt(2 / (area * c_out))
        case "lecun":
            return math.sqrt(1 / (area * c_in))
        case "xavier":
            return math.sqrt(2 / (area * (c_in + c_out)))
        case "normal-0.01":
            return 0.01
        case "zero":
            return 0.0
    assert_never(kind)


def _draw(weight: Tensor, spread: float, seed: int, name: str) -> None:
    # Drawn contiguous on the CPU, then copied: the device and the memory format change no number.
    draw = torch.empty(weight.shape, dtype=torch.float32)
    weight.copy_(draw.normal_(0, spread, generator=stream(seed, "initialise", name)))
