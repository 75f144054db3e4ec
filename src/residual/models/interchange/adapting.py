"""A network trained on images of some channels, made to take others: only its first convolution changes.

For one channel the first kernel is summed over its input channels: a grey image then gives what the same grey in every
channel gave (up to the constants). For others the channels are repeated in turn and scaled, so that the sum stays.
"""

from __future__ import annotations

import torch

from residual.models.networks import ResidualNetwork, build

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
