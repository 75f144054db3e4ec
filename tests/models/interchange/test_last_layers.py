"""The last layer of a file: of one answer, absent, or in a sequence of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from residual.errors import ModelError
from residual.models.interchange.families import bring_in
from residual.models.interchange.foreign import Foreign
from tests.models.interchange import layouts
from tests.models.interchange.layouts import State

WIDTHS = (4, 8, 16, 32)


def foreign(state: State) -> Foreign:
    return Foreign(dict(state), "made")


def refusal(state: State, library: Any = "auto", **asked: Any) -> str:
    with pytest.raises(ModelError) as caught:
        bring_in(foreign(state), library, "here", **asked)
    return str(caught.value)


def small_stem() -> State:
    """A network of torchvision's names with a 3x3 convolution first, as people make them for small images."""
    state = layouts.make_resnet((1, 1, 1), (4, 8, 16), False, 7)
    return {**state, "conv1.weight": torch.randn(4, 3, 3, 3)}


def test_a_stem_that_no_tensor_tells_is_named():
    state = small_stem()
    said = refusal(state)
    assert "its first convolution is 3x3" in said
    assert "give --stem 3x3, or 3x3/2 if it has stride 2" in said
    images = torch.randn(2, 3, 32, 32)
    for stem, side, stride in (("3x3", 32, 1), ("3x3/2", 64, 2)):
        network, _, sight, _ = bring_in(foreign(state), "auto", "here", stem=stem)
        assert sight is not None
        assert (network.spec.stem, sight.image_size) == (stem, side)
        maps = torch.conv2d(images, state["conv1.weight"], stride=stride, padding=1)
        found = network.eval().get_submodule("stem.conv")(images)
        assert torch.allclose(found, maps, atol=1e-6)
    assert "its first convolution is 7x7" in refusal(layouts.make_resnet((1, 1, 1), WIDTHS[:3], False, 7), stem="3x3")
    assert "leave out --stem" in refusal(layouts.make_resnet((1, 1, 1), (4, 8, 16), False, 7, "cifar"), stem="3x3")


def test_a_network_of_one_answer_is_refused_with_the_number():
    said = refusal(layouts.make_resnet((1, 1, 1, 1), WIDTHS, False, 1))
    assert "(here): classes is 1: must be greater than or equal to 2; a single answer is a score" in said


MADE: dict[str, tuple[State, str]] = {
    "torchvision": (layouts.make_resnet((1, 1, 1, 1), WIDTHS, False, 7), "fc.weight"),
    "timm, d": (layouts.make_resnet((1, 1, 1, 1), WIDTHS, False, 7, "d"), "fc.weight"),
    "timm, v2": (layouts.make_v2((1, 1, 1, 1), WIDTHS, 7), "head.fc.weight"),
    "Keras": (layouts.make_keras((1, 1, 1, 1), WIDTHS, 7), "predictions/kernel"),
}


@pytest.mark.parametrize(("state", "last"), MADE.values(), ids=MADE)
def test_a_network_without_its_last_layer_is_called_so(state, last):
    layer = last.removesuffix(".weight").removesuffix("/kernel")
    bare = {name: tensor for name, tensor in state.items() if not name.startswith(layer)}
    assert len(bare) == len(state) - 2
    for prefix in ("", "backbone.", "module.encoder."):
        if prefix and "/" in last:
            continue
        said = refusal({prefix + name: tensor for name, tensor in bare.items()})
        also = " or linear.weight" if "conv1.weight" in bare else ""
        assert f"a network without its last layer, {last}{also} (here): take weights that have it" in said


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "model.backbone."])
def test_backbones_and_encoders_lose_their_prefix(prefix):
    state, _ = MADE["torchvision"]
    network, report, *_ = bring_in(foreign({prefix + name: tensor for name, tensor in state.items()}), "auto", "here")
    assert network.spec.classes == 7
    assert f"begin with {prefix.split('.')[-2]}., which is left off" in " ".join(report.remarks)


def test_one_layer_behind_a_dropout_is_the_last_one():
    state, _ = MADE["torchvision"]
    moved = {name.replace("fc.", "fc.1."): tensor for name, tensor in state.items()}
    network, report, *_ = bring_in(
        foreign({f"module.{name}": tensor for name, tensor in moved.items()}), "auto", "here"
    )
    assert torch.equal(network.state_dict()["classifier.weight"], state["fc.weight"])
    assert any(line.startswith("fc.1 is the one layer of fc that has weights: taken as fc") for line in report.remarks)
    for more in ({"fc.0.weight": torch.ones(8)}, {"fc.4.weight": torch.ones(3, 7), "fc.4.bias": torch.ones(3)}):
        said = refusal(moved | more)
        assert "its last layer is made of several: fc." in said
        assert "networks here end with one linear layer" in said
