"""Activation checkpointing: keep a unit's input, and compute the rest once more in the backward pass.

Source: Chen et al. 2016 (Training Deep Nets with Sublinear Memory Cost).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recomputed(unit: nn.Module, maps_NCHW: Tensor) -> Tensor:
    """What `unit` gives, without keeping what lies inside; the running statistics move once, not twice."""

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_at_rest(unit)

    output_NCHW: Tensor = checkpoint(unit, maps_NCHW, use_reentrant=False, context_fn=contexts)
    return output_NCHW


@contextmanager
def _statistics_at_rest(unit: nn.Module) -> Iterator[None]:
    """Within, batch normalisation computes as ever, and moves a copy of its running statistics."""
    norms = [module for module in unit.modules() if isinstance(module, nn.BatchNorm2d)]
    own = [dict(norm._buffers) for norm in norms]
    for norm in norms:
        norm._buffers.update({name: tensor.clone() for name, tensor in norm._buffers.items() if tensor is not None})
    try:
        yield
    finally:
        for norm, buffers in zip(norms, own, strict=True):
            norm._buffers.update(buffers)
