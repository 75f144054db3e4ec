"""The additive form of residual networks, on units of one stage: x_L = x_l + sum of F(x_i) for i from l to L - 1.

Axes: maps NCHW. Source: He et al. 2016 (Identity Mappings), equations 4 and 5. It is exact where shortcut and what
follows the addition are identities; a figure is the largest violation over the largest value of what was expected.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from residual.models.units import Unit


def branch_of(unit: Unit, maps: Tensor) -> Tensor:
    """F(x): what the branch gives before the addition.

    Raises:
        ValueError: the unit changes dimensions or has no addition, so there is no x beside F.
    """
    shortcut = unit.shortcut
    if shortcut is None or unit.addition is not None:
        raise ValueError("a unit with a plain sum is needed")
    kept: list[Tensor] = []
    hook = unit.get_submodule(unit.branch_end).register_forward_hook(lambda module, inputs, output: kept.append(output))
    try:
        unit(maps)
    finally:
        hook.remove()
    return kept[0]


def states(units: Sequence[Unit], maps: Tensor) -> list[Tensor]:
    """x before the first unit and after each."""
    found = [maps]
    for unit in units:
        found.append(unit(found[-1]))
    return found


@torch.no_grad()
def sum_violation(units: Sequence[Unit], maps: Tensor, first: int = 0, lower: int | None = None) -> float:
    """How far x_L is from x_l + sum of F(x_i), l = `first`, the sum beginning at `lower` (l, unless another is given).

    With another lower limit it is the equation as some print it.
    """
    found = states(units, maps)
    total = found[first].clone()
    for place in range(first if lower is None else lower, len(units)):
        total += branch_of(units[place], found[place])
    return float((found[-1] - total).abs().max() / found[-1].abs().max())


def gradient_violation(units: Sequence[Unit], maps: Tensor) -> float:
    """How far dE/dx_l is from dE/dx_L (1 + d sum F / dx_l), E a fixed linear function of x_L."""
    begun = maps.detach().clone().requires_grad_(True)
    found = states(units, begun)
    weights = torch.cos(torch.arange(found[-1].numel(), dtype=maps.dtype)).view_as(found[-1])
    (whole,) = torch.autograd.grad((found[-1] * weights).sum(), begun, retain_graph=True)
    branches = [branch_of(unit, x) for unit, x in zip(units, found[:-1], strict=True)]
    (through,) = torch.autograd.grad((torch.stack(branches).sum(0) * weights).sum(), begun)
    return float((whole - (weights + through)).abs().max() / whole.abs().max())
