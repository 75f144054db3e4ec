"""Shortcuts against independent arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.models.layers import Layers
from residual.models.shortcuts import PooledShortcut, ProjectionShortcut, ZeroPadShortcut, make_shortcut

LAYERS = Layers()


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 1)])
@pytest.mark.parametrize("channels", [(4, 8), (3, 10), (5, 5)])
def test_option_a_keeps_every_second_pixel_and_appends_zeros(channels, size):
    c_in, c_out = channels
    x = maps(2, c_in, *size)
    # A pooling window of one pixel is a subsampling; the zeros are put behind by hand.
    sampled = F.avg_pool2d(x, 1, stride=2)
    zeros = torch.zeros(2, c_out - c_in, *sampled.shape[2:])
    assert torch.equal(ZeroPadShortcut(c_in, c_out, 2)(x), torch.cat([sampled, zeros], dim=1))
    front, behind = zeros.tensor_split([(c_out - c_in) // 2], dim=1)
    both = ZeroPadShortcut(c_in, c_out, 2, both_sides=True)(x)
    assert torch.equal(both, torch.cat([front, sampled, behind], dim=1))


def test_option_a_passes_the_gradient_to_the_kept_pixels_alone():
    x = maps(1, 2, 4, 4).requires_grad_()
    ZeroPadShortcut(2, 4, 2)(x).sum().backward()
    expected = torch.zeros(1, 2, 4, 4)
    expected[:, :, ::2, ::2] = 1
    assert x.grad is not None
    assert torch.equal(x.grad, expected)


def normalised(z: Tensor) -> Tensor:
    mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), unbiased=False, keepdim=True)
    return (z - mean) / (variance + 1e-5).sqrt()


def mixed(shortcut: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 convolution as a product for each pixel."""
    return torch.einsum("oc,nchw->nohw", shortcut.get_parameter("conv.weight")[:, :, 0, 0], x)


def test_option_b_is_a_product_per_kept_pixel_then_batch_normalisation():
    x = maps(4, 3, 6, 6)
    shortcut = ProjectionShortcut(3, 5, 2, LAYERS)
    torch.testing.assert_close(shortcut(x), normalised(mixed(shortcut, x[:, :, ::2, ::2])))
    bare = ProjectionShortcut(3, 5, 2, LAYERS, normalised=False)
    torch.testing.assert_close(bare(x), mixed(bare, x[:, :, ::2, ::2]))


@pytest.mark.parametrize("channels", [1, 3, 4, 7, 8, 15, 16])
def test_option_b_of_few_channels_has_the_gradient_of_its_definition(channels):
    # oneDNN's own (issue 6035) was wrong here, or never came, on a processor with AVX2 and fewer than 8 channels.
    torch.manual_seed(0)
    shortcut = ProjectionShortcut(channels, 8, 2, Layers(normalise=False, bias=True))
    # The stubs of torch do not know `memory_format` here.
    shortcut.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    maps = torch.randn(30, channels, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    sent = torch.randn(30, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    made = shortcut(maps)
    made.backward(sent)
    weight, bias = shortcut.get_parameter("conv.weight"), shortcut.get_parameter("conv.bias")
    kept, weights = maps.detach()[..., ::2, ::2], weight.detach()[..., 0, 0]
    torch.testing.assert_close(made, torch.einsum("nihw,oi->nohw", kept, weights) + bias[:, None, None])
    gradient = torch.einsum("nihw,nohw->oi", kept.double(), sent.double()).float()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad[..., 0, 0], gradient, atol=1e-3, rtol=1e-4)
    back = torch.zeros_like(maps)
    back[..., ::2, ::2] = torch.einsum("nohw,oi->nihw", sent, weights)
    assert maps.grad is not None
    torch.testing.assert_close(maps.grad, back)
    assert maps.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
def test_pooled_shortcut_averages_the_pixels_there_are(size):
    x = maps(4, 3, *size)
    shortcut = PooledShortcut(3, 5, 2, LAYERS)
    squares = [[x[:, :, i : i + 2, j : j + 2].mean((2, 3)) for j in range(0, size[1], 2)] for i in range(0, size[0], 2)]
    pooled = torch.stack([torch.stack(row, 2) for row in squares], 2)
    torch.testing.assert_close(shortcut(x), normalised(mixed(shortcut, pooled)))
    alone = PooledShortcut(3, 3, 2, LAYERS)
    torch.testing.assert_close(alone(x), pooled)
    assert list(alone.parameters()) == []


@pytest.mark.parametrize("kind", ["A", "A-both", "B", "avgpool"])
def test_nothing_to_change_is_the_identity(kind):
    shortcut = make_shortcut(kind, 4, 4, 1, LAYERS)
    x = maps(1, 4, 3, 3)
    assert shortcut is not None
    assert shortcut(x) is x


def test_option_c_projects_even_where_nothing_changes():
    shortcut = make_shortcut("C", 4, 4, 1, LAYERS)
    assert isinstance(shortcut, ProjectionShortcut)
    x = maps(2, 4, 3, 3)
    torch.testing.assert_close(shortcut(x), normalised(mixed(shortcut, x)))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("A", ZeroPadShortcut),
        ("A-both", ZeroPadShortcut),
        ("B", ProjectionShortcut),
        ("C", ProjectionShortcut),
        ("avgpool", PooledShortcut),
    ],
)
@pytest.mark.parametrize(("c_out", "stride"), [(8, 2), (4, 2), (8, 1)])
def test_kind_at_a_change(kind, expected, c_out, stride):
    shortcut = make_shortcut(kind, 4, c_out, stride, LAYERS)
    assert isinstance(shortcut, expected)
    assert shortcut(maps(2, 4, 5, 6)).shape == (2, c_out, -(-5 // stride), 6 // stride)


def test_plain_has_none():
    assert make_shortcut("none", 4, 8, 2, LAYERS) is None
