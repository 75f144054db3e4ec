"""A deeper network that computes the same: identity layers added to a plain one (He et al. 2015, section 1).

The added layers are Dirac convolutions with a neutral normalisation; ReLU is the identity on what a ReLU gave. So a
deeper network has a solution with no higher training error, and solvers do not find it.
"""

from __future__ import annotations

import torch
from torch import nn

from residual.errors import UsageError
from residual.models import ResidualNetwork, build
from residual.models.units import Unit


@torch.no_grad()
def deepened(network: ResidualNetwork, units: int) -> ResidualNetwork:
    """The network with so many identity units added to the end of every stage, its own weights copied.

    In evaluation mode the answers are those of `network`, but for the rounding of a division by sqrt(1 + eps).

    Raises:
        UsageError: not a plain network of basic units in the original order, where these layers would be no identity.
    """
    spec = network.spec
    if (spec.shortcut, spec.unit, spec.order) != ("none", "basic", "original"):
        raise UsageError(f"{spec.name} is no plain network of basic units", "network", "name one such as plain-20")
    depths = tuple(depth + units for depth in spec.depths)
    layers = 2 * units * len(depths) + spec.weighted_layers
    deep = build(spec.model_copy(update={"depths": depths, "name": f"{spec.name}-as-{layers}"}))
    deep.to(network.classifier.weight)  # its device and type
    deep.load_state_dict(deep.state_dict() | network.state_dict())  # the added units have names that the other lacks
    for stage, depth in zip(deep.stages, spec.depths, strict=True):
        for unit in list(stage.children())[depth:]:
            if isinstance(unit, Unit):
                _neutral(unit)
    return deep.train(network.training)


def _neutral(unit: Unit) -> None:
    for module in unit.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.weight.fill_((1 + module.eps) ** 0.5)  # so that dividing by sqrt(1 + eps) changes nothing
