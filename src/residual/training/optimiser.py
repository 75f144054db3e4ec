"""Stochastic gradient descent with momentum; which tensors decay is a named choice.

v <- m v + (g + d w),  w <- w - r v  (He et al. 2015, sections 3.4 and 4.2: m = .9, d = 1e-4); with
Nesterov's look-ahead w <- w - r (g + d w + m v). Momentum, weights and updates are float32.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

Share = Annotated[float, Field(ge=0, lt=1)]


class OptimiserSettings(BaseModel, frozen=True, extra="forbid"):
    """What a recipe's `[optimiser]` table holds."""

    kind: Literal["sgd"] = "sgd"
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0, le=1, allow_inf_nan=False)
    decay_on: Literal["weights", "all"] = Field(
        "weights", description="convolution and fully connected weights alone, or scales, shifts and biases too"
    )

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> OptimiserSettings:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0; raise momentum or set nesterov to false")
        return self


def make_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.SGD:
    """SGD over the parameters in two groups: those that decay and those that do not."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in network.parameters():
        # Only convolution and fully connected weights have more than one axis.
        (decayed if settings.decay_on == "all" or parameter.ndim > 1 else free).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    device = next(network.parameters()).device.type
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=0.0,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        fused=device in ("cpu", "cuda"),
    )


def set_rate(optimiser: torch.optim.SGD, rate: float, momentum: float) -> None:
    """Give every group the rate and momentum of this step."""
    for group in optimiser.param_groups:
        group["lr"], group["momentum"] = rate, momentum


class OptimiserPart:
    """The momentum of every parameter, by the parameter's name."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.SGD) -> None:
        self._parameters = dict(network.named_parameters())
        self._optimiser = optimiser

    def tensors(self) -> dict[str, Tensor]:
        found = {}
        for name, parameter in self._parameters.items():
            buffer = (
                self._optimiser.state[parameter].get("momentum_buffer") if parameter in self._optimiser.state else None
            )
            if buffer is not None:
                found[name] = buffer
        return found

    def facts(self) -> dict[str, Any]:
        return {}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        for name, stored in tensors.items():
            parameter = self._parameters[name]
            # The buffer takes the parameter's strides, so that the same kernels run as without a restart.
            buffer = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(stored)
            self._optimiser.state[parameter]["momentum_buffer"] = buffer.detach()
