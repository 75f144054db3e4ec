"""Counts against the published ones, the closed form, and torch's own counter."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from residual.errors import UsageError
from residual.models import NetworkSettings, build, count, find, resolve

# name, shortcut, parameters, multiply-adds, weighted layers: He et al. 2015, section 4.2; counted by hand.
PUBLISHED = [
    ("plain-20", "none", 269_722, 40_551_040, 20),
    ("resnet-20", "A", 269_722, 40_551_040, 20),
    ("resnet-20", "B", 272_474, 40_813_184, 20),
    ("resnet-32", "A", 464_154, 68_862_592, 32),
    ("resnet-44", "A", 658_586, 97_174_144, 44),
    ("plain-56", "none", 853_018, 125_485_696, 56),
    ("resnet-56", "A", 853_018, 125_485_696, 56),
    ("resnet-110", "A", 1_727_962, 252_887_680, 110),
    ("resnet-1202", "A", 19_421_274, 2_829_238_912, 1202),
]


@pytest.mark.parametrize(("name", "shortcut", "parameters", "multiply_adds", "layers"), PUBLISHED)
def test_published_counts(name, shortcut, parameters, multiply_adds, layers):
    counts = count(find(name).spec(shortcut), 32)
    assert (counts.parameters, counts.multiply_adds, counts.weighted_layers) == (parameters, multiply_adds, layers)


@pytest.mark.parametrize("n", range(1, 21))
def test_closed_form(n):
    counts = count(resolve(NetworkSettings(depths=(n, n, n)), classes=10), 32)
    assert counts.parameters == 97_216 * n - 21_926
    assert counts.multiply_adds == 14_155_776 * n - 1_916_288
    assert counts.weighted_layers == 6 * n + 2


@pytest.mark.parametrize("shortcut", ["none", "A", "B"])
@pytest.mark.parametrize("size", [(32, 32), (17, 30), (1, 5)])
def test_multiply_adds_are_half_of_torchs_flops(shortcut, size):
    spec = resolve(NetworkSettings(name="resnet-14", shortcut=shortcut), classes=7, channels=2)
    network = build(spec).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 2, *size))
    assert 2 * count(spec, size).multiply_adds == counter.get_total_flops()


def test_parameters_are_those_of_the_built_network_and_layers_sum_to_the_total():
    spec = find("resnet-20").spec("B")
    counts = count(spec, 32)
    assert counts.parameters == sum(parameter.numel() for parameter in build(spec).parameters())
    assert counts.parameters == sum(layer.parameters for layer in counts.layers)
    assert counts.multiply_adds == sum(layer.multiply_adds for layer in counts.layers)
    kinds = [layer.kind for layer in counts.layers]
    assert (kinds.count("convolution"), kinds.count("batch norm"), kinds.count("fully connected")) == (21, 21, 1)


def test_layer_records_name_shape_and_cost_in_the_order_of_computing():
    layers = count(find("resnet-8").spec(), 32).layers
    by_name = {layer.name: layer for layer in layers}
    assert [layer.name for layer in layers[:4]] == ["stem.conv", "stem.norm", "stages.0.0.conv1", "stages.0.0.norm1"]
    conv = by_name["stages.1.0.conv1"]
    assert (conv.shape, conv.parameters, conv.multiply_adds) == ((32, 16, 16), 9 * 16 * 32, 9 * 16 * 32 * 256)
    norm = by_name["stages.2.0.norm2"]
    assert (norm.shape, norm.parameters, norm.multiply_adds) == ((64, 8, 8), 128, 0)
    last = layers[-1]
    assert (last.name, last.shape, last.parameters, last.multiply_adds) == ("classifier", (10, 1, 1), 650, 640)


def test_as_dict_survives_json():
    facts = count(find("resnet-8").spec(), 32).as_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["layers"][0]["shape"] == [16, 32, 32]


@pytest.mark.parametrize("size", [0, -3, (0, 32), (32, 0)])
def test_image_without_pixels_is_refused(size):
    with pytest.raises(UsageError, match="too small"):
        count(find("resnet-8").spec(), size)
