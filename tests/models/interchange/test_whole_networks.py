"""ResNet-18, 50 and 101 in their full size: the weights of other libraries in, their logits out.

Twenty random images, in evaluation and in training (Keras: evaluation), within 1e-5 of the largest logit. The other
side are plain functions of the libraries' tensors (`layouts`), since the libraries are no tools of this project; with
the libraries themselves `make campaign peers` compares.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from residual.models.interchange.families import bring_in
from residual.models.interchange.foreign import Foreign
from tests.models.interchange import layouts
from tests.models.interchange.layouts import Layers, State
from tests.models.interchange.test_mappings import close

WIDTHS = (64, 128, 256, 512)
IMAGES = torch.randn(20, 3, 48, 48, generator=torch.Generator().manual_seed(9))

TORCHVISION: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet-18": ((2, 2, 2, 2), False),
    "resnet-50-v1.5": ((3, 4, 6, 3), True),
    "resnet-101-v1.5": ((3, 4, 23, 3), True),
}
KERAS: dict[str, tuple[Callable[..., State], Callable[[State, Tensor], Tensor]]] = {
    "resnet-50-keras": (layouts.make_keras, layouts.keras),
    "preact-50-keras": (layouts.make_keras_v2, layouts.keras_v2),
}


@pytest.mark.parametrize("name", TORCHVISION)
@torch.inference_mode()
def test_torchvision(name):
    depths, bottleneck = TORCHVISION[name]
    state = layouts.make_resnet(depths, WIDTHS, bottleneck, 1000)
    network, *_ = bring_in(Foreign(state, "made"), "torchvision", "here")
    assert network.spec.name == name
    for training in (False, True):
        expected = layouts.resnet(Layers(state, training), IMAGES)
        assert expected.std() > 0.01
        assert close(network.train(training)(IMAGES), expected)


@pytest.mark.parametrize("name", KERAS)
@torch.inference_mode()
def test_keras(name):
    make, answer = KERAS[name]
    state = make((3, 4, 6, 3), WIDTHS, 1000)
    brought = bring_in(Foreign(state, "made"), "keras", "here")
    assert brought.network.spec.name == name
    assert brought.sight is not None
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (brought.sight.mean, brought.sight.std))
    pixels = torch.randint(0, 256, (20, 48, 48, 3), generator=torch.Generator().manual_seed(2)).float()
    expected = answer(state, pixels)
    assert expected.std() > 0.01
    assert close(brought.network((pixels.permute(0, 3, 1, 2) / 255 - mean) / std), expected)
