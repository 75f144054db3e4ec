"""Counts against the published ones, the closed form, torch's own counter, and what autograd keeps."""

from __future__ import annotations

import csv
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from residual.errors import UsageError
from residual.models import NETWORKS, NetworkSettings, build, count, find, resolve
from residual.models.networks import outline
from tests.conftest import shared_folder

# name, shortcut, parameters, multiply-adds, weighted layers: the papers and the authors' and libraries' code.
PUBLISHED = [
    ("plain-18", "none", 11_515_688, 1_794_805_760, 18),
    ("resnet-18", "A", 11_515_688, 1_794_805_760, 18),
    ("resnet-18", "B", 11_689_512, 1_814_073_344, 18),
    ("plain-34", "none", 21_623_848, 3_644_493_824, 34),
    ("resnet-34", "A", 21_623_848, 3_644_493_824, 34),
    ("resnet-34", "B", 21_797_672, 3_663_761_408, 34),
    ("resnet-34", "C", 22_716_840, 3_830_747_136, 34),
    ("resnet-50", "B", 25_557_032, 3_857_973_248, 50),
    ("resnet-50-v1.5", "B", 25_557_032, 4_089_184_256, 50),
    ("resnet-101", "B", 44_549_160, 7_570_194_432, 101),
    ("resnet-152", "B", 60_192_808, 11_282_415_616, 152),
    ("resnet-50-keras", "B", 25_583_592, 3_857_973_248, 50),
    ("vgg-19", "none", 143_667_240, 19_632_062_464, 19),
    ("preact-200", "B", 64_666_152, 14_776_270_848, 200),
    ("plain-20", "none", 269_722, 40_551_040, 20),
    ("resnet-20", "A", 269_722, 40_551_040, 20),
    ("resnet-20", "B", 272_474, 40_813_184, 20),
    ("resnet-32", "A", 464_154, 68_862_592, 32),
    ("resnet-44", "A", 658_586, 97_174_144, 44),
    ("plain-56", "none", 853_018, 125_485_696, 56),
    ("resnet-56", "A", 853_018, 125_485_696, 56),
    ("resnet-110", "A", 1_727_962, 252_887_680, 110),
    ("resnet-1202", "A", 19_421_274, 2_829_238_912, 1202),
    ("preact-110", "A", 1_727_962, 252_887_680, 110),
    ("resnet-164-bottleneck", "B", 1_704_154, 244_500_992, 164),
    ("preact-164-bottleneck", "B", 1_703_258, 244_500_992, 164),
    ("preact-1001-bottleneck", "B", 10_327_706, 1_487_849_984, 1001),
    ("resnet-110-1layer", "A", 1_727_962, 252_887_680, 110),
    ("fastbook-resnet50", "avgpool", 23_547_754, 88_322_048, 52),
    ("resnet-50-cifarstem", "B", 23_520_842, 1_297_829_888, 50),
]

# Keras 3.15's own numbers of trainable parameters; its multiply-adds are not published.
KERAS = {
    "resnet-101-keras": 44_601_832,
    "resnet-152-keras": 60_268_520,
    "preact-50-keras": 25_568_360,
    "preact-101-keras": 44_577_896,
    "preact-152-keras": 60_236_904,
}


@pytest.mark.parametrize("name", KERAS)
def test_parameters_of_keras(name):
    assert count(find(name).spec(), 224).parameters == KERAS[name]


@pytest.mark.parametrize(("name", "shortcut", "parameters", "multiply_adds", "layers"), PUBLISHED)
def test_published_counts(name, shortcut, parameters, multiply_adds, layers):
    counts = count(find(name).spec(shortcut), find(name).image_size)
    assert (counts.parameters, counts.multiply_adds, counts.weighted_layers) == (parameters, multiply_adds, layers)


@pytest.mark.shared
def test_the_table_above_is_that_of_the_research_data():
    shared = shared_folder()
    if shared is None:
        pytest.skip("the research data is not here: set RESIDUAL_SHARED")
    with (shared / "networks.csv").open(newline="", encoding="utf-8") as file:
        rows = [
            (
                row["name"],
                "avgpool" if "avgpool" in row["shortcut"] else row["shortcut"],
                *(int(row[column]) for column in ("parameters", "multiply_adds", "weighted_layers")),
            )
            for row in csv.DictReader(file)
        ]
    assert rows == PUBLISHED


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


# Deeper ones take the counter seconds; their units are alike, which the test after next looks at.
SHALLOW = [name for name, entry in NETWORKS.items() if entry.spec().weighted_layers <= 56]


