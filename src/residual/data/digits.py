"""The embedded default: 1,797 handwritten digits, 8x8 grey, upsampled to 32x32.

The test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, 1998, CC BY 4.0), as scikit-learn's `load_digits` gives it. It travels with the
package, so training needs no download.
"""

from __future__ import annotations

import hashlib
import io
from importlib import resources
from importlib.resources.abc import Traversable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from residual.data.source import Dataset, MemorySource
from residual.data.splits import stratified
from residual.errors import DataError

FILE_SHA256 = "b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"  # of the images and labels in it
TEST_SHARE = 0.2
SIZE = 32


def embedded() -> Traversable:
    """The file that travels with the package."""
    return resources.files("residual.data") / "digits.npz"


def read_raw(place: Traversable | None = None) -> tuple[Tensor, Tensor]:
    """The digits as published: uint8 (1797, 8, 8) with values 0-16, and int64 labels (1797).

    Raises:
        DataError: the installed file is not the one that was released.
    """
    place = place or embedded()
    try:
        data = place.read_bytes()
    except OSError:
        data = b""
    # The file is hashed before it is opened: what is read of a damaged archive fails in too many ways to list.
    if hashlib.sha256(data).hexdigest() != FILE_SHA256:
        raise DataError("the embedded digits are damaged", place, "install residual again")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
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
