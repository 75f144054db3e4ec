"""The embedded digits are those scikit-learn gives, upsampled exactly and divided once and for all."""

import hashlib

import numpy as np
import pytest
import torch

from residual.data import digits
from residual.data.digits import SHA256, embedded, read_digits, read_raw, upsample
from residual.data.splits import stratified
from residual.errors import DataError


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    images, labels = read_raw()
    expected = load_digits()
    assert (images.dtype, labels.dtype) == (torch.uint8, torch.int64)
    assert np.array_equal(images.numpy(), expected.images)
    assert np.array_equal(labels.numpy(), expected.target)


def test_the_checksum_is_that_of_images_and_labels():
    with embedded().open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        data = arrays["images"].tobytes() + arrays["labels"].tobytes()
    assert hashlib.sha256(data).hexdigest() == SHA256
    assert read_digits().checksums == {"digits.npz": SHA256}


def test_an_altered_file_is_refused(tmp_path):
    whole = embedded().read_bytes()
    place = tmp_path / "digits.npz"
    places = [*range(0, 60), *range(60, len(whole), 1511), *range(len(whole) - 60, len(whole))]
    altered = [whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :] for place in places]
    for data in [*altered, b"", whole[:-1], whole + b"\0"]:
        place.write_bytes(data)
        with pytest.raises(DataError, match=r"the embedded digits are damaged .*install residual again"):
            read_raw(place)
    place.unlink()
    with pytest.raises(DataError, match="the embedded digits are damaged"):
        read_raw(place)


def bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """One image grown to size x size, pixel by pixel: centres aligned, edges repeated, ties to the even number."""
    side = len(image)
    grown = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            y = min(max((row + 0.5) * side / size - 0.5, 0), side - 1)
            x = min(max((column + 0.5) * side / size - 0.5, 0), side - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            grown[row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return np.rint(grown * 255 / 16)


def test_upsampling_is_exact():
    images, _ = read_raw()
    chosen = images[::150]
    grown = upsample(chosen)
    assert (grown.shape, grown.dtype) == ((len(chosen), 1, 32, 32), torch.uint8)
    for image, expected in zip(grown[:, 0], chosen.double(), strict=True):
        assert np.array_equal(image.numpy(), bilinear(expected.numpy(), 32))


def test_upsampling_reaches_both_ends_of_the_range():
    assert upsample(torch.zeros(1, 8, 8, dtype=torch.uint8)).unique().tolist() == [0]
    assert upsample(torch.full((1, 8, 8), 16, dtype=torch.uint8)).unique().tolist() == [255]


def test_the_pixels_are_the_same_on_every_machine():
    source = read_digits().train
    pixels = source.read(torch.arange(len(source))).numpy().tobytes()
    assert hashlib.sha256(pixels).hexdigest() == "48ce498b25d62d8077d690b27ad6f59ae561a3bc5ba057f5b994e47da4a19847"


def test_the_division_is_fixed_and_stratified():
    images, labels = read_raw()
    kept, held = stratified(labels, digits.TEST_SHARE, "digits-test")
    assert (len(kept), len(held)) == (1438, 359)
    assert held[:8].tolist() == [0, 8, 24, 26, 28, 39, 41, 42]
    numbers = held.numpy().astype("<i8").tobytes()
    assert hashlib.sha256(numbers).hexdigest() == "b814191953a8ed9f1ca82f76869519db6de8811cce6c5300fa116ab1870bd4c2"
    assert (labels[held].bincount() - 0.2 * labels.bincount()).abs().max() < 1

    dataset = read_digits()
    assert torch.equal(dataset.train.labels, labels[kept])
    assert torch.equal(dataset.test.labels, labels[held])
    assert torch.equal(dataset.test.read(torch.arange(359)), upsample(images[held]))
