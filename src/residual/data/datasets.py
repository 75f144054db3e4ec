"""The data sets by name, and how a recipe asks for one.

`open_dataset` finds, verifies and (where it pays) caches; `divide` holds back validation images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from residual.data import cifar
from residual.data.augment import AugmentSettings
from residual.data.cache import cached
from residual.data.digits import read_digits
from residual.data.preprocessing import Normalisation
from residual.data.source import Dataset
from residual.data.splits import stratified
from residual.errors import DataError

Name = Literal["digits", "cifar-10"]


class DataSettings(BaseModel, frozen=True, extra="forbid"):
    """What a recipe's `[data]` table holds."""

    dataset: Name = Field("digits", description="which data set")
    path: str | None = Field(None, description="the folder or archive it is read from")
    validation: float = Field(0.1, ge=0, le=0.5, description="share of each class held out of training")
    limit: int | None = Field(None, ge=10, description="use this many training images, the same share of each class")
    normalisation: Normalisation = Field("mean-std", description="constants measured on the training images")
    augment: AugmentSettings = AugmentSettings()


@dataclass(frozen=True)
class Division:
    """Numbers of the training images that are trained on and held out: int64, sorted."""

    training: Tensor
    validation: Tensor


def _open_digits(path: Path | None) -> Dataset:
    if path is not None:
        raise DataError("the digits are embedded and read from no folder", path, "leave --data out, or name a recipe")
    return read_digits()


def _open_cifar10(path: Path | None) -> Dataset:
    place = cifar.locate(path) if path else _search(cifar.FOLDER, cifar.ARCHIVE)
    stamp = {"place": str(place.resolve()), "files": cifar.stamps(place), "checksums": dict(cifar.OFFICIAL)}
    return cached("cifar-10", stamp, lambda: cifar.read_cifar10(place))


OPENERS: dict[Name, Callable[[Path | None], Dataset]] = {"digits": _open_digits, "cifar-10": _open_cifar10}


def _search(*names: str) -> Path:
    """The first of the names found in RESIDUAL_DATA, ./data and the working folder."""
    places = [Path(p) for p in (os.environ.get("RESIDUAL_DATA"), "data", ".") if p]
    for place in places:
        for name in names:
            if (place / name).exists():
                return place / name
    raise DataError(
        f"{names[0]} was not found",
        ", ".join(str(p) for p in places),
        f"name the folder or {names[-1]} with --data PATH, or set RESIDUAL_DATA to the folder that holds it",
    )


def open_dataset(settings: DataSettings) -> Dataset:
    """The data set a recipe asks for, verified.

    Raises:
        DataError: it is absent or damaged; the message says which file, and what to do.
    """
    try:
        path = Path(settings.path).expanduser() if settings.path is not None else None
    except RuntimeError:
        raise DataError("no such user", str(settings.path)[:200], "check the path given with --data") from None
    if path is not None and settings.dataset != "digits":
        try:
            exists = path.exists()
        except OSError as error:
            raise DataError(f"no such folder or file: {error.strerror}", str(path)[:200], "check --data") from None
        if not exists:
            raise DataError("no such folder or file", path, "check the path given with --data")
    return OPENERS[settings.dataset](path)


def divide(dataset: Dataset, settings: DataSettings) -> Division:
    """Which training images are used at all (`limit`), and which of these are held out."""
    labels = dataset.train.labels
    used = torch.arange(len(labels))
    if settings.limit is not None and settings.limit < len(labels):
        share = 1 - settings.limit / len(labels)
        used, _ = stratified(labels, share, f"{dataset.name}-limit")
    kept, held = stratified(labels[used], settings.validation, f"{dataset.name}-validation")
    return Division(used[kept], used[held])
