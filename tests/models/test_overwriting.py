"""ReLUs that write over their input change no number; where they would, they are left alone."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
from torch.nn.functional import cross_entropy

from residual.models import NetworkSettings, build, overwrite_activations, resolve
from residual.models.spec import OrderKind

PARTS = [
    {"order": order, "unit": unit, "shortcut": shortcut, "norm": norm}
    for order, unit, shortcut, norm in itertools.product(
        get_args(OrderKind), ("basic", "bottleneck"), ("none", "A", "B"), ("batch", "none")
    )
    # Without normalisation these are the same as another order, and refused.
    if norm == "batch" or order not in ("bn-after-addition", "relu-only-pre-activation")
]


def trained(settings: NetworkSettings, overwrite: bool, recompute: bool = False) -> tuple[list[torch.Tensor], bool]:
    """Logits, maps, gradients and statistics of one pass, in double precision."""
    network = build(resolve(settings, 10), seed=1).double().train()
    done = overwrite_activations(network) if overwrite else False
    network.recompute = recompute
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    maps = [m.detach().clone() for m in network.features(images)]
    logits = network(images)
    cross_entropy(logits, torch.arange(4)).backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return [logits.detach(), *maps, *gradients, *network.buffers()], done


@pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(parts.values()))
def test_no_number_changes(parts):
    settings = NetworkSettings(name="resnet-8", widths=(4, 8, 8), depths=(1, 2, 1), **parts)
    plain, _ = trained(settings, overwrite=False)
    found, done = trained(settings, overwrite=True)
    spared, _ = trained(settings, overwrite=True, recompute=True)
    assert len(found) == len(plain) == len(spared)
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(spared, plain, strict=True))
    begins_with_relu = parts["order"] == "relu-only-pre-activation" or (
        parts["order"] == "full-pre-activation" and parts["norm"] == "none"
    )
    assert done != begins_with_relu


def test_where_it_is_refused_it_would_change_numbers():
    settings = NetworkSettings(name="resnet-8", depths=(2, 2, 2), order="relu-only-pre-activation")
    network = build(resolve(settings, 10), seed=1).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network(images)
        for module in network.modules():
            if isinstance(module, torch.nn.ReLU):
                module.inplace = True
        assert not torch.equal(network(images), before)
