"""The optimisers, and which tensors decay, each a named choice.

sgd: v <- m v + (g + d w),  w <- w - r v  (He et al. 2015, sections 3.4 and 4.2: m = .9, d = 1e-4); with
Nesterov's look-ahead w <- w - r (g + d w + m v). adam: Kingma and Ba 2015, algorithm 1, with decay added to the
gradient; adamw: Loshchilov and Hutter 2019, algorithm 2, w <- w - r d w beside the step. Their first moment
takes the recipe's momentum. Weights, moments and updates are float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

Share = Annotated[float, Field(ge=0, lt=1)]


class OptimiserSettings(BaseModel, frozen=True, extra="forbid"):
    """What a recipe's `[optimiser]` table holds."""

    kind: Literal["sgd", "adam", "adamw"] = Field("sgd", description="adamw: weight decay decoupled from gradients")
    momentum: Share = Field(0.9, description="momentum of SGD, or beta1 of Adam and AdamW")
    nesterov: bool = Field(False, description="of sgd: Nesterov's momentum")
    weight_decay: float = Field(1e-4, ge=0, le=1, allow_inf_nan=False, description="what pulls weights to zero")
    decay_on: Literal["weights", "all"] = Field(
        "weights", description="convolution and fully connected weights alone, or scales, shifts and biases too"
    )
    second_moment: Share = Field(0.99, description="beta2 of Adam and AdamW; fastai has 0.99, the paper 0.999")
    epsilon: float = Field(1e-5, gt=0, le=1, description="epsilon of Adam; fastai has 1e-5, the paper 1e-8")
    clip: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="largest norm of the gradient (Pascanu 2013)"
    )
    accumulate: int = Field(1, ge=1, le=1 << 16, description="gradient accumulation: parts a batch is divided into")
    average: float = Field(0.0, ge=0, lt=1, description="decay of the weights' moving average (EMA); 0 for none")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> OptimiserSettings:
        if self.nesterov and self.kind != "sgd":
            raise ValueError(f"nesterov is a choice of sgd and kind is {self.kind!r}; set nesterov to false")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0; raise momentum or set nesterov to false")
        return self


class _Plain(torch.optim.Optimizer):
    """Torch's optimiser without what it does for `torch.compile`.

    Its methods import the compiler, a second or two in every process that trains, only to tell it to keep out. Where
    torch has no such wrappers around them they are called as they are.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _bare(super().add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        _bare(super().zero_grad)(self, set_to_none)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no step here takes a closure
        _bare(super().step)(self)


def _bare(method: Any) -> Callable[..., Any]:
    """The function inside a method, without the wrappers around it."""
    function: Callable[..., Any] = inspect.unwrap(method.__func__)
    return function


class _SGD(_Plain, torch.optim.SGD):
    pass


class _Adam(_Plain, torch.optim.Adam):
    pass


class _AdamW(_Plain, torch.optim.AdamW):
    pass


def alike(name: str) -> tuple[float, int]:
    """The same rate for every parameter, all from the first step on."""
    return 1.0, 0


def make_optimiser(
    network: nn.Module, settings: OptimiserSettings, group: Callable[[str], tuple[float, int]] = alike
) -> torch.optim.Optimizer:
    """The optimiser over the parameters in groups: those that decay and those that do not.

    Args:
        group: by what the rate of the schedule is multiplied for the parameter of that name, and a number that is the
            same for those that begin to learn together: torch's fused SGD takes no group of which some have momentum.
    """
    found: dict[tuple[float, int, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        # Only convolution and fully connected weights have more than one axis.
        key = (*group(name), settings.decay_on == "all" or parameter.ndim > 1)
        found.setdefault(key, []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": found[key], "weight_decay": settings.weight_decay if key[2] else 0.0, "factor": key[0]}
        for key in sorted(found, reverse=True)
    ]
    fused = next(network.parameters()).device.type in ("cpu", "cuda")
    if settings.kind == "sgd":
        return _SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=settings.nesterov, fused=fused)
    kind = _AdamW if settings.kind == "adamw" else _Adam
    return kind(groups, lr=0.0, betas=(settings.momentum, settings.second_moment), eps=settings.epsilon, fused=fused)


def set_rate(optimiser: torch.optim.Optimizer, rate: float, momentum: float) -> None:
    """Give every group its part of the rate, and the momentum, of this step."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


_PLAIN = "momentum_buffer"  # stands under the parameter's own name, as in checkpoints of the first format


class OptimiserPart:
    """What the optimiser keeps of every parameter, by the parameter's name: momentum, or moments and their count."""

    def __init__(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self._parameters = dict(network.named_parameters())
        self._optimiser = optimiser

    def tensors(self) -> dict[str, Tensor]:
        found = {}
        for name, parameter in self._parameters.items():
            kept = self._optimiser.state.get(parameter, {})
            for key, tensor in kept.items():
                if tensor is not None:
                    found[name if key == _PLAIN else f"{name}|{key}"] = tensor
        return found

    def facts(self) -> dict[str, Any]:
        return {}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        for label, stored in tensors.items():
            name, _, key = label.partition("|")
            parameter = self._parameters[name]
            if stored.shape == parameter.shape:
                # The parameter's strides, so that the same kernels run as without a restart.
                kept = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(stored).detach()
            else:
                fused = parameter.device.type in ("cpu", "cuda")  # else torch wants the count of steps on the host
                kept = stored.clone().to(parameter.device if fused else "cpu")
            self._optimiser.state[parameter][key or _PLAIN] = kept