@pytest.mark.parametrize("name", SHALLOW)
def test_every_entry_agrees_with_torchs_counter(name):
    entry = NETWORKS[name]
    images = torch.empty(1, entry.channels, entry.image_size, entry.image_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outline(entry.spec()).eval()(images)
    assert 2 * count(entry.spec(), entry.image_size).multiply_adds == counter.get_total_flops()


COMBINATIONS: dict[str, dict[str, Any]] = {
    "gate": {"gate": "exclusive", "shortcut": "C"},
    "bottlenecks with zero padding": {"unit": "bottleneck", "shortcut": "A-both", "stride": "3x3"},
    "pooled shortcuts before activation": {"order": "full-pre-activation", "shortcut": "avgpool"},
    "7x7 and no normalisation": {"stem": "7x7", "norm": "none", "head": "vgg"},
    "strides in the last units": {"depths": (1, 2, 4), "stride_unit": "last", "conv_bias": "unnormalised"},
}


@pytest.mark.parametrize("parts", COMBINATIONS.values(), ids=COMBINATIONS)
@pytest.mark.parametrize("classes", [10, 100, 200, 1000])
def test_any_combination_agrees_with_torchs_counter(parts, classes):
    spec = resolve(NetworkSettings(name="resnet-20", **parts), classes)
    network = outline(spec).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, 40, 28, device="meta"))
    counts = count(spec, (40, 28))
    assert 2 * counts.multiply_adds == counter.get_total_flops()
    assert counts.parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("order", ["original", "full-pre-activation"])
def test_the_layers_of_deep_stages_are_those_of_the_network(order, late):
    parts: dict[str, Any] = {"unit": "bottleneck", "shortcut": "B", "stride_unit": "last" if late else "first"}
    spec = resolve(NetworkSettings(depths=(4, 1, 5, 2, 3), widths=(4,) * 5, order=order, **parts), classes=10)
    network = outline(spec)
    own = {
        name: sum(p.numel() for p in module.parameters())
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
    }
    counts = count(spec, 32)
    assert {layer.name: layer.parameters for layer in counts.layers} == own
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.empty(1, 3, 32, 32, device="meta"))
    assert 2 * counts.multiply_adds == counter.get_total_flops()


def kept_per_image(spec: Any, side: int, batch: int = 4) -> float:
    """Bytes that autograd keeps for the backward pass, each storage once, parameters and buffers left out."""
    network = build(spec).train()
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.random.fork_rng(devices=[]):
        logits = network(torch.ones(batch, spec.channels, side, side))
    assert logits.requires_grad
    return sum(tensor.untyped_storage().nbytes() for place, tensor in held.items() if place not in own) / batch


MEMORY: dict[str, tuple[dict[str, Any], int]] = {
    "resnet-20": ({}, 32),
    "resnet-18": ({"shortcut": "C"}, 64),
    "resnet-50-v1.5": ({"depths": (1, 2, 1, 1), "widths": (16, 32, 64, 128)}, 64),
    "preact-20": ({"shortcut": "B"}, 32),
    "preact-50-keras": ({"depths": (1, 2, 4, 2), "widths": (16, 16, 16, 16)}, 65),
    "preact-14": ({"gate": "exclusive", "dropout": 0.5}, 32),
    "resnet-14": ({"gate": "shortcut-only", "shortcut_dropout": 0.3}, 32),
    "resnet-8": ({"order": "relu-before-addition", "shortcut": "avgpool"}, 33),
    "plain-8": ({"norm": "none"}, 32),
    "vgg-16": ({"widths": (8, 8, 8, 8, 8)}, 64),
}


@pytest.mark.parametrize("name", MEMORY)
def test_memory_is_what_autograd_keeps_within_one_percent(name):
    parts, side = MEMORY[name]
    spec = resolve(NetworkSettings(name=name, **parts), classes=10)
    counts = count(spec, side)
    # What is left are a mean and a deviation for each channel, whatever the batch.
    assert counts.memory_per_image == pytest.approx(kept_per_image(spec, side), rel=0.01)
    assert counts.memory_fixed == 12 * counts.parameters
    assert counts.memory(10) == counts.memory_fixed + 10 * counts.memory_per_image


def test_activations_of_a_small_network():
    counts = count(find("resnet-8").spec(), 32)
    convolutions = 3 * 16 * 32 * 32 + 2 * 32 * 16 * 16 + 2 * 64 * 8 * 8
    assert counts.activations == convolutions
    zero_padded, added = 32 * 16 * 16 + 64 * 8 * 8, 16 * 32 * 32 + 32 * 16 * 16 + 64 * 8 * 8
    # A normalisation and a ReLU follow every convolution; then the average and the logits.
    assert counts.activations_total == 3 * convolutions + zero_padded + added + 64 + 10


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
    assert facts["layers"][0]["activations"] == 16 * 32 * 32


@pytest.mark.parametrize("size", [0, -3, (0, 32), (32, 0)])
def test_image_without_pixels_is_refused(size):
    with pytest.raises(UsageError, match="too small"):
        count(find("resnet-8").spec(), size)
