"""The same questions to every network of the catalogue, with every shortcut it offers."""

import pytest
import torch

from residual.models import (
    NETWORKS,
    NetworkSettings,
    NetworkSpec,
    ResidualNetwork,
    build,
    count,
    find,
    resolve,
    variants,
)

# Above this many layers, shapes are asked on the meta device alone.
DEEP = 200


def make(spec):
    if spec.weighted_layers <= DEEP:
        return build(spec, 1).eval()
    with torch.device("meta"):
        return ResidualNetwork(spec).eval()


def images_for(network, *shape):
    if network.classifier.weight.is_meta:
        return torch.empty(shape, device="meta")
    return torch.randn(shape, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize(("name", "shortcut"), variants())
@torch.inference_mode()
def test_shapes_and_repeatable_evaluation(name, shortcut):
    entry = find(name)
    network = make(entry.spec(shortcut))
    side = entry.image_size
    images = images_for(network, 2, entry.channels, side, side)
    features = network.features(images)
    halved = [-(-side // 2**stage) for stage in range(len(entry.widths))]
    assert [tuple(maps.shape) for maps in features] == [
        (2, width, size, size) for width, size in zip(entry.widths, halved, strict=True)
    ]
    assert network.embed(images).shape == (2, entry.widths[-1])
    logits = network(images)
    assert logits.shape == (2, entry.classes)
    if not logits.is_meta:
        assert logits.isfinite().all()
        assert torch.equal(logits, network(images))


@pytest.mark.parametrize(("name", "shortcut"), variants())
@torch.inference_mode()
def test_other_channels_classes_and_sizes(name, shortcut):
    network = make(resolve(NetworkSettings(name=name, shortcut=shortcut), classes=7, channels=1))
    assert network(images_for(network, 1, 1, 9, 12)).shape == (1, 7)


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
    assert spec.weighted_layers == int(name.rsplit("-", 1)[1])
    counted = [layer for layer in count(spec, entry.image_size).layers if layer.kind != "batch norm"]
    assert len(counted) == spec.weighted_layers
