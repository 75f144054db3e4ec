"""The same questions to every augmentation: each field of `AugmentSettings` alone, and all together."""

import pytest
import torch

from residual.data.augment import AugmentSettings, augment, choose, on_pixels
from residual.training.recipes import RECIPES

# A value that changes images, for every field that treats each image by itself; a new field must be given one.
CHANGING = {"pad_crop": 4, "shift": 2, "mirror": True, "cutout": 5, "erase": 1.0}
ON_PIXELS = {"trivial": True, "colour_jitter": 0.4}
OF_SQUARES = {"dihedral": True}
BETWEEN_PIXELS = {"rotate": 30.0}
OF_THE_BATCH = {"mixup", "cutmix", "sizes"}  # questioned in tests/data/test_mixing.py and test_resizing.py
OF_FILES = {"crop_scale", "short_side"}  # in tests/data/test_windows.py
OF_THE_COLOURS = {"colour_noise"}  # in tests/data/test_colour.py
HOW = {"mirror_by"}
MOVING = {**CHANGING, **OF_SQUARES}
ON_SQUARES = {**MOVING, **BETWEEN_PIXELS}
CASES = {**{name: {name: value} for name, value in ON_SQUARES.items()}, "all together": ON_SQUARES}
SHAPES = [(16, 3, 32, 32), (16, 1, 7, 10)]


def images(shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(8)).to(dtype)


def augmented(before, settings, seed=0, epoch=0):
    return augment(before, choose(len(before), settings, seed, epoch), settings)


def test_every_field_is_asked():
    assert {
        *CHANGING,
        *OF_SQUARES,
        *BETWEEN_PIXELS,
        *ON_PIXELS,
        *OF_THE_BATCH,
        *OF_FILES,
        *OF_THE_COLOURS,
        *HOW,
    } == AugmentSettings.model_fields.keys()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("chosen", [{name: value} for name, value in ON_PIXELS.items()], ids=str)
def test_what_is_done_to_pixels_keeps_their_shape_and_type_and_treats_each_image_alone(chosen, shape):
    before = torch.randint(256, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    kept, settings = before.clone(), AugmentSettings(**chosen)
    draws = choose(len(before), settings, 0, 0)
    after = on_pixels(before, draws, settings)
    assert (after.shape, after.dtype) == (before.shape, torch.uint8)
    assert not torch.equal(after, before)
    assert torch.equal(before, kept)
    assert torch.equal(on_pixels(before, draws, settings), after)
    assert not torch.equal(on_pixels(before, choose(len(before), settings, 0, 1), settings), after)
    rows = torch.tensor([9, 2, 2])
    assert torch.equal(on_pixels(before[rows], draws.rows(rows), settings), after[rows])
    assert torch.equal(on_pixels(before, draws, AugmentSettings()), before)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chosen", CASES.values(), ids=CASES)
def test_shape_and_type_are_kept_and_the_images_given_left_alone(chosen, shape, dtype):
    before = images(shape, dtype)
    if shape[2] != shape[3]:
        chosen = {name: value for name, value in chosen.items() if name not in OF_SQUARES} or CHANGING
    kept = before.clone()
    after = augmented(before, AugmentSettings(**chosen))
    assert (after.shape, after.dtype, after.device) == (before.shape, before.dtype, before.device)
    assert not torch.equal(after, before)
    assert torch.equal(before, kept)


def test_nothing_is_done_unless_asked():
    before = images(SHAPES[0])
    assert torch.equal(augmented(before, AugmentSettings()), before)
    off = AugmentSettings(**{name: type(value)(0) for name, value in ON_SQUARES.items()})
    assert off == AugmentSettings()


@pytest.mark.parametrize("chosen", CASES.values(), ids=CASES)
def test_the_same_address_gives_the_same_images_and_another_one_others(chosen):
    before, settings = images(SHAPES[0]), AugmentSettings(**chosen)
    first = augmented(before, settings, seed=1, epoch=2)
    torch.manual_seed(77)
    assert torch.equal(augmented(before, settings, seed=1, epoch=2), first)
    assert not torch.equal(augmented(before, settings, seed=2, epoch=2), first)
    assert not torch.equal(augmented(before, settings, seed=1, epoch=3), first)


@pytest.mark.parametrize("chosen", CASES.values(), ids=CASES)
def test_an_image_is_treated_alike_in_any_company(chosen):
    before, settings = images(SHAPES[0]), AugmentSettings(**chosen)
    draws = choose(len(before), settings, 0, 0)
    whole = augment(before, draws, settings)
    for rows in (torch.tensor([5]), torch.tensor([9, 2, 2]), torch.arange(16).flip(0)):
        assert torch.equal(augment(before[rows], draws.rows(rows), settings), whole[rows])


@pytest.mark.parametrize("chosen", [{name: value} for name, value in MOVING.items()] + [MOVING], ids=str)
def test_every_pixel_is_one_of_the_image_or_the_border(chosen):
    """No augmentation here makes a new value: pixels move, or the border's zeros come in."""
    before = images(SHAPES[0])
    for image, found in zip(before, augmented(before, AugmentSettings(**chosen)), strict=True):
        assert torch.isin(found, torch.cat([image.flatten(), torch.zeros(1)])).all()


@pytest.mark.parametrize("chosen", CASES.values(), ids=CASES)
def test_settings_survive_json_and_refuse_what_is_out_of_range(chosen):
    settings = AugmentSettings(**chosen)
    assert AugmentSettings.model_validate_json(settings.model_dump_json()) == settings
    for name, value in chosen.items():
        for wrong in (-1, 999, float("nan"), "many", [value]):
            with pytest.raises(ValueError, match=name):
                AugmentSettings(**{name: wrong})


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_mirrors_what_has_a_left_and_a_right(name):
    data = RECIPES[name].data
    assert not (data.dataset == "digits" and data.augment.mirror)
