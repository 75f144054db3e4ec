"""Activation checkpointing changes memory, and nothing else to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from residual.models import NetworkSettings, ResidualNetwork, build, find, resolve

SETTINGS: dict[str, dict[str, Any]] = {
    "original": {"name": "resnet-14", "shortcut": "B"},
    "pre-activation": {"name": "preact-14", "gate": "exclusive"},
    "dropped shortcut": {"name": "resnet-14", "shortcut_dropout": 0.5},
    "skipped units": {"name": "resnet-14", "stochastic_depth": 0.5},
    "pooled": {"name": "resnet-14", "downsampling": "max-pool"},
    "no normalisation": {"name": "resnet-14", "norm": "none"},
}


def kept_bytes(network: ResidualNetwork, images: Tensor) -> tuple[Tensor, int]:
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(images)
    return logits, sum(tensor.untyped_storage().nbytes() for tensor in held.values())


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_gradients_and_statistics_are_equal_and_less_is_kept(settings):
    spec = resolve(NetworkSettings(**settings), classes=10)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    found = []
    for recompute in (False, True):
        network = build(spec, 3)
        network.recompute = recompute
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            logits, kept = kept_bytes(network, images)
            cross_entropy(logits, torch.arange(4)).backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        found.append((logits, kept, gradients, network.state_dict()))
    (logits, kept, gradients, state), (logits2, kept2, gradients2, state2) = found
    assert torch.equal(logits, logits2)
    assert kept2 < 0.7 * kept
    for name, gradient in gradients.items():
        again = gradients2[name]
        assert gradient is not None
        assert again is not None
        assert torch.equal(gradient, again), name
    # Among them num_batches_tracked: 1, not 2.
    assert all(torch.equal(tensor, state2[name]) for name, tensor in state.items())


def test_evaluation_does_not_care():
    network = build(find("resnet-8").spec()).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = network(images)
    network.recompute = True
    assert torch.equal(network(images), expected)
    with torch.no_grad():
        assert torch.equal(network(images), expected)


@pytest.mark.parametrize("name", ["resnet-1202", "preact-1001-bottleneck"])
def test_a_step_through_a_thousand_layers(name):
    network = build(find(name).spec())
    network.recompute = True
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    cross_entropy(network(images), torch.arange(2)).backward()
    gradients = [p.grad for p in network.parameters()]
    assert all(gradient is not None and bool(gradient.isfinite().all()) for gradient in gradients)
    assert int(network.get_buffer("stages.2.5.norm1.num_batches_tracked")) == 1
