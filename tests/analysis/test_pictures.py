"""A sheet shows the pixels that the network sees, each with its label."""

import numpy as np
import pytest
import torch
from PIL import Image

from residual.analysis import pictures
from residual.analysis.pictures import displayed, draw_sheet
from residual.data.preprocessing import measure
from residual.data.source import MemorySource, everything
from residual.errors import UsageError


def colours_in(path):
    with Image.open(path) as picture:
        return {
            tuple(colour) for colour in np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0).tolist()
        }


@pytest.mark.parametrize("normalisation", ["mean-std", "per-pixel-mean"])
@pytest.mark.parametrize("channels", [1, 3])
def test_display_undoes_normalisation_exactly(normalisation, channels):
    pixels = torch.randint(256, (50, channels, 16, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    source = MemorySource(pixels, torch.zeros(50, dtype=torch.int64))
    constants = measure(source, everything(source), normalisation)
    found = displayed(constants.normalise(pixels), constants)
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels.permute(0, 2, 3, 1).numpy())


def test_what_augmentation_left_empty_shows_as_the_mean():
    pixels = torch.randint(256, (50, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    source = MemorySource(pixels, torch.zeros(50, dtype=torch.int64))
    constants = measure(source, everything(source), "mean-std")
    empty = displayed(torch.zeros(1, 3, 8, 8), constants)
    assert np.abs(empty[0, 0, 0] - pixels.float().mean((0, 2, 3)).numpy()).max() <= 0.5
    far = displayed(torch.full((1, 3, 8, 8), 1e6), constants)
    assert far.min() == 255


@pytest.mark.parametrize("count", [1, 7, 12])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_sheet_has_every_image_up_to_the_most(tmp_path, monkeypatch, count, suffix):
    monkeypatch.setattr(pictures, "MOST", 9)
    if suffix == ".svg" and count > 7:
        return
    colours = np.zeros((count, 8, 8, 3), np.uint8)
    colours[..., 0] = np.linspace(60, 255, count).round()[:, None, None]
    colours[..., 2] = 255 - colours[..., 0]
    path = tmp_path / f"sheet{suffix}"
    draw_sheet(colours, [f"class $_{number}^" for number in range(count)], "a title", path)
    if suffix == ".svg":
        assert path.read_text().count("<image") == count
        return
    drawn = colours_in(path)
    expected = {tuple(image[0, 0].tolist()) for image in colours}
    missing = {tuple(image[0, 0].tolist()) for image in colours[9:]}
    assert expected - missing <= drawn
    assert not missing & drawn


def test_grey_images_are_grey(tmp_path):
    draw_sheet(np.full((3, 8, 8, 1), 77, np.uint8), ["a", "b", "c"], "grey", tmp_path / "x.png")
    assert (77, 77, 77) in colours_in(tmp_path / "x.png")


def test_a_sheet_of_nothing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no image to draw"):
        draw_sheet(np.zeros((0, 8, 8, 3), np.uint8), [], "x", tmp_path / "x.png")
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        draw_sheet(np.zeros((1, 8, 8, 3), np.uint8), ["a"], "x", tmp_path / "x.jpg")
    assert list(tmp_path.iterdir()) == []
