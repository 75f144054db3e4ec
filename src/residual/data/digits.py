"""The embedded default: 1,797 handwritten digits, 8x8 grey, upsampled to 32x32.

The test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, CC BY 4.0), as scikit-learn's `load_digits` gives it. It travels with the
package, so training needs no download.
"""

from __future__ import annotations

import hashlib
from importlib import resources

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from residual.data.source import Dataset, MemorySource
from residual.data.splits import stratified
from residual.errors import DataError

SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
TEST_SHARE = 0.2
SIZE = 32


def read_raw() -> tuple[Tensor, Tensor]:
    """The digits as published: uint8 (1797, 8, 8) with values 0-16, and int64 labels (1797).

    Raises:
        DataError: the installed file is not the one that was released.
    """
    place = resources.files("residual.data") / "digits.npz"
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
        whole = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == SHA256
    except (OSError, ValueError, KeyError):
        whole = False
    if not whole:
        raise DataError("the embedded digits are damaged", place, "install residual again")
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def upsample(images: Tensor) -> Tensor:
    """uint8 (N, 8, 8) with values 0-16 to uint8 (N, 1, 32, 32) with values 0-255, bilinear.

    Every intermediate value is a multiple of 1/1024 below 2**24 of them, hence exact in float32:
    the pixels are the same on every machine.
    """
    grown = interpolate(images.unsqueeze(1).float(), size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    return (grown * 255 / 16).round().to(torch.uint8)


def read_digits() -> Dataset:
    """The digits, 80 % for training and a fixed stratified 20 % for the test."""
    raw, labels = read_raw()
    images = upsample(raw)
    kept, held = stratified(labels, TEST_SHARE, "digits-test")
    return Dataset(
        name="digits",
        train=MemorySource(images[kept], labels[kept]),
        test=MemorySource(images[held], labels[held]),
        class_names=tuple("0123456789"),
        channels=1,
        image_size=(SIZE, SIZE),
        checksums={"digits.npz": SHA256},
        origin="embedded",
    )
