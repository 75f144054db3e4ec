"""Colours: principal axes of the training images, noise along them, jitter of brightness, contrast and saturation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from residual.chance import stream
from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.colour import add_noise, draw_jitter, draw_noise, jitter, principal_colours
from residual.data.preprocessing import measure
from residual.data.source import MemorySource, everything


def source(count=40, channels=3, size=8):
    chance = np.random.default_rng(0)
    mixing = chance.normal(size=(channels, channels))
    values = chance.normal(size=(count, size, size, channels)) @ mixing * 20 + 120
    pixels = torch.from_numpy(values.clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
    return MemorySource(pixels, torch.arange(count) % 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_axes_are_those_of_the_covariance(channels):
    images = source(channels=channels)
    axes = principal_colours(images, everything(images)).double()
    flat = images.images.double().transpose(0, 1).flatten(1) / 255
    covariance = torch.cov(flat, correction=0).reshape(channels, channels)
    values, directions = axes.norm(dim=1), axes / axes.norm(dim=1, keepdim=True)
    assert torch.allclose(directions @ covariance @ directions.T, torch.diag(values), atol=1e-7)
    assert torch.allclose(values.sum(), covariance.diag().sum())
    some = torch.tensor([3, 1, 2])
    assert torch.equal(principal_colours(images, some), principal_colours(images, some.flip(0)))


def test_noise_is_one_shift_of_an_image_along_the_axes():
    axes = torch.diag(torch.tensor([0.2, 0.02, 0.01]))
    draws = torch.tensor([[1.0, 0, 0], [0, -1, 0.5]])
    images = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    shift = add_noise(images, draws, axes, torch.full((3, 1, 1), 0.5)) - images
    assert torch.allclose(shift[0, :, 0, 0], torch.tensor([0.4, 0, 0]), atol=1e-6)
    assert torch.allclose(shift[1, :, 2, 3], torch.tensor([0, -0.04, 0.01]), atol=1e-6)
    assert shift.flatten(2).std(2).max() < 1e-6
    many = draw_noise(20_000, stream(0, "x"), 0.1)
    assert abs(many.std().item() - 0.1) < 0.002
    assert many.shape == (20_000, 3)


def test_a_batch_with_noise_is_the_batch_without_it_shifted():
    images = source()
    constants = measure(images, everything(images), "mean-std")
    plain, noisy = (
        Batches(images, everything(images), constants, AugmentSettings(colour_noise=n), 8, 0).batch_at(3).images
        for n in (0.0, 0.5)
    )
    shift = (noisy - plain).flatten(2)
    assert shift.std(2).max() < 1e-5
    assert shift.abs().max() > 1e-3


def test_jitter_of_nothing_changes_nothing_and_each_factor_does_what_it_says():
    pixels = source().images[:4]
    assert torch.equal(jitter(pixels, torch.ones(4, 3)), pixels)
    brighter = jitter(pixels, torch.tensor([[1.3, 1, 1]]).expand(4, 3))
    assert torch.equal(brighter, (pixels.float() * 1.3).clamp(0, 255).round().to(torch.uint8))
    flat = jitter(pixels, torch.tensor([[1.0, 0, 1]]).expand(4, 3))
    assert flat.flatten(1).float().std(1).max() == 0
    grey = jitter(pixels, torch.tensor([[1.0, 1, 0]]).expand(4, 3))
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert (grey[:, :1].float() - (pixels.float() * weights).sum(1, keepdim=True)).abs().max() <= 0.51
    factors = draw_jitter(1000, stream(0, "x"), 0.4)
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4
