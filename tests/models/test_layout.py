"""A training step on channels-last maps stays channels-last, there and back.

An elementwise operation on two tensors of unlike layouts is tens of times slower than on two of one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from residual.models import NetworkSettings, build, put, resolve
from residual.models.shortcuts import ZeroPadShortcut


class Unlike(TorchDispatchMode):
    """Collects the operations that read two maps (N, C, H, W) of one shape in two layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.found, self.pairs = set[str](), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        maps = [t for t in args if isinstance(t, Tensor) and t.ndim == 4 and min(t.shape) > 1]
        for one, other in pairwise(maps):
            if one.shape == other.shape:
                self.pairs += 1
                if one.stride() != other.stride():
                    self.found.add(f"{func} {tuple(one.shape)} {one.stride()} {other.stride()}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "shortcut"), [("resnet-20", "A"), ("preact-20", "A-both"), ("resnet-50", "B"), ("resnet-18", "avgpool")]
)
def test_no_operation_of_a_step_reads_two_layouts(name: str, shortcut: str) -> None:
    widths = (8, 12, 16) if name.endswith("20") else (4, 6, 8, 12)
    settings = NetworkSettings(name=name, shortcut=shortcut, widths=widths)
    network = build(resolve(settings, 10, 3, (33, 33)))
    put(network, torch.device("cpu"), torch.channels_last).train()
    images = torch.randn(5, 3, 33, 33).contiguous(memory_format=torch.channels_last)
    with Unlike() as mode:
        network(images).sum().backward()
    assert mode.pairs > 40
    assert mode.found == set()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("side", [7, 8])
def test_option_a_takes_every_second_pixel_and_gives_its_gradient_back(layout: torch.memory_format, side: int) -> None:
    maps = torch.randn(3, 4, side, side).contiguous(memory_format=layout).requires_grad_()
    given = ZeroPadShortcut(4, 6, 2)(maps)
    half = (side + 1) // 2
    assert torch.equal(given, torch.cat([maps[:, :, ::2, ::2], torch.zeros(3, 2, half, half)], 1))
    weights = torch.randn(3, 6, half, half)
    (given * weights).sum().backward()
    expected = torch.zeros_like(maps)
    expected[:, :, ::2, ::2] = weights[:, :4]
    assert maps.grad is not None
    assert torch.equal(maps.grad, expected)
    assert maps.grad.is_contiguous(memory_format=layout)
