"""Chance in one function, arithmetic in the others; both against something simpler."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from residual.data.augment import AugmentSettings, Draws, augment, choose, flip, move, orient
from residual.data.batches import check_crops
from residual.data.digits import read_digits
from residual.data.trivial import turned
from residual.errors import UsageError

GENERATOR = torch.Generator()


def images(count=6, channels=2, height=5, width=4):
    return torch.randn(count, channels, height, width, generator=GENERATOR.manual_seed(1))


def slowly_moved(image, top, left, pixels, border):
    """One image CHW cut at (top, left) of the padded one, pixel by pixel."""
    channels, height, width = image.shape
    found = np.zeros(image.shape, np.float32)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                y, x = row + top - pixels, column + left - pixels
                if border == "replicate":
                    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
                if 0 <= y < height and 0 <= x < width:
                    found[channel, row, column] = image[channel, y, x]
    return found


@pytest.mark.parametrize("border", ["constant", "replicate"])
@pytest.mark.parametrize("pixels", [1, 3])
def test_every_move_equals_the_slow_one(border, pixels):
    offsets = torch.cartesian_prod(torch.arange(2 * pixels + 1), torch.arange(2 * pixels + 1))
    before = images(len(offsets))
    kept = before.clone()
    moved = move(before, offsets, pixels, border)
    for found, image, (top, left) in zip(moved, before, offsets.tolist(), strict=True):
        assert np.array_equal(found.numpy(), slowly_moved(image.numpy(), top, left, pixels, border))
    assert torch.equal(before, kept)


def test_flip_mirrors_the_named_images_left_to_right():
    before = images()
    mirrored = torch.tensor([True, False, False, True, True, False])
    for found, image, named in zip(flip(before, mirrored), before.numpy(), mirrored.tolist(), strict=True):
        assert np.array_equal(found.numpy(), image[:, :, ::-1] if named else image)


def test_shift_comes_first_then_crop_then_mirror():
    settings = AugmentSettings(pad_crop=2, shift=1, mirror=True)
    before = images(1)
    tables = {"crop": torch.tensor([[0, 4]]), "shift": torch.tensor([[2, 0]]), "mirror": torch.tensor([True])}
    draws = Draws(tables)
    expected = slowly_moved(before[0].numpy(), 2, 0, 1, "replicate")
    expected = slowly_moved(expected, 0, 4, 2, "constant")[:, :, ::-1]
    assert np.array_equal(augment(before, draws, settings)[0].numpy(), expected)


@pytest.mark.parametrize("kind", ["pad_crop", "shift"])
def test_offsets_are_uniform_with_both_ends(kind):
    count, pixels = 18_000, 4
    draws = choose(count, AugmentSettings(**{kind: pixels}), seed=0, epoch=0)
    offsets = draws.tables["crop" if kind == "pad_crop" else "shift"]
    assert offsets.shape == (count, 2)
    for axis in range(2):
        counts = offsets[:, axis].bincount(minlength=9)
        assert len(counts) == 9
        assert (counts - count / 9).abs().max() < 5 * (count / 9) ** 0.5
    # Rows and columns are drawn apart.
    assert abs(float(torch.corrcoef(offsets.T.double())[0, 1])) < 0.05


def test_half_of_the_images_are_mirrored():
    share = choose(10_000, AugmentSettings(mirror=True), seed=0, epoch=0).tables["mirror"].double().mean()
    assert abs(float(share) - 0.5) < 0.025
    assert not choose(10_000, AugmentSettings(mirror=False), seed=0, epoch=0).tables


def test_seed_epoch_and_kind_each_have_their_own_draws():
    settings = AugmentSettings(pad_crop=4, shift=4, mirror=True)
    first = choose(500, settings, seed=0, epoch=0)
    assert not torch.equal(first.tables["crop"], first.tables["shift"])
    for other in (choose(500, settings, seed=1, epoch=0), choose(500, settings, seed=0, epoch=1)):
        for kind, table in first.tables.items():
            assert not torch.equal(table, other.tables[kind])


def test_one_kind_does_not_change_the_draws_of_another():
    alone = choose(500, AugmentSettings(pad_crop=4), seed=0, epoch=3)
    together = choose(500, AugmentSettings(pad_crop=4, shift=2, mirror=True), seed=0, epoch=3)
    assert torch.equal(alone.tables["crop"], together.tables["crop"])


def test_rows_are_those_of_the_samples():
    draws = choose(10, AugmentSettings(pad_crop=4, shift=2, mirror=True), seed=0, epoch=0)
    rows = draws.rows(torch.tensor([7, 0, 7]))
    assert rows.tables.keys() == draws.tables.keys() == {"crop", "shift", "mirror"}
    for kind, table in draws.tables.items():
        assert torch.equal(rows.tables[kind], table[[7, 0, 7]])
    joined = Draws.joined([draws.rows(torch.tensor([7])), draws.rows(torch.tensor([0, 7]))])
    assert all(torch.equal(joined.tables[kind], table) for kind, table in rows.tables.items())


def test_turns_mirror_every_image_in_every_other_epoch():
    settings = AugmentSettings(mirror=True, mirror_by="turns")
    epochs = [choose(1000, settings, seed=3, epoch=epoch).tables["mirror"] for epoch in range(4)]
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], ~epochs[0])
    assert torch.equal(epochs[3], epochs[1])
    assert abs(float(epochs[0].double().mean()) - 0.5) < 0.08
    with pytest.raises(ValueError, match="mirror_by"):
        AugmentSettings(mirror_by="turns")


def test_eight_orientations_each_as_often_as_any_other():
    image = torch.arange(2 * 9).view(1, 2, 3, 3).float()
    found = orient(image.expand(8, -1, -1, -1), torch.arange(8))
    expected = {
        rotated.tobytes() for side in (image[0].numpy(), image[0].numpy()[:, :, ::-1]) for rotated in turns(side)
    }
    assert {one.numpy().tobytes() for one in found} == expected
    assert len(expected) == 8
    assert torch.equal(found[0], image[0])
    assert torch.equal(found[1], flip(image, torch.tensor([True]))[0])
    counts = choose(16_000, AugmentSettings(dihedral=True), seed=2, epoch=1).tables["dihedral"].bincount()
    assert len(counts) == 8
    assert all(abs(int(count) - 2000) < 4 * (16_000 * 7 / 64) ** 0.5 for count in counts)
    draws = choose(5, AugmentSettings(dihedral=True), seed=2, epoch=1)
    channels_last = torch.rand(5, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    both = [augment(one, draws, AugmentSettings(dihedral=True)) for one in (channels_last, channels_last.contiguous())]
    assert torch.equal(*both)


def turns(side: Any) -> list[Any]:
    return [np.ascontiguousarray(np.rot90(side, number, (1, 2))) for number in range(4)]


def test_no_squares_are_not_turned():
    with pytest.raises(UsageError, match=r"32 x 24 pixels are no squares.*data\.augment\.dihedral"):
        check_crops(read_digits().train, (32, 24), AugmentSettings(dihedral=True))
    check_crops(read_digits().train, (32, 32), AugmentSettings(dihedral=True))


def test_turns_are_those_of_the_plane():
    """A quarter is exact and counter-clockwise; any other is Pillow's, bilinear, within the disk that stays."""
    square = images(count=3, height=9, width=9)
    for quarters in (1, 2, 3):
        found = turned(square, torch.full((3,), 90.0 * quarters))
        assert torch.allclose(found, square.rot90(quarters, (2, 3)), atol=1e-5)
    side = 33
    ys, xs = np.mgrid[:side, :side] - (side - 1) / 2
    smooth = (np.sin(xs / 4) + np.cos(ys / 5) + xs / 20).astype(np.float32)
    disk = torch.from_numpy(np.hypot(xs, ys) < side / 2 - 2)
    for degrees in (-35.0, 12.5):
        theirs = torch.from_numpy(np.asarray(Image.fromarray(smooth).rotate(degrees, Image.Resampling.BILINEAR)).copy())
        ours = turned(torch.from_numpy(smooth)[None, None], torch.tensor([degrees]))[0, 0]
        assert float((ours - theirs)[disk].abs().max()) < 0.02
        assert float((torch.from_numpy(smooth) - theirs)[disk].abs().max()) > 0.2, "a turn that shows"


def test_turns_go_to_both_sides_and_no_further(monkeypatch):
    asked = []

    def heard(images, degrees):
        asked.append(degrees)
        return images

    monkeypatch.setattr("residual.data.trivial.turned", heard)
    settings = AugmentSettings(rotate=20)
    augment(images(500), choose(500, settings, 0, 0), settings)
    (degrees,) = asked
    assert degrees.shape == (500,)
    assert -20 <= float(degrees.min()) < -19
    assert 19 < float(degrees.max()) <= 20
