"""Keras's files of weights: HDF5, alone or in a `.keras` archive, read by h5py, an extra; Keras itself is not needed.

Only what lies in the file itself is read: hard links, contiguous numbers without filters, whose bytes are there. A
tensor is called LAYER/VARIABLE, as `conv1_conv/kernel`. Sources: Keras 2 and 3 (`model.save_weights("x.h5")`), with
LAYER/.../VARIABLE:0, and Keras 3 (`.weights.h5`, `.keras`), with layers/CLASS_N/vars/0 and the layer's name as an
attribute; the variables of a layer then stand in the order in which Keras makes them.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from residual.errors import EnvironmentFault, ModelError
from residual.models.interchange.foreign import Foreign, first
from residual.models.interchange.pickled import entries

INSTALL: Final = "pip install h5py"
_ORDER: Final[Mapping[str, tuple[str, ...]]] = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
}
_ASIDE: Final = ("optimizer_weights", "optimizer", "top_level_model_weights", "_layer_checkpoint_dependencies")
_MOST, _DEEPEST, _JSON = 100_000, 12, 1 << 24


def read(data: bytes, where: Path, layer_names: Mapping[str, str] | None = None) -> Foreign:
    """The tensors of an HDF5 file, called LAYER/VARIABLE.

    Args:
        layer_names: group -> layer, from the configuration of an archive, for files without such attributes.

    Raises:
        ModelError: damaged, leading out of the file, compressed, or without the names of its layers.
        EnvironmentFault: h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise EnvironmentFault(f"a file of Keras cannot be read: {error}", where, INSTALL) from None
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            found = dict(_walk(h5py, file, where, len(data)))
            labels = _labels(file, found)
    except ModelError:
        raise
    except Exception as error:  # a damaged file fails anywhere in the library
        raise ModelError(f"the HDF5 file cannot be read: {error!s:.120}", where, "download it again") from None
    if not found:
        raise ModelError("the file holds no tensors", where, "name a file of weights")
    numbered = any("/vars/" in f"/{path}" for path in found)
    tensors, aside = _numbered(found, {**(layer_names or {}), **labels}, where) if numbered else _named(found, where)
    return Foreign(tensors, "HDF5 of Keras", remarks=(f"left aside: {first(aside)}",) if aside else ())


def read_archive(data: bytes, where: Path) -> Foreign:
    """The tensors of a `.keras` archive: its HDF5 part, with the layers' names from its configuration."""
    archive = entries(data, where)
    try:
        info = archive.getinfo("config.json")
        if info.file_size > _JSON:
            raise ValueError("config.json is too large")
        config = json.loads(archive.read(info))
        layers = [(str(layer["class_name"]), str(layer["config"]["name"])) for layer in config["config"]["layers"]]
        weights = archive.read("model.weights.h5")
    except (KeyError, TypeError, ValueError, RecursionError, zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise ModelError(f"its configuration cannot be used: {error!r:.120}", where, "save it again") from None
    return read(weights, where, _groups(layers))


def _groups(layers: list[tuple[str, str]]) -> dict[str, str]:
    """layers/conv2d_3 -> its name: Keras numbers the layers of a class in the order of the model."""
    counts: dict[str, int] = {}
    found = {}
    for kind, name in layers:
        snake = {"Conv2D": "conv2d", "Dense": "dense", "BatchNormalization": "batch_normalization"}.get(kind)
        if snake is not None:
            number = counts[snake] = counts.get(snake, -1) + 1
            found[f"layers/{snake}" + (f"_{number}" if number else "")] = name
    return found


def _walk(h5py: Any, file: Any, where: Path, size: int) -> Iterator[tuple[str, Tensor]]:
    """Every data set of the file by its path. Groups are visited once, so that no ring of links is endless."""
    waiting, seen, count = [("", file, 0)], set(), 0
    while waiting:
        path, group, depth = waiting.pop()
        for name in group:
            inner = f"{path}/{name}".lstrip("/")
            link, count = group.get(name, getlink=True), count + 1
            if not isinstance(link, h5py.HardLink):
                raise ModelError(f"{inner:.80} leads to another place or file", where, "save the weights alone")
            if count > _MOST or depth > _DEEPEST:
                raise ModelError("the file has more parts than any network", where, "save the weights alone")
            value = group[name]
            address = h5py.h5o.get_info(value.id).addr
            if address in seen:
                raise ModelError(f"{inner:.80} is there twice", where, "save the weights alone")
            seen.add(address)
            if isinstance(value, h5py.Group):
                waiting.append((inner, value, depth + 1))
            elif isinstance(value, h5py.Dataset) and not inner.startswith(_ASIDE):
                yield inner, _tensor(value, inner, where, size)


def _tensor(value: Any, path: str, where: Path, size: int) -> Tensor:
    """The numbers of a data set that lie in the file as they are."""
    plain = value.dtype.kind in "fiu" and value.dtype.itemsize in (1, 2, 4, 8) and value.shape is not None
    outside = bool(value.external) or value.is_virtual or value.id.get_create_plist().get_nfilters() > 0
    stored = value.id.get_storage_size()
    if not plain or outside or value.nbytes > size or stored < value.nbytes:
        raise ModelError(f"{path:.80} is compressed, lies elsewhere or is no number", where, "save the weights again")
    array = np.asarray(value[()])
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))))


def _labels(file: Any, found: Mapping[str, Tensor]) -> dict[str, str]:
    """Group -> the layer's name, where Keras has noted it."""
    labels = {}
    for group in {path.rpartition("/vars/")[0] for path in found if "/vars/" in path}:
        for place in (group, f"{group}/vars"):
            label = file[place].attrs.get("name")
            if isinstance(label, bytes | str):
                labels[group] = label.decode() if isinstance(label, bytes) else label
    return labels


def _named(found: Mapping[str, Tensor], where: Path) -> tuple[dict[str, Tensor], list[str]]:
    """LAYER/.../VARIABLE:0, below `model_weights` in a file of a whole model."""
    whole = any(path.startswith("model_weights/") for path in found)
    aside = [path for path in found if whole and not path.startswith("model_weights/")]
    tensors: dict[str, Tensor] = {}
    for path in found.keys() - set(aside):
        parts = path.removeprefix("model_weights/").split("/")
        name = f"{parts[0]}/{parts[-1].partition(':')[0]}"
        if name in tensors:
            raise ModelError(f"{name:.80} is there twice", where, "save one network alone")
        tensors[name] = found[path]
    return {name: tensors[name] for name in sorted(tensors)}, sorted(aside)


def _numbered(
    found: Mapping[str, Tensor], labels: Mapping[str, str], where: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """layers/CLASS_N/vars/NUMBER; other groups with variables are no part of these networks."""
    tensors: dict[str, Tensor] = {}
    aside = []
    for path in sorted(found):
        group, _, number = path.rpartition("/vars/")
        order = _ORDER.get(re.sub(r"_\d+$", "", group.rpartition("/")[2]))
        if order is None or not number.isdecimal() or int(number) >= len(order):
            aside.append(path)
        elif group not in labels:
            remedy = "save the model as .keras, which has them"
            raise ModelError(f"the file does not tell the name of the layer {group:.80}", where, remedy)
        else:
            tensors[f"{labels[group]}/{order[int(number)]}"] = found[path]
    return tensors, aside
