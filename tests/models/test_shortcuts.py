"""Shortcuts against independent arithmetic."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from residual.models.shortcuts import ProjectionShortcut, ZeroPadShortcut, make_shortcut

NORM = partial(nn.BatchNorm2d, eps=1e-5, momentum=0.1)


def maps(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 1)])
@pytest.mark.parametrize("channels", [(4, 8), (3, 10), (5, 5)])
def test_option_a_keeps_every_second_pixel_and_appends_zeros(channels, size):
    c_in, c_out = channels
    x = maps(2, c_in, *size)
    # A pooling window of one pixel is a subsampling; the zeros are put behind by hand.
    sampled = F.avg_pool2d(x, 1, stride=2)
    expected = torch.cat([sampled, torch.zeros(2, c_out - c_in, *sampled.shape[2:])], dim=1)
    assert torch.equal(ZeroPadShortcut(c_in, c_out, 2)(x), expected)


def test_option_a_passes_the_gradient_to_the_kept_pixels_alone():
    x = maps(1, 2, 4, 4).requires_grad_()
    ZeroPadShortcut(2, 4, 2)(x).sum().backward()
    expected = torch.zeros(1, 2, 4, 4)
    expected[:, :, ::2, ::2] = 1
    assert torch.equal(x.grad, expected)


def test_option_b_is_a_product_per_kept_pixel_then_batch_normalisation():
    x = maps(4, 3, 6, 6)
    shortcut = ProjectionShortcut(3, 5, 2, NORM)
    z = torch.einsum("oc,nchw->nohw", shortcut.conv.weight[:, :, 0, 0], x[:, :, ::2, ::2])
    mean, variance = z.mean((0, 2, 3), keepdim=True), z.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(shortcut(x), (z - mean) / (variance + 1e-5).sqrt())


@pytest.mark.parametrize("kind", ["A", "B"])
def test_nothing_to_change_is_the_identity(kind):
    shortcut = make_shortcut(kind, 4, 4, 1, NORM)
    x = maps(1, 4, 3, 3)
    assert shortcut is not None
    assert shortcut(x) is x


@pytest.mark.parametrize(("kind", "expected"), [("A", ZeroPadShortcut), ("B", ProjectionShortcut)])
@pytest.mark.parametrize(("c_out", "stride"), [(8, 2), (4, 2), (8, 1)])
def test_kind_at_a_change(kind, expected, c_out, stride):
    shortcut = make_shortcut(kind, 4, c_out, stride, NORM)
    assert isinstance(shortcut, expected)
    assert shortcut(maps(2, 4, 6, 6)).shape == (2, c_out, 6 // stride, 6 // stride)


def test_plain_has_none():
    assert make_shortcut("none", 4, 8, 2, NORM) is None
