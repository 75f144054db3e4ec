"""The whole network: its parts in order, gradients, dropout, memory format."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from residual.models import NetworkSettings, build, resolve


def network_of(shortcut="A", **settings):
    return build(resolve(NetworkSettings(name="resnet-14", shortcut=shortcut, **settings), classes=10))


def images(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(8))


@pytest.mark.parametrize("shortcut", ["none", "A", "B"])
def test_gradients_reach_every_parameter(shortcut):
    network = network_of(shortcut)
    F.cross_entropy(network(images(8, 3, 16, 16)), torch.arange(8)).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.count_nonzero()]
    assert silent == []


def test_forward_is_stem_stages_average_classifier():
    network = network_of().eval()
    x = images(2, 3, 32, 32)
    maps = network.stem(x)
    for stage, feature in zip(network.stages, network.features(x), strict=True):
        maps = stage(maps)
        assert torch.equal(maps, feature)
    pooled = F.adaptive_avg_pool2d(maps, 1).flatten(1)
    torch.testing.assert_close(network.embed(x), pooled)
    torch.testing.assert_close(network(x), network.classifier(pooled))


def test_strides_sit_in_the_first_unit_of_every_stage_but_the_first():
    strides = [[unit.conv1.stride[0] for unit in stage] for stage in network_of().stages]
    assert strides == [[1, 1], [2, 1], [2, 1]]


def test_other_numbers_of_stages():
    network = network_of(depths=(1, 2, 1, 1), widths=(4, 6, 6, 9))
    shapes = [tuple(maps.shape[1:]) for maps in network.features(images(2, 3, 20, 33))]
    assert shapes == [(4, 20, 33), (6, 10, 17), (6, 5, 9), (9, 3, 5)]
    assert network_of(depths=(1,), widths=(5,))(images(2, 3, 8, 8)).shape == (2, 10)


def test_dropout_acts_before_the_classifier_in_training_alone():
    network = network_of(dropout=0.5)
    seen = []
    network.classifier.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    x = images(4, 3, 16, 16)
    network(x)
    network.eval()(x)
    trained, evaluated = ((pooled == 0).float().mean().item() for pooled in seen)
    assert trained > 0.3
    assert evaluated < 0.2
    assert network_of().dropout.p == 0


def test_channels_last_gives_the_same_logits():
    network, x = network_of("B").eval(), images(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(x)
        got = network.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_each_relu_is_a_module_of_its_own():
    network = network_of()
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    assert len(relus) == 1 + 2 * sum(network.spec.depths)
