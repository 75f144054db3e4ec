"""How signals go through a network at its start: variances of what layers give, and of the gradients that come back.

Axes: images NCHW, labels N. Source: He et al. 2015 (Delving Deep into Rectifiers), section 2.2: with Var[w] = 2/n the
variance keeps its size from layer to layer, forward and backward; with 1/n it halves: thirty layers leave 2^-29.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from residual.models import ResidualNetwork


@dataclass(frozen=True)
class Signals:
    """By convolution of the main path, in the order of computing: its name, the variance of its output, the standard
    deviation of the gradient with respect to that output, and the norm of the gradient of its weights."""

    names: tuple[str, ...]
    variances: tuple[float, ...]
    gradients: tuple[float, ...]
    weight_gradients: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The gradient at the first convolution over that at the last; 0 where none came back."""
        return self.gradients[0] / self.gradients[-1] if self.gradients[-1] else 0.0

    @property
    def growth(self) -> float:
        """The last variance over the first."""
        return self.variances[-1] / self.variances[0]


def main_path(network: ResidualNetwork) -> dict[str, nn.Conv2d]:
    """The convolutions from image to classifier, without projections and gates, by name."""
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    return {name: conv for name, conv in convs.items() if ".shortcut." not in name and ".addition." not in name}


def signals(network: ResidualNetwork, images: Tensor, labels: Tensor) -> Signals:
    """One pass forward and back on a batch, in training mode; the network's running statistics are kept as they were.

    Normalised images NCHW float, labels int64 N; the loss is cross-entropy.
    """
    convs = main_path(network)
    outputs: dict[str, Tensor] = {}
    hooks = [conv.register_forward_hook(_keeper(outputs, name)) for name, conv in convs.items()]
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    was_training = network.training
    try:
        network.train()
        network.zero_grad(set_to_none=True)
        cross_entropy(network(images), labels).backward()
    finally:
        for hook in hooks:
            hook.remove()
        network.train(was_training)
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])
    names = tuple(outputs)
    found = Signals(
        names,
        tuple(float(outputs[name].detach().var()) for name in names),
        tuple(_deviation(outputs[name].grad) for name in names),
        tuple(_norm(convs[name].weight.grad) for name in names),
    )
    network.zero_grad(set_to_none=True)
    return found


def _keeper(outputs: dict[str, Tensor], name: str):  # type: ignore[no-untyped-def]  # torch's own type of a hook
    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        output.retain_grad()
        outputs[name] = output

    return keep


def _deviation(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.cpu().double().square().mean().sqrt())


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.cpu().double().norm())


def stack_variances(factor: float, layers: int, width: int, batch: int, generator: Generator) -> list[float]:
    """Var[y_l] of a chain of fully connected ReLU layers, l = 1 .. layers, whose weights have Var[w] = factor / n.

    The chain of the formula Var[y_l] = n/2 Var[w_l] Var[y_(l-1)], in float64; its first layer reads N(0, 1) through
    weights of variance 1/n, since no ReLU comes before it.
    """
    x = torch.randn(batch, width, dtype=torch.float64, generator=generator)
    found = []
    for layer in range(layers):
        spread = math.sqrt((factor if layer else 1.0) / width)
        weights = torch.randn(width, width, dtype=torch.float64, generator=generator) * spread
        y = x @ weights.T
        found.append(float(y.square().mean()))
        x = y.relu()
    return found


def mean_ratio(variances: Sequence[float]) -> float:
    """The geometric mean of Var[y_l] / Var[y_(l-1)]."""
    return float((variances[-1] / variances[0]) ** (1 / (len(variances) - 1)))
