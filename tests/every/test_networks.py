"""The same questions to every network of the catalogue, with every shortcut it offers.

Shapes and counts are asked of the networks as they are, on the meta device. Numbers are asked of small ones made
of the same parts: at most two units a stage, few channels; networks that differ in nothing else share an answer.
"""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.models import (
    NETWORKS,
    NetworkSettings,
    NetworkSpec,
    ResidualNetwork,
    build,
    count,
    find,
    heads,
    load_weights,
    pack_weights,
    resolve,
    variants,
)
from residual.models.by_shape import ByShape
from residual.models.networks import outline
from residual.models.spec import STEM_LAYERS
from residual.models.units import Unit

# Above this many layers the meta device takes its time, and all units of a stage but the first are alike.
DEEP = 34


@pytest.fixture(autouse=True)
def _small_hidden_layers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "spec" in request.fixturenames:
        monkeypatch.setattr(heads, "_HIDDEN", 32)


def shrunk(spec: NetworkSpec, depth: int = 2) -> NetworkSpec:
    depth = 3 if spec.stride_unit == "last" else depth  # the first, one of those between, the last
    widths = tuple(4 * 2**stage for stage in range(len(spec.widths)))
    depths = tuple(min(units, depth) for units in spec.depths)
    return spec.model_copy(update={"name": "small", "depths": depths, "widths": widths, "classes": 5})


def described(spec: NetworkSpec) -> str:
    parts = (spec.order, spec.unit, spec.shortcut, f"stride {spec.stride}", f"stem {spec.stem}", f"{len(spec.depths)}")
    late = [f"stride in the last unit, {spec.first_activation} first"] if spec.stride_unit == "last" else []
    return ", ".join([*parts, *late, *([f"bias {spec.conv_bias}".lower()] if spec.conv_bias else [])])


SMALL = {described(spec): spec for spec in (shrunk(find(name).spec(shortcut)) for name, shortcut in variants())}
SPECS = pytest.mark.parametrize("spec", SMALL.values(), ids=SMALL)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(6))


def settled(spec: NetworkSpec) -> ResidualNetwork:
    """In evaluation, with statistics of its own maps, so that no map grows or dies through the layers."""
    network = build(spec, 1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average
    with torch.no_grad():
        network(images(8, spec.channels, 24, 24))
    return network.eval()


@pytest.mark.parametrize(("name", "shortcut"), variants())
@torch.no_grad()
def test_shapes(name, shortcut):
    entry = find(name)
    spec = entry.spec(shortcut)
    whole = spec.weighted_layers <= DEEP
    network = outline(
        spec if whole else spec.model_copy(update={"depths": tuple(min(depth, 2) for depth in spec.depths)})
    ).eval()
    side = entry.image_size
    # By our own formulas, which tests/models/test_by_shape.py holds against torch's: those take seconds.
    with ByShape():
        maps = network.features(torch.empty(2, entry.channels, side, side, device="meta"))
    # VGG pools at the end of its first stage too; the others halve before every stage but the first.
    start = side // {"none": 2, "3x3": 1, "7x7": 4, "3-conv": 4}[spec.stem]
    stages = range(len(spec.widths))
    late = spec.stride_unit == "last"  # the last stage halves nothing then
    halved = [-(-start // 2 ** min(stage + late, stages[-1])) for stage in stages]
    expected = [(2, width, size, size) for width, size in zip(spec.outputs, halved, strict=True)]
    assert [tuple(m.shape) for m in maps] == expected
    with ByShape():
        odd = torch.empty(3, entry.channels, 37, 50, device="meta")
        assert network.embed(odd).shape == (3, network.classifier.in_features)
        assert network(odd).shape == (3, entry.classes)


@pytest.mark.parametrize(("name", "shortcut"), variants())
def test_spec_survives_json(name, shortcut):
    spec = find(name).spec(shortcut)
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec
    settings = NetworkSettings(name=name, shortcut=shortcut)
    assert NetworkSettings.model_validate_json(settings.model_dump_json()) == settings
    assert resolve(settings, find(name).classes, find(name).channels) == spec


@pytest.mark.parametrize("name", NETWORKS)
def test_name_tells_the_number_of_layers(name):
    entry = NETWORKS[name]
    spec = entry.spec()
    assert (entry.name, spec.name) == (name, name)
    numbers = [int(number) for number in re.findall(r"(?:resnet|plain|preact|vgg)-?(\d+)", name)]
    # The book's stem has three convolutions where the paper's has one, and its name does not count them.
    assert [spec.weighted_layers - max(0, STEM_LAYERS[spec.stem] - 1)] == numbers
    layers = count(spec, entry.image_size).layers
    counted = [layer for layer in layers if layer.kind != "batch norm" and ".shortcut." not in layer.name]
    assert len(counted) == spec.weighted_layers


@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("plain-")])
def test_plain_and_option_a_have_equal_counts(name):
    twin, size = NETWORKS[name.replace("plain", "resnet")], NETWORKS[name].image_size
    assert count(NETWORKS[name].spec(), size).layers == count(twin.spec("A"), size).layers


@SPECS
@torch.inference_mode()
def test_images_of_a_batch_do_not_see_each_other_in_evaluation(spec):
    network = settled(spec)
    batch = images(3, spec.channels, 21, 30)
    logits = network(batch)
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()
    alone = torch.cat([network(image.unsqueeze(0)) for image in batch])
    torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5)
    other = torch.cat([batch[:1], batch[1:] * 7])
    torch.testing.assert_close(network(other)[0], logits[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits[0], logits[1], rtol=1e-3)


@SPECS
def test_gradients_reach_every_parameter(spec):
    network = build(spec, 1).eval() if spec.norm == "none" else build(spec, 1)
    F.cross_entropy(network(images(8, spec.channels, 24, 24)), torch.arange(8) % 5).backward()
    # A branch whose last scale is zero passes no gradient in the first step; its scale gets one.
    asleep = spec.zero_last_scale
    silent = [name for name, p in network.named_parameters() if p.grad is None]
    assert silent == []
    for name, module in network.named_modules():
        if isinstance(module, Unit) and module.last_norm is not None and module.last_norm.weight.grad is not None:
            assert module.last_norm.weight.grad.count_nonzero(), name
    still = [name for name, p in network.named_parameters() if p.grad is not None and not p.grad.count_nonzero()]
    assert asleep or still == []


@SPECS
def test_state_survives_the_file_format(spec):
    source, target = settled(spec), build(spec, 2)
    load_weights(target, pack_weights(source), "here")
    own = target.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in source.state_dict().items())


