"""The basic unit against a formula written by hand."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from residual.models import NetworkSettings, build, resolve
from residual.models.shortcuts import make_shortcut
from residual.models.units import BasicUnit

NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.2)


def normalised(z, norm):
    mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), unbiased=False, keepdim=True)
    scale, shift = norm.weight[None, :, None, None], norm.bias[None, :, None, None]
    return (z - mean) / (variance + norm.eps).sqrt() * scale + shift


@pytest.mark.parametrize("kind", ["none", "A", "B"])
@pytest.mark.parametrize(("c_out", "stride"), [(4, 1), (8, 2)])
def test_forward_is_the_formula(kind, c_out, stride):
    generator = torch.Generator().manual_seed(5)
    shortcut = make_shortcut(kind, 4, c_out, stride, NORM)
    unit = BasicUnit(4, c_out, stride, shortcut, NORM)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(3, 4, 8, 8, generator=generator)
    z = F.relu(normalised(F.conv2d(x, unit.conv1.weight, stride=stride, padding=1), unit.norm1))
    z = normalised(F.conv2d(z, unit.conv2.weight, padding=1), unit.norm2)
    expected = F.relu(z if shortcut is None else z + shortcut(x))
    torch.testing.assert_close(unit(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_zero_last_scale_makes_a_unit_the_identity_on_what_is_not_negative(shortcut):
    settings = NetworkSettings(name="resnet-14", shortcut=shortcut, zero_last_scale=True)
    network = build(resolve(settings, classes=10))
    x = torch.rand(2, 32, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.get_submodule("stages.1.1")(x), x)
    units = [module for module in network.modules() if isinstance(module, BasicUnit)]
    assert len(units) == 6
    for unit in units:
        assert unit.last_norm.weight.count_nonzero() == 0
        assert torch.equal(unit.norm1.weight, torch.ones_like(unit.norm1.weight))


def test_a_hook_may_keep_what_a_layer_gave():
    unit = BasicUnit(4, 4, 1, nn.Identity(), NORM)
    kept = []
    unit.norm2.register_forward_hook(lambda _module, _inputs, output: kept.append((output, output.clone())))
    unit(torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(2)))
    later, at_once = kept[0]
    assert torch.equal(later, at_once)
    assert (later < 0).any()
