"""Images in every form are seen as the file is; what is none is refused by name."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from residual.data.given import gather
from residual.data.preprocessing import Preprocessing
from residual.errors import DataError, UsageError

ZEROS, ONES = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
SIGHT = Preprocessing((16, 16), 3, "mean-std", ZEROS, ONES)
GREY = Preprocessing((16, 16), 1, "mean-std", ZEROS[:1], ONES[:1])
PIXELS = np.random.default_rng(3).integers(0, 256, (20, 31, 4), dtype=np.uint8)


def seen(given, sight=SIGHT):
    return [image.read(sight) for image in gather(given)]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("sight", [SIGHT, GREY], ids=["RGB", "grey"])
def test_array_tensor_and_picture_are_seen_as_the_file(tmp_path, channels, sight):
    array = PIXELS[..., :channels]
    picture = Image.fromarray(array[..., 0] if channels == 1 else array)
    picture.save(tmp_path / "a.png")
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    (wanted,) = seen(tmp_path / "a.png", sight)
    several = [str(tmp_path / "a.png"), picture, array, tensor, array[None], tensor[None]]
    for given in (picture, array, tensor, array[None], tensor[None], several, iter(several)):
        assert all(torch.equal(image, wanted) for image in seen(given, sight))
    assert len(seen(several, sight)) == 6
    if channels == 1:
        assert torch.equal(seen(array[..., 0], sight)[0], wanted)
        assert torch.equal(seen([tensor[0]], sight)[0], wanted)


def test_a_picture_is_left_as_it_was_given():
    data = io.BytesIO()
    Image.fromarray(PIXELS[..., :3]).resize((400, 300)).save(data, "JPEG")
    picture = Image.open(data)
    seen(picture)
    assert (picture.size, picture.mode) == ((400, 300), "RGB")
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(data)))


def test_every_image_has_a_name(tmp_path):
    array = PIXELS[..., :3]
    Image.fromarray(array).save(tmp_path / "a.png")
    names = [image.name for image in gather([array, tmp_path, np.stack([array, array])])]
    assert names == ["images[0]", str(tmp_path / "a.png"), "images[2][0]", "images[2][1]"]
    assert [image.name for image in gather(array)] == ["image"]
    assert [image.name for image in gather(np.stack([array, array]))] == ["images[0]", "images[1]"]
    assert gather([]) == []


FOREIGN = {
    "floats": (PIXELS / 255, r"of float64 \(image\): give uint8"),
    "float tensor": ([torch.zeros(3, 4, 4)], r"of float32 \(images\[0\]\)"),
    "channels first": (np.zeros((3, 8, 8), np.uint8), "array has 3 axes, 8 of them channels.*HWC"),
    "channels last": (torch.zeros(8, 8, 3, dtype=torch.uint8), "tensor has 3 axes, 8 of them channels.*CHW"),
    "one axis": (np.zeros(8, np.uint8), "has 1 axes"),
    "bytes": (b"\x89PNG", r"bytes is no image.*PIL\.Image\.open"),
    "a number": (3, "int is no image"),
    "nothing": ([None], r"NoneType is no image \(images\[0\]\)"),
}


@pytest.mark.parametrize(("given", "words"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_image_is_refused_by_name(given, words):
    with pytest.raises(UsageError, match=words):
        gather(given)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray((PIXELS[..., 0] / 255).astype(np.float32)),
        Image.fromarray(PIXELS[..., 0].astype(np.int32)),
        Image.fromarray(PIXELS[..., 0].astype(np.uint16)),
    ],
    ids=["F", "I", "I;16"],
)
def test_a_picture_whose_scale_nobody_knows_is_refused(picture):
    """They would come out black: values up to 255 of 65,535."""
    with pytest.raises(UsageError, match=r"has the mode .* no scale that is known \(image\): convert it to L or RGB"):
        seen(picture)


def test_a_picture_of_16_bits_is_seen_as_its_file(tmp_path):
    picture = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    picture.save(tmp_path / "deep.png")
    assert torch.equal(seen(picture)[0], seen(tmp_path / "deep.png")[0])


def test_pictures_without_sound_pixels_are_unreadable():
    torn = io.BytesIO()
    Image.fromarray(PIXELS).save(torn, "PNG")
    for given in (np.zeros((0, 4), np.uint8), Image.open(io.BytesIO(torn.getvalue()[:600]))):
        with pytest.raises(DataError, match=r"\(image\)"):
            seen(given)