@SPECS
def test_a_seed_gives_the_same_network_and_another_another(spec):
    first, again, other = (build(spec, seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    drawn = [name for name in first if first[name].ndim > 1]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@SPECS
@torch.inference_mode()
def test_memory_format_and_precision_change_rounding_alone(spec):
    network = settled(spec)
    batch = images(2, spec.channels, 24, 24)
    expected = network(batch)
    torch.testing.assert_close(network(batch), expected, rtol=0, atol=0)
    wide = copy.deepcopy(network).double()(batch.double())
    assert wide.dtype == torch.float64
    torch.testing.assert_close(expected.double(), wide, rtol=1e-3, atol=1e-4)
    last = nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    torch.testing.assert_close(last(batch.to(memory_format=torch.channels_last)), expected, rtol=1e-3, atol=1e-4)


@SPECS
@torch.inference_mode()
def test_any_channels_and_classes(spec):
    one = spec.model_copy(update={"channels": 1, "classes": 3})
    five = spec.model_copy(update={"channels": 5, "classes": 200})
    assert build(one).eval()(images(1, 1, 9, 12)).shape == (1, 3)
    assert build(five).eval()(images(1, 5, 12, 9)).shape == (1, 200)


@SPECS
@torch.inference_mode()
def test_only_plain_units_have_no_sum(spec):
    units = [module for module in build(spec).modules() if isinstance(module, Unit)]
    assert len(units) == sum(spec.depths)
    assert all((unit.shortcut is None) == (spec.shortcut == "none") for unit in units)


GRAPHED = {
    name: SMALL[name]
    for name in SMALL
    if SMALL[name].shortcut in ("A", "avgpool") or "full-pre-activation, bottleneck, B, stride 1x1, stem 7x7" in name
}


@pytest.mark.parametrize("spec", GRAPHED.values(), ids=GRAPHED)
def test_the_network_is_one_graph(spec):
    # Captured by torch.export without a break, and the captured graph computes the same.
    network = settled(spec)
    batch = images(2, spec.channels, 24, 24)
    program: Any = torch.export.export(network, (batch,), strict=False)
    torch.testing.assert_close(program.module()(batch), network(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["preact-20", "resnet-50-v1.5", "fastbook-resnet50"])
def test_a_compiled_network_computes_the_same(name):
    network = settled(shrunk(find(name).spec(), depth=1))
    batch = images(2, 3, 16, 16)
    compiled: Any = torch.compile(network, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(batch), network(batch), rtol=1e-5, atol=1e-5)
