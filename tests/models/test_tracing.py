"""Networks are traced by torch.fx and exported, so that programs that take networks apart can take these."""

from __future__ import annotations

import pytest
import torch

import residual


@pytest.mark.parametrize("name", ["resnet-20", "preact-20", "resnet-50", "vgg-16", "fastbook-resnet50-3x3stem"])
def test_a_traced_network_answers_as_the_network(name: str) -> None:
    network = residual.build(name, classes=5, image_size=32).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    traced = torch.fx.symbolic_trace(network)
    with torch.no_grad():
        for layout in (torch.contiguous_format, torch.channels_last):
            given = images.contiguous(memory_format=layout)
            torch.testing.assert_close(traced(given), network(given))
