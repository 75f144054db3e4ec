"""A trained network made to take images of other channels, or to answer for other classes.

Channels: only the first convolution changes.

For one channel the first kernel is summed over its input channels: a grey image then gives what the same grey in every
channel gave (up to the constants). For others the channels are repeated in turn and scaled, so that the sum stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from residual.models.networks import ResidualNetwork, build
from residual.models.spec import NetworkSpec

_LAST: Final = ("classifier.weight", "classifier.bias")
_FIRST = ("stem.conv.weight", "stem.conv1.weight", "stages.0.0.conv1.weight")


def adapt(network: ResidualNetwork, channels: int) -> tuple[ResidualNetwork, str]:
    """The network for images of so many channels, and in words what was done."""
    state = network.state_dict()
    name = next(name for name in _FIRST if name in state)
    kernel = state[name]
    before = kernel.shape[1]
    if channels == 1:
        state[name], how = kernel.sum(1, keepdim=True), "summed"
    else:
        turn = torch.arange(channels) % before
        state[name], how = kernel[:, turn] * (before / channels), f"repeated and scaled by {before}/{channels}"
    adapted = build(network.spec.model_copy(update={"channels": channels}))
    adapted.load_state_dict(state)
    adapted.eval()
    return adapted, f"{name}: the {before} input channels {how} to {channels}"


def refit(network: ResidualNetwork, spec: NetworkSpec, seed: int, rows: Sequence[int] | None) -> ResidualNetwork:
    """The network of `spec` with the weights of another that has the same tensors but for the last layer.

    Args:
        seed: what a new last layer is drawn from.
        rows: which row of the old last layer each class has; None for a new layer.
    """
    fresh = build(spec, seed)
    state, drawn = network.state_dict(), fresh.state_dict()
    for name in _LAST:
        state[name] = drawn[name] if rows is None else state[name][list(rows)]
    fresh.load_state_dict(state)
    fresh.eval()
    return fresh
