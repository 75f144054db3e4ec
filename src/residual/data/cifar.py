"""CIFAR from its official files: the binary or the Python version, a folder or the .tar.gz as published.

Binary: records of one label byte for each kind of label and 3,072 pixel bytes, planes red, green, blue, rows
from the top (Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009, and the data set's
page). Python: pickled dictionaries of the same pixels and lists of labels. A file counts only if its SHA-256 is
the expected one, and a pickle is looked at only after that. What is decoded of CIFAR-10's pickles is compared
with the binary version once more: the same images in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from residual.data import published
from residual.data.published import Form
from residual.data.source import Dataset, MemorySource
from residual.data.unpickle import Array, read_pickle
from residual.errors import DataError, UsageError

PIXELS = 3 * 32 * 32
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORD = 1 + PIXELS
TEST = "test_batch.bin"
OFFICIAL = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    TEST: "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
BINARY = Form(
    dataset="cifar-10",
    title="CIFAR-10",
    kind="binary",
    archive=ARCHIVE,
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder=FOLDER,
    files=OFFICIAL,
    test=TEST,
    largest=10_000 * RECORD,
    records={},
)
PYTHON = Form(
    dataset="cifar-10",
    title="CIFAR-10",
    kind="python",
    archive="cifar-10-python.tar.gz",
    size=170_498_071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    md5="c58f30108f718f92721af3b95e74349a",
    folder="cifar-10-batches-py",
    files={
        "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
        "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
        "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
        "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
        "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
        "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    },
    test="test_batch",
    largest=31_035_999,
    records={name.removesuffix(".bin"): sha256 for name, sha256 in OFFICIAL.items()},
)


@dataclass(frozen=True)
class Family:
    """A data set of 32x32 colour images with one or several kinds of label."""

    name: str
    labels: Mapping[str, tuple[str, ...]]  # kind: its class names; kinds in the order of a record's label bytes
    keys: Mapping[str, bytes]  # kind: the name of its list in the Python version
    forms: tuple[Form, ...]
    images: tuple[int, int] | None = (50_000, 10_000)  # for training and test, each class as often as every other


CIFAR10 = Family("cifar-10", {"fine": CLASS_NAMES}, {"fine": b"labels"}, (BINARY, PYTHON))


def locate(place: Path, family: Family = CIFAR10) -> Path:
    """The folder or archive of a family meant by `place`; raises `DataError` where there is none."""
    return published.locate(place, family.forms)


def _from_records(data: bytes, family: Family, where: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    size = len(family.labels) + PIXELS
    if len(data) % size:
        raise ValueError(f"{where} holds {len(data):,} bytes, not a multiple of {size}")
    return np.frombuffer(data, np.uint8).reshape(-1, size)


def _from_pickle(data: bytes, family: Family, where: str, place: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The images and labels of a pickle, as the records of the binary version."""
    table = read_pickle(data, f"{where} in {place}")
    pixels = table.get(b"data") if type(table) is dict else None
    if not isinstance(pixels, Array) or pixels.shape[1:] != (PIXELS,) or len(pixels.data) != pixels.shape[0] * PIXELS:
        raise ValueError(f"{where} holds no table of {PIXELS:,} pixels a row")
    records = np.empty((pixels.shape[0], len(family.labels) + PIXELS), np.uint8)
    for column, (kind, key) in enumerate(family.keys.items()):
        labels = table.get(key)
        if type(labels) is not list or len(labels) != len(records):
            raise ValueError(f"{where} holds no {kind} label for each of its {len(records):,} images")
        if not all(type(label) is int and 0 <= label < 256 for label in labels):
            raise ValueError(f"{where} holds {kind} labels that are no numbers of classes")
        records[:, column] = labels
    order: Literal["F", "C"] = "F" if pixels.fortran else "C"
    records[:, len(family.labels) :] = np.frombuffer(pixels.data, np.uint8).reshape(pixels.shape, order=order)
    return records


def _decode(form: Form, name: str, data: bytes, family: Family, place: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Verified bytes as records: label bytes, then pixels; every label within its classes."""
    try:
        if form.kind == "binary":
            records = _from_records(data, family, name)
        else:
            records = _from_pickle(data, family, name, place)
            expected = form.records.get(name)
            if expected is not None and hashlib.sha256(records.tobytes()).hexdigest() != expected:
                raise ValueError(f"{name} does not hold the images of the binary version")
        for column, (kind, names) in enumerate(family.labels.items()):
            highest = int(records[:, column].max(initial=0))
            if highest >= len(names):
                word = "label" if len(family.labels) == 1 else f"{kind} label"
                raise ValueError(f"{name} holds {word} {highest}; labels end at {len(names) - 1}")
    except ValueError as error:
        raise DataError(str(error), place, form.restore) from None
    return records


def _check_balance(
    family: Family, place: Path, form: Form, parts: Mapping[str, tuple[Tensor, Tensor]], classes: int
) -> None:
    """Refuse another number of images than was published, or one class more often than another."""
    if family.images is None:
        return
    test = parts[form.test][1]
    training = torch.cat([labels for name, (_, labels) in parts.items() if name != form.test])
    for part, labels, count in zip(("training", "test"), (training, test), family.images, strict=True):
        if len(labels) != count:
            raise DataError(f"{len(labels):,} {part} images where {count:,} were published", place, form.restore)
        if set(labels.bincount(minlength=classes).tolist()) != {count // classes}:
            raise DataError(f"the classes have not {count // classes:,} {part} images each", place, form.restore)


def read(family: Family, place: Path, labels: str = "fine") -> Dataset:
    """The training and test images of a family, uint8 (N, 3, 32, 32), labelled by one kind of label.

    Args:
        place: the folder of files, the .tar.gz, or a folder that holds either.

    Raises:
        DataError: a file is absent, cut, lengthened or altered; names the file and what to do.
    """
    found = locate(place, family)
    column = list(family.labels).index(labels)
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    form = family.forms[0]
    for form, name, data in published.contents(found, family.forms):
        records = torch.from_numpy(_decode(form, name, data, family, found).copy())
        images = records[:, len(family.labels) :].reshape(-1, 3, 32, 32).contiguous()
        parts[name] = images, records[:, column].long()
    order = [name for name in form.files if name != form.test]
    _check_balance(family, found, form, parts, len(family.labels[labels]))
    return Dataset(
        name=family.name if labels == "fine" else f"{family.name}-{labels}",
        train=MemorySource(torch.cat([parts[n][0] for n in order]), torch.cat([parts[n][1] for n in order])),
        test=MemorySource(*parts[form.test]),
        class_names=family.labels[labels],
        channels=3,
        image_size=(32, 32),
        checksums=dict(form.files),
        origin=str(found.absolute()),
    )


def read_cifar10(place: Path, checksums: Mapping[str, str] = OFFICIAL) -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test images.

    Args:
        place: as for `read`.
        checksums: file name to SHA-256 of the binary version, if not the official ones. The files are read in
            this order, and `test_batch.bin` is the test set.
    """
    if TEST not in checksums or len(checksums) < 2:
        raise UsageError("checksums name no training or no test file", place, f"name {TEST} and at least one other")
    if checksums is OFFICIAL:
        return read(CIFAR10, place)
    return read(replace(CIFAR10, forms=(replace(BINARY, files=dict(checksums)),), images=None), place)
