"""Holes: where they may lie, how large they are, how often; and that nothing else changes."""

import numpy as np
import pytest
import torch

from residual.data.augment import AugmentSettings, choose
from residual.data.erasing import cutout, erase


def ones(count, height=20, width=30):
    return torch.ones(count, 2, height, width)


def hole(image):
    """(top, bottom, left, right) of the zeros of one image, which must be a full rectangle in every channel."""
    zero = (image == 0).numpy()
    assert np.array_equal(zero[0], zero[1])
    if not zero.any():
        return None
    rows, columns = np.nonzero(zero[0])
    box = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    assert zero[0, box[0] : box[1], box[2] : box[3]].all()
    return tuple(int(edge) for edge in box)


def test_cutout_is_a_square_around_any_pixel_cut_at_the_edge():
    centres = torch.cartesian_prod(torch.arange(20) / 20 + 0.01, torch.arange(30) / 30 + 0.01)
    found = [hole(image) for image in cutout(ones(len(centres)), centres, 8)]
    for box, (row, column) in zip(found, centres.tolist(), strict=True):
        top, left = int(row * 20) - 4, int(column * 30) - 4
        assert box == (max(0, top), min(20, top + 8), max(0, left), min(30, left + 8))


def test_erased_rectangles_have_the_areas_and_aspects_of_the_paper():
    count = 4000
    draws = choose(count, AugmentSettings(erase=1.0), seed=0, epoch=0).tables["erase"]
    boxes = [hole(image) for image in erase(torch.ones(count, 2, 100, 100), draws, 1.0)]
    areas = np.array([(bottom - top) * (right - left) / 10_000 for top, bottom, left, right in boxes])
    assert areas.min() > 0.015
    assert areas.max() < 0.41
    assert abs(areas.mean() - 0.21) < 0.015  # uniform in [.02, .4], a little less for those cut to the image
    aspects = np.array([(bottom - top) / (right - left) for top, bottom, left, right in boxes])
    assert aspects.min() >= 0.27
    assert aspects.max() <= 3.7
    assert abs(np.log(aspects).mean()) < 0.05  # as often high as wide
    tops = np.array([top / (100 - (bottom - top)) for top, bottom, _, _ in boxes if bottom - top < 90])
    assert abs(tops.mean() - 0.5) < 0.03


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_images_is_erased(share):
    draws = choose(3000, AugmentSettings(erase=0.5), seed=1, epoch=0).tables["erase"]
    erased = [hole(image) is not None for image in erase(ones(3000), draws, share)]
    assert abs(np.mean(erased) - share) < 0.03
    assert (np.mean(erased) == share) or share == 0.25
