"""Layer responses: the standard deviation of what every 3x3 layer gives, over images, pixels and channels.

Axes: images NCHW. Source: He et al. 2015 (Deep Residual Learning), section 4.2 and figure 7: responses are taken after
batch normalisation and before the nonlinearity and the addition. Where no normalisation follows a convolution (the
orders of pre-activation, networks without it), it is the convolution's own output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from residual.models import ResidualNetwork
from residual.models.units import Unit


@dataclass
class _Sums:
    """Sums in float64 over all values of one layer."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Tensor) -> None:
        values = values.detach().cpu().double()  # no device of Apple has float64
        self.count += values.numel()
        self.total += float(values.sum())
        self.squares += float(values.square().sum())

    @property
    def deviation(self) -> float:
        mean = self.total / self.count
        return float(max(0.0, self.squares / self.count - mean * mean) ** 0.5)


@dataclass(frozen=True)
class Responses:
    """Deviations by layer in the order of computing, the names of the layers, and of each residual unit how large its
    branch is beside what its shortcut carries (deviation over deviation)."""

    layers: Mapping[str, float]
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        return sum(self.layers.values()) / len(self.layers)


def response_points(network: ResidualNetwork) -> dict[str, nn.Module]:
    """By 3x3 convolution of the main path: the module whose output is its response."""
    modules = dict(network.named_modules())
    found: dict[str, nn.Module] = {}
    for name, module in modules.items():
        if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3) or ".shortcut." in name:
            continue
        norm = modules.get(name.replace("conv", "norm"))
        owner = modules.get(name.rpartition(".")[0])
        found[name] = norm if isinstance(norm, nn.BatchNorm2d) and _follows(owner, name) else module
    return found


def _follows(owner: nn.Module | None, conv: str) -> bool:
    """Whether the normalisation of the same number comes right after the convolution, and within the branch."""
    if not isinstance(owner, Unit):
        return True  # a stem: convolution, normalisation, ReLU
    last = conv.rpartition(".")[2]
    return owner.follower(last) == last.replace("conv", "norm")


@torch.inference_mode()
def responses(network: ResidualNetwork, batches: Iterable[Tensor]) -> Responses:
    """The responses in evaluation mode over batches of normalised images."""
    sums: dict[str, _Sums] = {name: _Sums() for name in response_points(network)}
    hooks = [point.register_forward_hook(_adder(sums[name])) for name, point in response_points(network).items()]
    branches: dict[str, tuple[_Sums, _Sums]] = {}
    for name, unit in network.named_modules():
        if isinstance(unit, Unit) and unit.shortcut is not None:
            branches[name] = (_Sums(), _Sums())
            hooks.append(unit.get_submodule(unit.branch_end).register_forward_hook(_adder(branches[name][0])))
            hooks.append(unit.shortcut.register_forward_hook(_adder(branches[name][1])))
    was_training = network.training
    try:
        network.eval()
        for images in batches:
            network(images)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    shares = {name: branch.deviation / max(carried.deviation, 1e-12) for name, (branch, carried) in branches.items()}
    return Responses({name: one.deviation for name, one in sums.items()}, shares)


def _adder(sums: _Sums):  # type: ignore[no-untyped-def]  # torch's own type of a hook
    def add(module: nn.Module, inputs: object, output: Tensor) -> None:
        sums.add(output)

    return add
