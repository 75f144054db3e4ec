"""Stems: their layers against formulas, and the choice by size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from residual.models import NETWORKS, NetworkSettings, describe_stem, resolve
from residual.models.layers import Layers
from residual.models.spec import STEM_LAYERS
from residual.models.stems import make_stem, stem_for

X = torch.randn(2, 3, 21, 34, generator=torch.Generator().manual_seed(4))
PLAIN = Layers(normalise=False)


@pytest.mark.parametrize(("kind", "side", "stride"), [("3x3", 3, 1), ("3x3/2", 3, 2), ("7x7", 7, 2)])
def test_one_convolution(kind, side, stride):
    stem = make_stem(kind, 3, 8, PLAIN)
    weight = stem.get_parameter("conv.weight")
    assert weight.shape == (8, 3, side, side)
    expected = F.relu(F.conv2d(X, weight, stride=stride, padding=side // 2))
    if kind == "7x7":
        expected = F.max_pool2d(expected, 3, stride=2, padding=1)
    torch.testing.assert_close(stem(X), expected)


def test_three_convolutions():
    stem = make_stem("3-conv", 3, 64, PLAIN)
    x = X
    for number, (c_in, c_out, stride) in enumerate([(3, 32, 2), (32, 32, 1), (32, 64, 1)], 1):
        weight = stem.get_parameter(f"conv{number}.weight")
        assert weight.shape == (c_out, c_in, 3, 3)
        x = F.relu(F.conv2d(x, weight, stride=stride, padding=1))
    torch.testing.assert_close(stem(X), F.max_pool2d(x, 3, stride=2, padding=1))


@pytest.mark.parametrize("kind", ["7x7", "3-conv"])
@pytest.mark.parametrize("padding", ["lowest", "zero"])
def test_what_the_first_unit_activates_is_pooled_as_it_is(kind, padding):
    stem = make_stem(kind, 3, 8, Layers(bias="unnormalised"), activates=False, pool_padding=padding)
    last = "conv" if kind == "7x7" else "conv3"
    # Below zero everywhere, so that the padding decides at the border.
    torch.nn.init.constant_(stem.get_parameter(f"{last}.bias"), -100.0)
    made: list[torch.Tensor] = []
    stem.get_submodule(last).register_forward_hook(lambda _module, _inputs, output: made.append(output))
    found = stem(X)
    filled = F.pad(made[0], (1, 1, 1, 1), value=0.0 if padding == "zero" else -float("inf"))
    assert torch.equal(found, F.max_pool2d(filled, 3, stride=2))
    assert bool((found[:, :, 0] == 0).all()) == (padding == "zero")
    assert [name for name, _ in stem.named_parameters() if name.endswith("bias") and "conv" in name] == [f"{last}.bias"]


@pytest.mark.parametrize(
    ("size", "kind"),
    [(8, "3x3"), (32, "3x3"), (48, "3x3"), (49, "3x3/2"), (64, "3x3/2"), (112, "3x3/2"), (113, "7x7"), (224, "7x7")],
)
def test_choice_by_size(size, kind):
    assert stem_for((size, size + 30)) == stem_for((size + 30, size)) == kind
    for name in ("resnet-18", "resnet-50-v1.5", "preact-50"):
        assert resolve(NetworkSettings(name=name), 10, image_size=size).stem == kind
        assert resolve(NetworkSettings(name=name, stem="7x7"), 10, image_size=size).stem == "7x7"
    assert resolve(NetworkSettings(name="resnet-20", stem="auto"), 10, image_size=(size, size)).stem == kind


def test_without_a_size_the_stem_is_that_of_the_paper():
    assert resolve(NetworkSettings(name="resnet-18"), 10).stem == "7x7"
    assert resolve(NetworkSettings(name="resnet-18", stem="auto"), 10).stem == "7x7"
    assert resolve(NetworkSettings(name="resnet-50-cifarstem", stem="auto"), 10).stem == "3x3"


@pytest.mark.parametrize("name", [name for name, entry in NETWORKS.items() if not entry.stem_by_size])
def test_other_networks_keep_their_stem_at_any_size(name):
    own = resolve(NetworkSettings(name=name), 10).stem
    assert {resolve(NetworkSettings(name=name), 10, image_size=size).stem for size in (8, 64, 224)} == {own}


def test_every_stem_has_words():
    assert len({describe_stem(kind) for kind in STEM_LAYERS}) == len(STEM_LAYERS)
