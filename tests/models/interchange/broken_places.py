"""Places and HDF5 files that are malicious or broken, each with the words that must be said of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.interchange.broken import Maker, archive, stored
from tests.models.interchange.layouts import make_keras, make_keras_v2

HEADLESS = make_keras_v2((2, 2), (2, 4), 3)


def h5(change: Callable[[Any, Path], object], sound: bool = False) -> Maker:
    """An HDF5 file, empty or of sound weights, that is changed."""

    def make(folder: Path) -> Path:
        h5py = pytest.importorskip("h5py", reason="needs residual[keras]")
        with h5py.File(folder / "x.h5", "w") as file:
            if sound:
                for name, tensor in make_keras((1, 1, 1, 1), (2, 4, 8, 16), 3).items():
                    file.create_dataset(name, data=tensor.numpy())
            change(file, folder)
        return folder / "x.h5"

    return make


def external_link(file: Any, folder: Path) -> None:
    import h5py

    with h5py.File(folder / "other.h5", "w") as other:
        other["secret"] = np.ones(3)
    file["a"] = h5py.ExternalLink(str(folder / "other.h5"), "/secret")


def soft_link(file: Any, _: Path) -> None:
    import h5py

    file["a"] = h5py.SoftLink("/a")


def external_data(file: Any, folder: Path) -> None:
    (folder / "raw").write_bytes(bytes(64))
    file.create_dataset("a/kernel", (8,), "f8", external=[(str(folder / "raw"), 0, 64)])


def virtual_data(file: Any, folder: Path) -> None:
    import h5py

    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "secret", (3,))
    file.create_virtual_dataset("a/kernel", layout)


def ring(file: Any, _: Path) -> None:
    file.create_group("a/b")
    file["a/b/c"] = file["a"]


def cut_h5(folder: Path) -> Path:
    path = h5(lambda *_: None, sound=True)(folder)
    path.write_bytes(path.read_bytes()[:3000])
    return path


def device(folder: Path) -> Path:
    if not Path("/dev/zero").exists():
        pytest.skip("there is no /dev/zero here")
    (folder / "x.pth").symlink_to("/dev/zero")
    return folder / "x.pth"


def pipe(folder: Path) -> Path:
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes here")
    os.mkfifo(folder / "x.safetensors")
    return folder / "x.safetensors"


def endless(folder: Path) -> Path:
    (folder / "x.safetensors").write_bytes(stored(x=torch.ones(1)))
    os.truncate(folder / "x.safetensors", 100 << 30)
    return folder / "x.safetensors"


def directory(folder: Path) -> Path:
    (folder / "x.pth").mkdir()
    return folder / "x.pth"


def keras_archive(entries: dict[str, bytes], compress: bool = False) -> Maker:
    def make(folder: Path) -> Path:
        pytest.importorskip("h5py", reason="needs residual[keras]")
        (folder / "x.keras").write_bytes(archive(entries, compress))
        return folder / "x.keras"

    return make


PLACES: dict[str, tuple[Maker, str]] = {
    "HDF5: a link to another file": (h5(external_link), "a leads to another place or file"),
    "HDF5: a link to itself": (h5(soft_link), "a leads to another place or file"),
    "HDF5: numbers in another file": (h5(external_data), "lies elsewhere"),
    "HDF5: numbers put together of other files": (h5(virtual_data), "lies elsewhere"),
    "HDF5: a ring of groups": (h5(ring), "is there twice"),
    "HDF5: compressed": (
        h5(lambda f, _: f.create_dataset("a/kernel", data=np.zeros(9999), compression=9)),
        "compressed",
    ),
    "HDF5: numbers that are nowhere": (
        h5(lambda f, _: f.create_dataset("a/kernel", (1 << 40,), "f4", chunks=(1024,))),
        "lies elsewhere",
    ),
    "HDF5: texts": (h5(lambda f, _: f.create_dataset("a/kernel", data=["a", "b"])), "is no number"),
    "HDF5: not a number": (
        h5(lambda f, _: f["predictions/bias"].write_direct(np.full(3, np.nan, "f4")), True),
        "not all finite (x.h5): predictions/bias",
    ),
    "HDF5: nothing": (h5(lambda *_: None), "holds no tensors"),
    "HDF5: cut": (cut_h5, "cannot be read"),
    "HDF5: layers without names": (
        h5(lambda f, _: f.create_dataset("layers/conv2d/vars/0", data=np.ones(3))),
        "does not tell the name of the layer",
    ),
    "HDF5: ResNet with a part of ResNetV2": (
        h5(lambda f, _: f.create_dataset("conv2_block1_preact_bn/gamma", data=np.ones(3)), True),
        "conv2_block1_preact_bn/gamma is not of this network",
    ),
    "HDF5: ResNetV2 without its last normalisation": (
        h5(lambda f, _: [f.create_dataset(n, data=t.numpy()) for n, t in HEADLESS.items() if "post_bn" not in n]),
        "nearest is keras",
    ),
    "Keras: a configuration of lists": (
        keras_archive({"config.json": b"[" * 99_999, "model.weights.h5": b""}),
        "configuration cannot be used",
    ),
    "Keras: compressed": (
        keras_archive({"config.json": b"{}" * 999, "model.weights.h5": bytes(9999)}, True),
        "compressed or larger",
    ),
    "no file": (lambda folder: folder / "x.pth", "no such file"),
    "a folder": (directory, "not a regular file"),
    "a link to a device": (device, "not a regular file"),
    "a pipe": (pipe, "not a regular file"),
    "100 GB of nothing": (endless, "107,374,182,400 bytes where at most"),
}
