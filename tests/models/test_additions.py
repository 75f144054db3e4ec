"""Scaled, gated and dropped shortcuts against the formulas of He et al. 2016, section 3.1."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from residual.models import NetworkSettings, build, resolve
from residual.models.additions import Addition, StochasticDepth, make_addition
from residual.models.units import Unit


def addition(c_in: int = 4, c_out: int = 4, stride: int = 1, **parts: Any) -> Addition:
    made = make_addition(c_in, c_out, stride, resolve(NetworkSettings(name="resnet-20", **parts), classes=10))
    assert made is not None
    return made.double()


def maps(seed: int, channels: int = 4) -> Tensor:
    return torch.randn(2, channels, 4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_plain_sum_needs_no_module():
    assert make_addition(4, 4, 1, resolve(NetworkSettings(), classes=10)) is None


@pytest.mark.parametrize(("shortcut_scale", "branch_scale"), [(0.5, 1.0), (0.5, 0.5), (1.0, 0.5), (0.0, 1.0)])
def test_constants(shortcut_scale, branch_scale):
    made = addition(shortcut_scale=shortcut_scale, branch_scale=branch_scale)
    branch, shortcut = maps(1), maps(2)
    assert torch.equal(made(branch, shortcut, shortcut), branch_scale * branch + shortcut_scale * shortcut)


@pytest.mark.parametrize("kind", ["exclusive", "shortcut-only"])
def test_gates(kind):
    made = addition(gate=kind)
    assert made.gate is not None
    branch, shortcut, source = maps(1), maps(2), maps(3)
    weight, bias = made.gate.weight[:, :, 0, 0], made.gate.bias
    assert bias is not None
    g = 1 / (1 + torch.exp(-torch.einsum("oc,nchw->nohw", weight, source) - bias.view(1, -1, 1, 1)))
    expected = (g * branch if kind == "exclusive" else branch) + (1 - g) * shortcut
    torch.testing.assert_close(made(branch, shortcut, source), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [-6.0, 0.0, -3.0])
def test_the_bias_of_a_gate_is_as_set_and_makes_the_shortcut_nearly_the_identity(bias):
    spec = resolve(NetworkSettings(name="resnet-14", gate="shortcut-only", gate_bias=bias), classes=10)
    made = [module for module in build(spec).modules() if isinstance(module, Addition)]
    assert len(made) == sum(spec.depths)
    for one in made:
        assert one.gate is not None
        assert one.gate.bias is not None
        assert one.gate.bias.unique().tolist() == [bias]
    zero = torch.zeros(2, 16, 4, 4)
    passed = made[0](zero, torch.ones(2, 16, 4, 4), zero)
    torch.testing.assert_close(passed, torch.full_like(passed, float(1 - torch.tensor(bias).sigmoid())))


def test_a_gate_fits_where_the_dimensions_change():
    network = build(resolve(NetworkSettings(name="preact-14", gate="exclusive"), classes=10))
    network(torch.zeros(2, 3, 9, 9)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_dropout_on_the_shortcut_spares_the_branch_and_evaluation():
    made = addition(shortcut_dropout=0.5)
    branch, shortcut = torch.zeros_like(maps(1)), torch.ones_like(maps(1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        out = made(branch, shortcut, shortcut)
        torch.manual_seed(0)
        assert torch.equal(out, F.dropout(shortcut, 0.5))
    assert sorted(out.unique().tolist()) == [0, 2]
    assert torch.equal(made.eval()(branch, shortcut, shortcut), shortcut)


def test_stochastic_depth_skips_deeper_units_more_often_and_keeps_the_mean():
    """The chance grows from p / L to p; an image keeps or loses a branch as a whole; nothing changes in evaluation."""
    chance, images = 0.5, 4000
    network = build(resolve(NetworkSettings(name="resnet-14", stochastic_depth=chance), classes=10))
    skipping = [module for module in network.modules() if isinstance(module, StochasticDepth)]
    assert [one.chance for one in skipping] == pytest.approx([chance * number / 6 for number in range(1, 7)])
    branch = torch.ones(images, 2, 3, 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for one in skipping:
            out = one(branch)
            assert torch.equal(out, out[:, :1, :1, :1].expand_as(out)), "by image"
            kept = out[:, 0, 0, 0] > 0
            assert float(kept.double().mean()) == pytest.approx(1 - one.chance, abs=4 * 0.5 / images**0.5)
            assert out[kept].unique().tolist() == pytest.approx([1 / (1 - one.chance)])
    plain = build(resolve(NetworkSettings(name="resnet-14"), classes=10))
    assert [*plain.state_dict()] == [*network.state_dict()]
    some = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.eval()(some), plain.eval()(some))


def test_a_unit_that_is_skipped_gives_what_its_shortcut_gives():
    network = build(resolve(NetworkSettings(name="resnet-14", stochastic_depth=0.5), classes=10))
    unit = [module for module in network.modules() if isinstance(module, Unit)][1]
    assert unit.skipping is not None
    unit.skipping.chance = 1 - 1e-9
    inputs = torch.randn(3, 16, 5, 5, generator=torch.Generator().manual_seed(1)).relu()
    assert torch.equal(unit(inputs), inputs)
