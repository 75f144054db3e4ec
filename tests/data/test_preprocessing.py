"""The constants are those of the images trained on, in float64, and travel with the model."""

import json

import numpy as np
import pytest
import torch

from residual.data.preprocessing import Preprocessing, measure
from residual.data.source import MemorySource

SHAPE = (40, 3, 5, 7)


@pytest.fixture
def source():
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(256, SHAPE, generator=generator).to(torch.uint8)
    images[:, 1] //= 3  # channels of different mean and spread
    return MemorySource(images, torch.zeros(SHAPE[0], dtype=torch.int64))


CHOSEN = torch.arange(0, 30)


def pixels(source):
    return source.images[CHOSEN].numpy().astype(np.float64) / 255


def test_mean_and_deviation_of_each_channel(source):
    found = measure(source, CHOSEN, "mean-std")
    assert (found.image_size, found.channels, found.normalisation) == ((5, 7), 3, "mean-std")
    assert (found.mean.shape, found.std.shape) == ((3, 1, 1), (3, 1, 1))
    np.testing.assert_allclose(found.mean.flatten(), pixels(source).mean((0, 2, 3)), rtol=1e-7)
    np.testing.assert_allclose(found.std.flatten(), pixels(source).std((0, 2, 3)), rtol=1e-7)


def test_mean_image(source):
    found = measure(source, CHOSEN, "per-pixel-mean")
    assert found.mean.shape == (3, 5, 7)
    np.testing.assert_allclose(found.mean, pixels(source).mean(0), rtol=1e-7)
    assert found.std.unique().tolist() == [1.0]


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
def test_images_that_are_not_named_play_no_part(source, normalisation):
    before = measure(source, CHOSEN, normalisation)
    source.images[len(CHOSEN) :] = 255
    after = measure(source, CHOSEN, normalisation)
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.std, after.std)


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
def test_the_order_and_the_parts_read_at_a_time_play_no_part(source, normalisation, monkeypatch):
    before = measure(source, CHOSEN, normalisation)
    monkeypatch.setattr("residual.data.preprocessing._PART", 7)
    after = measure(source, CHOSEN.flip(0), normalisation)
    assert torch.equal(before.mean, after.mean)
    assert torch.equal(before.std, after.std)


def test_normalised_images_have_mean_zero_and_deviation_one(source):
    found = measure(source, CHOSEN, "mean-std").normalise(source.read(CHOSEN))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.double().mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(found.double().std((0, 2, 3), correction=0), 1, atol=1e-6)


def test_images_of_one_colour_do_not_divide_by_zero():
    grey = MemorySource(torch.full((9, 1, 4, 4), 77, dtype=torch.uint8), torch.zeros(9, dtype=torch.int64))
    found = measure(grey, torch.arange(9), "mean-std").normalise(grey.images)
    assert found.isfinite().all()
    assert found.abs().max() < 1e-3


def test_a_channel_that_is_the_same_everywhere_does_not_magnify_what_differs_from_it():
    """Colour jitter, or one grey level in an image to predict, would else be millions of deviations."""
    pixels = torch.randint(0, 256, (9, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[:, 1] = 77
    found = measure(MemorySource(pixels, torch.zeros(9, dtype=torch.int64)), torch.arange(9), "mean-std")
    assert found.flat() == [1]
    assert found.std[1].item() == pytest.approx(1 / 255)
    pixels[:, 1] = 78
    assert found.normalise(pixels)[:, 1].abs().max() < 1.01
    pixels[0, 1] = 0
    again = measure(MemorySource(pixels, torch.zeros(9, dtype=torch.int64)), torch.arange(9), "mean-std")
    assert again.flat() == []
    assert (
        measure(MemorySource(pixels, torch.zeros(9, dtype=torch.int64)), torch.arange(9), "per-pixel-mean").flat() == []
    )


def test_normalising_leaves_the_images_alone(source):
    before = source.images.clone()
    measure(source, CHOSEN, "per-pixel-mean").normalise(source.images)
    assert torch.equal(source.images, before)


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
def test_constants_survive_their_files(source, normalisation):
    found = measure(source, CHOSEN, normalisation)
    again = Preprocessing.restore(json.loads(json.dumps(found.facts())), found.tensors())
    assert again.facts() == found.facts()
    assert torch.equal(again.normalise(source.images), found.normalise(source.images))


@pytest.mark.parametrize(
    ("facts", "tensors"),
    [
        ({"image_size": [0, 7]}, {}),
        ({"image_size": [5, 1 << 30]}, {}),
        ({"image_size": [5.0, 7]}, {}),
        ({"image_size": [5]}, {}),
        ({"channels": True}, {}),
        ({"channels": 1}, {}),
        ({"normalisation": "none"}, {}),
        ({"normalisation": "per-pixel-mean"}, {}),
        ({}, {"mean": torch.tensor([[[float("nan")]]] * 3)}),
        ({}, {"mean": torch.zeros(3)}),
        ({}, {"mean": torch.zeros(3, 1, 1).double()}),
        ({}, {"std": torch.zeros(3, 1, 1)}),
        ({}, {"std": torch.full((3, 1, 1), float("inf"))}),
    ],
    ids=range(13),
)
def test_constants_that_cannot_be_used_are_refused(source, facts, tensors):
    found = measure(source, CHOSEN, "mean-std")
    with pytest.raises(ValueError, match=r"."):
        Preprocessing.restore(found.facts() | facts, found.tensors() | tensors)
