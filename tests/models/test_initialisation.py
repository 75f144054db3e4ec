"""Initial weights: their spread, and what they depend on."""

import math

import pytest
import torch
from torch import nn

from residual.chance import stream
from residual.models import NetworkSettings, ResidualNetwork, build, count, find, resolve
from residual.models.initialisation import initialise


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("kind", "variance"),
    [
        ("he-fan-in", 2 / (9 * 128)),
        ("he-fan-out", 2 / (9 * 256)),
        ("lecun", 1 / (9 * 128)),
        ("xavier", 2 / (9 * (128 + 256))),
    ],
)
def test_deviation_of_a_wide_convolution(kind, variance):
    settings = NetworkSettings(depths=(1, 1), widths=(128, 256), initialisation=kind)
    weight = build(resolve(settings, classes=10)).get_parameter("stages.1.0.conv1.weight")
    assert weight.shape == (256, 128, 3, 3)
    assert weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.02)
    assert abs(weight.mean().item()) < 0.02 * weight.std().item()


@pytest.mark.parametrize(
    ("kind", "variance"),
    [("lecun", 1 / 512), ("he", 2 / 512), ("xavier", 2 / 612), ("normal-0.01", 1e-4), ("zero", 0)],
)
def test_deviation_of_the_classifier(kind, variance):
    settings = NetworkSettings(depths=(1, 1), widths=(4, 512), classifier_initialisation=kind)
    classifier = build(resolve(settings, classes=100)).classifier
    assert classifier.weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.02)
    assert classifier.bias.count_nonzero() == 0


def test_hidden_layers_are_drawn_like_convolutions():
    settings = NetworkSettings(name="vgg-16", depths=(1,), widths=(2,), initialisation="he-fan-in")
    network = build(resolve(settings, classes=10))
    assert network.get_parameter("head.hidden1.weight").std().item() == pytest.approx(math.sqrt(2 / 98), rel=0.02)
    assert network.get_parameter("head.hidden1.bias").count_nonzero() == 0
    assert network.get_parameter("stages.0.0.conv1.bias").count_nonzero() == 0


def test_classifier_and_norms():
    network = build(resolve(NetworkSettings(depths=(1, 1), widths=(64, 512), norm_eps=1e-3), classes=100))
    assert network.classifier.weight.std().item() == pytest.approx(math.sqrt(1 / 512), rel=0.02)
    assert network.classifier.bias.count_nonzero() == 0
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 5
    for norm in norms:
        state = norm.state_dict()
        assert {name: tensor.unique().item() for name, tensor in state.items()} == {
            "weight": 1,
            "bias": 0,
            "running_mean": 0,
            "running_var": 1,
            "num_batches_tracked": 0,
        }
        assert (norm.eps, norm.momentum) == (1e-3, 0.1)


def test_same_seed_same_weights_and_another_seed_others():
    spec = find("resnet-8").spec("B")
    assert same(build(spec, 4), build(spec, 4))
    first, second = build(spec, 4), build(spec, 5)
    assert not torch.equal(first.get_parameter("stem.conv.weight"), second.get_parameter("stem.conv.weight"))
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_a_weight_is_the_draw_at_its_own_address():
    weight = build(find("resnet-20").spec(), 11).get_parameter("stages.2.1.conv2.weight")
    draw = torch.empty(64, 64, 3, 3)
    draw.normal_(0, math.sqrt(2 / 576), generator=stream(11, "initialise", "stages.2.1.conv2.weight"))
    assert torch.equal(weight, draw)


def test_weights_do_not_depend_on_the_order_of_construction():
    # Deeper stages and other shortcuts come in between; the tensors of the same name stay the same.
    small, large = build(find("resnet-8").spec("A"), 2).state_dict(), build(find("resnet-20").spec("B"), 2).state_dict()
    assert small.keys() < large.keys()
    assert all(torch.equal(small[name], large[name]) for name in small)


def test_initialise_again_undoes_training_in_any_memory_format():
    spec = find("resnet-8").spec()
    network = nn.utils.convert_conv2d_weight_memory_format(ResidualNetwork(spec), torch.channels_last)
    network(torch.ones(2, 3, 8, 8))
    initialise(network, 7)
    assert same(network, build(spec, 7))
    assert network.get_parameter("stages.0.0.conv1.weight").is_contiguous(memory_format=torch.channels_last)


def test_build_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    network = build(find("resnet-8").spec())
    assert torch.equal(before, torch.get_rng_state())
    assert network.training
    assert {(p.device.type, p.dtype, p.requires_grad) for p in network.parameters()} == {("cpu", torch.float32, True)}


def test_plain_and_option_a_differ_in_the_addition_alone():
    plain = resolve(NetworkSettings(name="plain-20"), classes=10)
    residual = resolve(NetworkSettings(name="resnet-20"), classes=10)
    assert count(plain, 32).layers == count(residual, 32).layers
    one, other = build(plain, 3), build(residual, 3)
    assert same(one, other)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(one(x), other(x))
