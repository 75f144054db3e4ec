"""A running average of the weights, which is what gets evaluated and kept.

a <- d a + (1 - d) w after every step, over weights and over the statistics of batch normalisation; d grows from
.1 at first to its setting, as (1 + t) / (10 + t), so that the beginning is forgotten (Tarvainen and Valpola 2017,
Mean teachers; Polyak and Juditsky 1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Averaging:
    """The average of a network's weights and statistics; a part of the training state."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = network, decay, 0
        # All but the counts of batches, which are whole numbers. The tensors change in place: one walk is enough.
        self.current = {name: t for name, t in network.state_dict().items() if t.is_floating_point()}
        self.average = {name: tensor.clone() for name, tensor in self.current.items()}

    @torch.no_grad()
    def stepped(self) -> None:
        """Take the weights of the step just finished."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.average.values()), list(self.current.values()), 1 - decay)
        self.steps += 1

    @torch.no_grad()
    def adopt_statistics(self) -> None:
        """Keep the statistics the network has now beside the averaged weights."""
        for name, tensor in self.network.named_buffers():
            if name in self.average:
                self.average[name].copy_(tensor)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with the averaged weights; the moving ones come back afterwards, bit for bit."""
        kept = {name: tensor.clone() for name, tensor in self.current.items()}
        with torch.no_grad():
            for name, tensor in self.current.items():
                tensor.copy_(self.average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self.current.items():
                    tensor.copy_(kept[name])

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.average)

    def facts(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        for name, tensor in self.average.items():
            tensor.copy_(tensors[name])
        self.steps = facts["steps"]
