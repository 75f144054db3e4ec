"""A verified copy of a data set as one sealed folder, so that a second start reads one file.

The copy is used only while the files it was made from keep their sizes and times of change, and
only after every byte of it has been hashed. Where no cache can be written, the data set is read anew
each time and one line says so.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from residual.data.source import Dataset, MemorySource, Source, everything
from residual.errors import ResidualError, StorageError, log
from residual.files import Facts, canonical, digest, remove_folder
from residual.sealed import read_folder, write_folder

LAYOUT = 1  # raise it when the meaning of a cached tensor changes
_FACTS = "dataset.json"
_TENSORS = "images.safetensors"


def cache_folder() -> Path:
    """Where verified copies of data sets are kept: RESIDUAL_CACHE, else the system's place for caches.

    Raises:
        StorageError: the system names no home folder.
    """
    if named := os.environ.get("RESIDUAL_CACHE"):
        return Path(named)
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "residual"
        if sys.platform == "win32":
            return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "residual" / "cache"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "residual"
    except RuntimeError:
        raise StorageError("no home folder", "HOME", "set RESIDUAL_CACHE to a folder you may write") from None


def _pack(dataset: Dataset, stamp: Facts) -> dict[str, bytes]:
    def arrays(split: str, source: Source) -> dict[str, Tensor]:
        return {f"{split}.images": source.read(everything(source)), f"{split}.labels": source.labels}

    tensors = arrays("train", dataset.train) | arrays("test", dataset.test)
    facts = {
        "stamp": stamp,
        "name": dataset.name,
        "class_names": list(dataset.class_names),
        "channels": dataset.channels,
        "image_size": list(dataset.image_size),
        "checksums": dataset.checksums,
        "origin": dataset.origin,
    }
    return {_FACTS: canonical(facts), _TENSORS: safetensors.torch.save(tensors)}


def _unpack(contents: dict[str, bytes]) -> Dataset:
    facts = json.loads(contents[_FACTS])
    tensors = safetensors.torch.load(contents[_TENSORS])
    return Dataset(
        name=facts["name"],
        train=MemorySource(tensors["train.images"], tensors["train.labels"]),
        test=MemorySource(tensors["test.images"], tensors["test.labels"]),
        class_names=tuple(facts["class_names"]),
        channels=facts["channels"],
        image_size=(facts["image_size"][0], facts["image_size"][1]),
        checksums=facts["checksums"],
        origin=facts["origin"],
    )


def cached(name: str, stamp: Facts, read: Callable[[], Dataset]) -> Dataset:
    """The data set of `read()`, from its verified copy where one with this stamp exists.

    Args:
        name: the data set's name; part of the copy's folder name.
        stamp: whatever identifies the files read: path, sizes, times, expected checksums.
    """
    stamp = {"layout": LAYOUT, **stamp}
    try:
        folder = cache_folder() / f"{name}-{digest(canonical(stamp))[:16]}"
    except StorageError as error:
        log.warning("the data set is not cached: %s", error)
        return read()
    try:
        exists = folder.is_dir()
    except OSError:
        exists = False
    if exists:
        try:
            return _unpack(read_folder(folder, "data")[1])
        except ResidualError as error:
            log.warning("the cached copy is set aside and made again: %s", error)
            _forget(folder)
    dataset = read()
    try:
        write_folder(folder, _pack(dataset, stamp), "data", {"name": name})
    except ResidualError as error:
        if not folder.is_dir():  # another process may have written the same copy meanwhile
            log.warning("the data set is not cached: %s (%s): set RESIDUAL_CACHE", error.what, error.where)
    return dataset


def _forget(folder: Path) -> None:
    try:
        remove_folder(folder)
    except ResidualError as error:
        log.warning("the cached copy stays: %s", error)
