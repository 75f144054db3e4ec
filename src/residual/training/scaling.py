"""Loss scaling for float16, whose small gradients would vanish: the loss is multiplied, its gradient divided again.

Micikevicius et al. 2018 (Mixed Precision Training), section 3.2; the rules for the factor are those of
`torch.amp.GradScaler`: an overflow halves it and leaves the update out, 2,000 good steps in a row double it. All of it
happens on the device, so the host never waits; factor and count are a part of the training state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FIRST, GROWTH, BACKOFF, INTERVAL = 2.0**16, 2.0, 0.5, 2000
LEAST = 1.0
"""An overflow at this factor or below is no fault of the factor: the gradient itself is too large for float16."""


class Scaling:
    """The factor of the loss, float32, and the good steps in a row, int32, both on the device."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        device = parameters[0].device
        self.factor = torch.full((), FIRST, dtype=torch.float32, device=device)
        self.good = torch.zeros((), dtype=torch.int32, device=device)
        for group in optimiser.param_groups:
            # Torch makes the first momentum from memory as it is, and an update that is left out would keep it.
            for parameter in group["params"] if group.get("momentum") else ():
                optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def scaled(self, loss: Tensor) -> Tensor:
        return loss * self.factor

    @torch.no_grad()
    def unscale(self, gradients: Sequence[Tensor]) -> None:
        """Divide the gradients by the factor, in place."""
        torch._foreach_mul_(list(gradients), 1 / self.factor)

    def excused(self, size: Tensor) -> Tensor:
        """The norm of a gradient, or 0 as long as a smaller factor may help."""
        return torch.where(self.factor > LEAST, torch.zeros_like(size), size)

    @torch.no_grad()
    def overflown(self, size: Tensor) -> Tensor:
        """Take the norm of a step's gradient, and set the factor of the next step; 1.0 where this one is left out."""
        overflow = ~torch.isfinite(size)
        good = torch.where(overflow, 0, self.good + 1)
        grown = torch.where(good >= INTERVAL, self.factor * GROWTH, self.factor)
        self.factor = torch.where(overflow, self.factor * BACKOFF, grown)
        self.good = torch.where(good >= INTERVAL, 0, good).int()
        return overflow.float()

    def tensors(self) -> dict[str, Tensor]:
        return {"factor": self.factor, "good": self.good}

    def facts(self) -> dict[str, Any]:
        return {}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.factor = tensors["factor"].to(self.factor.device)
        self.good = tensors["good"].to(self.good.device)
