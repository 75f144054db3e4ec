"""Random crops of photographs: where they lie, what is decoded for them, and that nothing else decides."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.encoded import Encoded, opened
from residual.data.folder import Wishes, open_folder
from residual.data.images import cropped
from residual.data.preprocessing import measure
from residual.data.source import MemorySource, everything
from residual.data.windows import ASPECT, Crops, Window
from residual.errors import UsageError
from tests.data.photographs import encoded, photographs, picture

unit = st.floats(0, 1, exclude_max=True, width=32)
side = st.integers(1, 3000)


@given(st.tuples(unit, unit, unit, unit), side, side, st.floats(0.01, 1), st.floats(0.01, 1))
def test_an_area_lies_in_the_image_and_is_of_the_size_that_was_drawn(draws, width, height, one, other):
    low, high = sorted((one, other))
    left, top, across, down = Window("area", low, high, draws).box(width, height, (224, 224))
    assert across >= 1
    assert down >= 1
    assert 0 <= left <= width - across
    assert 0 <= top <= height - down
    if min(across, down) >= 20:
        assert ASPECT[0] * 0.9 <= across / down <= ASPECT[1] * 1.1
        assert across * down <= high * width * height * 1.1
        if 0.5 < width / height < 2 and high < 0.3:
            assert across * down >= low * width * height * 0.9


@given(st.tuples(unit, unit, unit, unit), st.integers(1, 2000), st.integers(1, 2000))
def test_a_side_gives_a_crop_of_the_size_asked_for_at_that_scale(draws, width, height):
    window = Window("side", 256, 480, draws)
    left, top, across, down = window.box(width, height, (224, 224))
    assert 0 <= left <= width - across
    assert 0 <= top <= height - down
    shorter = 256 + int(draws[0] * 225)
    assert abs(across - 224 * min(width, height) / shorter) <= 0.5 or across == 1


def test_every_place_and_scale_comes_up():
    draws = torch.rand(4000, 4, generator=torch.Generator().manual_seed(0))
    boxes = [Crops("side", 256, 480, draws)[n].box(500, 375, (224, 224)) for n in range(4000)]
    scales = {round(224 * 375 / across) for _, _, across, _ in boxes}
    assert min(scales) <= 257
    assert max(scales) >= 478
    assert {left == 0 for left, *_ in boxes} == {True, False}
    shares = [
        a * d / (500 * 375)
        for *_, a, d in (Crops("area", 0.1, 0.5, draws)[n].box(500, 375, (9, 9)) for n in range(4000))
    ]
    assert abs(np.mean(shares) - 0.3) < 0.01
    assert 0.098 < min(shares) < 0.11
    assert 0.49 < max(shares) <= 0.505


def crop_of(image, window, size=(32, 32), form="PNG", **options):
    with opened(encoded(image, form, **options), "x") as stored:
        return cropped(Encoded(stored), 3, size, window)


def test_the_pixels_are_those_of_the_box(tmp_path):
    image = picture(1, 2, (90, 60))
    window = Window("area", 0.3, 0.3, (0.5, 0.5, 0.7, 0.2))
    left, top, across, down = window.box(90, 60, (32, 32))
    right = image.crop((left, top, left + across, top + down))
    found = crop_of(image, window, (down, across))
    assert torch.equal(found, torch.from_numpy(np.asarray(right).copy()).permute(2, 0, 1))
    resized = np.asarray(right.resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(crop_of(image, window).permute(1, 2, 0).numpy().astype(int) - resized).max() <= 2


def test_a_turned_image_is_cropped_upright(tmp_path):
    smooth = picture(0, 0, (9, 6)).resize((360, 240), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    for draws in ((0.1, 0.5, 0.9, 0.1), (0.9, 0.2, 0.0, 0.99)):
        window = Window("area", 0.05, 0.9, draws)
        turned = crop_of(smooth, window, form="JPEG", quality=95, exif=exif).float()
        upright = crop_of(smooth.transpose(Image.Transpose.ROTATE_270), window, form="JPEG", quality=95).float()
        assert (turned - upright).abs().mean() < 3


@pytest.mark.parametrize("window", [Window("area", 1, 1, (0.5,) * 4), Window("side", 40, 40, (0.5,) * 4)])
def test_a_large_jpeg_is_decoded_no_larger_than_the_crop_needs(monkeypatch, window):
    smooth = picture(0, 0, (9, 9)).resize((512, 512), Image.Resampling.BICUBIC)
    sizes = []
    array = Encoded.array

    def noted(self, channels, least=None):
        found = array(self, channels, least)
        sizes.append(found.shape[:2])
        return found

    monkeypatch.setattr(Encoded, "array", noted)
    quick = crop_of(smooth, window, form="JPEG", quality=95).float()
    exact = crop_of(smooth, window).float()
    assert sizes == [(64, 64), (512, 512)]
    assert (quick - exact).abs().mean() < 3


# In training


def batches(root, threads=1, seed=0, **augment):
    source = open_folder(root, Wishes(image_size=32, threads=threads)).train
    constants = measure(source, everything(source), "mean-std")
    return Batches(source, everything(source), constants, AugmentSettings(mirror=True, **augment), 7, seed)


CASES = [{"crop_scale": (0.2, 1.0)}, {"short_side": (36, 60)}, {"crop_scale": (0.3, 0.9), "colour_noise": 0.1}]


@pytest.mark.parametrize("augment", CASES, ids=str)
def test_the_same_batch_whatever_the_threads_and_whatever_was_expected(tmp_path, augment):
    root = photographs(tmp_path, count=6)
    plain, many, ahead = (batches(root, threads, **augment) for threads in (1, 8, 2))
    for step in (0, 1, 2, 5, 2):
        ahead.expect(step + 1)
        ahead.expect(step)
        right = plain.batch_at(step)
        for other in (many, ahead):
            assert torch.equal(other.batch_at(step).images, right.images)
    halves = [plain.batch_at(3, rank, 7).images for rank in range(7)]
    assert torch.equal(torch.cat(halves), many.batch_at(3).images)
    assert not torch.equal(batches(root, seed=1, **augment).batch_at(0).images, plain.batch_at(0).images)


def test_an_image_is_cropped_anew_in_every_epoch(tmp_path):
    source = open_folder(photographs(tmp_path, count=1), Wishes(image_size=32)).train
    constants = measure(source, everything(source), "mean-std")
    made = Batches(source, everything(source), constants, AugmentSettings(crop_scale=(0.2, 0.9)), 3, 0)
    first, second = (made.batch_at(step) for step in (0, 1))
    order = [batch.samples.argsort() for batch in (first, second)]
    assert torch.equal(first.samples[order[0]], second.samples[order[1]])
    assert not torch.equal(first.images[order[0]], second.images[order[1]])


def test_what_cannot_be_cropped_is_refused(tmp_path):
    source = open_folder(photographs(tmp_path, count=3), Wishes(image_size=32)).train
    constants = dataclasses.replace(measure(source, everything(source), "mean-std"))
    memory = MemorySource(source.read(everything(source)), source.labels)
    with pytest.raises(UsageError, match=r"no files .*crop_scale.*pad_crop"):
        Batches(memory, everything(source), constants, AugmentSettings(crop_scale=(0.5, 1)), 4, 0)
    with pytest.raises(UsageError, match="30 pixels holds no crop of 32"):
        Batches(source, everything(source), constants, AugmentSettings(short_side=(30, 60)), 4, 0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"crop_scale": (0.5, 0.2)}, "smaller one first"),
        ({"crop_scale": (0, 1)}, "crop_scale"),
        ({"crop_scale": (0.1, 1.5)}, "crop_scale"),
        ({"crop_scale": 0.5}, "crop_scale"),
        ({"short_side": (480, 256)}, "smaller one first"),
        ({"short_side": (256.5, 480)}, "short_side"),
        ({"crop_scale": (0.1, 1), "short_side": (256, 480)}, "choose one"),
    ],
)
def test_settings_that_are_none(wrong, words):
    with pytest.raises(ValueError, match=words):
        AugmentSettings(**wrong)
