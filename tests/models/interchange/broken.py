"""Files of weights that are malicious or broken, each with the words that must be said of it.

A maker gets a folder and gives the file in it. `OWNED` is made by whoever runs a pickle of these.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from tests.models.interchange.layouts import State, make_resnet

OWNED = "owned"
Maker = Callable[[Path], Path]
SOUND: State = make_resnet((1, 1, 1), (2, 4, 8), False, 10, "cifar")
WIDE: State = make_resnet((1, 1, 1, 1), (2, 4, 8, 16), True, 10)
HUGE = {
    "format": 1,
    "names": "safetensors",
    "provenance": {},
    "network": {
        "name": "resnet-20",
        "depths": [10_000] * 3,
        "widths": [1, 1, 1],
        "stem": "3x3",
        "unit": "basic",
        "shortcut": "A",
        "classes": 10,
    },
}
"""To lay such a network out takes minutes."""


class Evil:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (OWNED,)


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def stored(**tensors: Tensor) -> bytes:
    return safetensors.torch.save(tensors)


def changed(*absent: str, state: State = SOUND, **more: Tensor) -> bytes:
    """A sound safetensors file without some tensors and with others (`.` is written `__`)."""
    kept = {name: tensor for name, tensor in state.items() if name not in absent}
    return safetensors.torch.save(kept | {name.replace("__", "."): tensor for name, tensor in more.items()})


def archive(entries: dict[str, bytes], compress: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return buffer.getvalue()


def rewritten(change: Callable[[dict[str, bytes]], dict[str, bytes]], compress: bool = False) -> bytes:
    """A sound archive of torch with its entries changed."""
    with zipfile.ZipFile(io.BytesIO(saved(SOUND))) as file:
        found = {name: file.read(name) for name in file.namelist()}
    return archive(change(found), compress)


def with_program(program: bytes) -> bytes:
    return rewritten(lambda e: {name: program if name.endswith("data.pkl") else data for name, data in e.items()})


def header(change: Callable[[dict[str, Any]], object] = lambda h: h, cut: int = 0) -> bytes:
    """A sound safetensors file with its header changed."""
    data = safetensors.torch.save(SOUND)
    end = 8 + int.from_bytes(data[:8], "little")
    text = change(json.loads(data[8:end]))
    raw = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(raw)) + raw + data[end : len(data) - cut]


def entry(**values: object) -> bytes:
    return header(lambda h: h | {"linear.bias": h["linear.bias"] | values})


def twice() -> bytes:
    def double(table: dict[str, Any]) -> bytes:
        text = json.dumps(table)
        return f'{text[:-1]}, "linear.bias": {json.dumps(table["linear.bias"])}}}'.encode()

    return header(double)


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(Evil())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def numpy_archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.array([Evil()], dtype=object))
    return buffer.getvalue()


def script() -> bytes:
    return archive({"net/data.pkl": pickle.dumps(Evil()), "net/constants.pkl": b"", "net/code/net.py": b"import os"})


def early(value: object) -> bytes:
    return saved(value, _use_new_zipfile_serialization=False)


def early_with(program: bytes) -> bytes:
    """An early file whose third pickle is another one."""
    parts = [pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(parts) + program + pickle.dumps([], 2)


def big_view() -> State:
    return {"linear.bias": torch.zeros(1).expand(1 << 40)}


BYTES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    # Pickles that would run
    "a call in an archive": ("x.pth", lambda: saved({"state_dict": Evil()}), "nothing was run: the file asks for"),
    "a call in an early file": ("x.th", lambda: early(Evil()), "nothing was run: the file asks for"),
    "a call beside sound weights": ("x.pt", lambda: saved({**SOUND, "x": Evil()}), "nothing was run"),
    "a call of protocol 4": ("x.pth", lambda: with_program(pickle.dumps(Evil(), 4)), "STACK_GLOBAL"),
    "a call of protocol 0": ("x.pth", lambda: with_program(pickle.dumps(Evil(), 0)), ".mkdir"),
    "an instance made by name": ("x.pth", lambda: with_program(b"(S'owned'\nios\nmkdir\n."), "asks for os.mkdir"),
    "a call after the weights": ("x.th", lambda: early_with(pickle.dumps(Evil(), 2)), "nothing was run"),
    "eval": ("x.pth", lambda: with_program(b"cbuiltins\neval\n(S'1'\ntR."), "asks for builtins.eval"),
    "a great array of bytes": ("x.pth", lambda: with_program(b"cbuiltins\nbytearray\n(I99999999999\ntR."), "bytearray"),
    "a registered extension": ("x.pth", lambda: with_program(b"\x80\x02\x82\x01."), "the instruction EXT1"),
    "a whole network": (
        "x.pth",
        lambda: saved(torch.nn.Linear(2, 2)),
        "torch.nn.modules.linear.Linear, which no weights",
    ),
    "arguments of a script": ("x.pth", lambda: saved({"args": PurePosixPath("x"), "model": SOUND}), "asks for pathlib"),
    # Other things by these names
    "a pickle by the name of safetensors": ("x.safetensors", lambda: pickle.dumps(Evil()), "a pickle, which may run"),
    "an archive by the name of safetensors": ("x.safetensors", lambda: saved(SOUND), "by its content a file of torch"),
    "safetensors by the name of torch": ("x.pth", lambda: stored(x=torch.ones(1)), "by its content a safetensors"),
    "a plain pickle": ("x.pth", lambda: pickle.dumps(Evil()), "a pickle, which may run code"),
    "a pickle by the name of Keras": ("x.h5", lambda: pickle.dumps(Evil()), "a pickle, which may run code"),
    "an archive by the name of Keras": ("x.keras", lambda: saved(SOUND), "by its content a file of torch.save"),
    "objects of numpy": ("x.pth", numpy_archive, "an archive of numpy"),
    "a TorchScript archive": ("x.pt", script, "a TorchScript archive, which is a program"),
    "the tar of early torch": ("x.pth.tar", tar, "a tar archive, as torch wrote before"),
    "a zip of texts": ("x.pth", lambda: archive({"readme.txt": b"hello"}), "a zip archive without weights"),
    "a web page": ("x.pth", lambda: b"<!DOCTYPE html><html>no such file</html>", "by its content a web page"),
    "a pointer of git-lfs": ("x.safetensors", lambda: b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
    "an empty file": ("x.pth", lambda: b"", "the file is empty"),
    "zeros": ("x.pth", lambda: bytes(4096), "nothing but zeros"),
    "noise": ("x.h5", lambda: b"\x01\x02\x03" * 500, "none of the known kinds"),
    "an unknown suffix": ("x.npz", numpy_archive, "no known kind of weight file"),
    # Cut, swollen
    "an archive that was cut": ("x.pth", lambda: saved(SOUND)[:-200], "cut or damaged"),
    "an early file cut in its table": ("x.th", lambda: early(SOUND)[:300], "the table of tensors is damaged"),
    "an early file cut in its numbers": ("x.th", lambda: early(SOUND)[:-300], "cannot be read"),
    "a compressed archive": ("x.pth", lambda: rewritten(lambda e: e, compress=True), "compressed or larger"),
    "a bomb": ("x.pth", lambda: archive({"a/data.pkl": b"", "a/data/0": bytes(1 << 24)}, True), "compressed or larger"),
    "two tables": ("x.pth", lambda: rewritten(lambda e: {**e, "other/data.pkl": b"."}), "no single table"),
    "numbers that are missing": (
        "x.pth",
        lambda: rewritten(lambda e: {n: d for n, d in e.items() if "/data/" not in n}),
        "cannot be read",
    ),
    "a table that is none": ("x.pth", lambda: with_program(b"\x80\x02]q\x00."), "the file holds a list"),
    "a view larger than its numbers": ("x.pth", lambda: saved(big_view()), "claim to be larger than the file"),
    "a sparse tensor": ("x.pth", lambda: saved({"x": torch.eye(3).to_sparse()}), "asks for"),
    "complex numbers": ("x.pth", lambda: saved({"x": torch.ones(2, dtype=torch.complex64)}), "no plain tensor"),
    "a list of tensors": ("x.pth", lambda: saved([torch.ones(1)]), "the file holds a list, no state dictionary"),
    "a checkpoint without weights": (
        "x.pth",
        lambda: saved({"epoch": 3, "best": 0.5}),
        "no dictionary of tensors, but epoch",
    ),
    # safetensors
    "a header without end": (
        "x.safetensors",
        lambda: struct.pack("<Q", 1 << 39) + b"{}",
        "a header of 549,755,813,888",
    ),
    "a header of 20 MB": (
        "x.safetensors",
        lambda: header(lambda _: b"{" + b" " * 20_000_000 + b"}"),
        "larger than that of any",
    ),
    "a header of lists in lists": (
        "x.safetensors",
        lambda: header(lambda _: b'{"a":' + b"[" * 99_999),
        "cannot be read",
    ),
    "places that overlap": ("x.safetensors", lambda: entry(data_offsets=[0, 40]), "cannot be read"),
    "places that overflow": ("x.safetensors", lambda: entry(data_offsets=[0, 1 << 63]), "cannot be read"),
    "a shape that overflows": ("x.safetensors", lambda: entry(shape=[1 << 32, 1 << 32]), "cannot be read"),
    "a negative shape": ("x.safetensors", lambda: entry(shape=[-10]), "cannot be read"),
    "an unknown type": ("x.safetensors", lambda: entry(dtype="X9"), "cannot be read"),
    "one name twice": ("x.safetensors", twice, "linear.bias is there twice"),
    "safetensors that were cut": ("x.safetensors", lambda: header(cut=100), "cannot be read"),
    "no tensor at all": ("x.safetensors", lambda: header(lambda _: {}, cut=1 << 30), "holds no tensors"),
    # Sound files of the wrong weights
    "not a number": (
        "x.safetensors",
        lambda: changed(linear__bias=torch.full((10,), torch.nan)),
        "not all finite (x.safetensors): linear.bias",
    ),
    "infinity": (
        "x.pth",
        lambda: saved({**SOUND, "bn1.running_var": torch.full((2,), torch.inf)}),
        "not all finite (x.pth): bn1.running_var",
    ),
    "too large for float32": (
        "x.safetensors",
        lambda: changed(linear__bias=torch.full((10,), 1e200, dtype=torch.float64)),
        "finite",
    ),
    "a missing tensor": ("x.safetensors", lambda: changed("layer2.0.bn1.bias"), "layer2.0.bn1.bias is missing"),
    "one tensor more": (
        "x.safetensors",
        lambda: changed(layer1__0__se__fc=torch.ones(1)),
        "layer1.0.se.fc is not of this",
    ),
    "a wrong shape": (
        "x.safetensors",
        lambda: changed(layer1__0__conv2__weight=torch.ones(2, 2, 5, 5)),
        "has shape [2, 2, 5, 5]",
    ),
    "no classifier": (
        "x.safetensors",
        lambda: changed("linear.weight", "linear.bias"),
        "fc.weight or linear.weight (x.",
    ),
    "another classifier": (
        "x.safetensors",
        lambda: stored(**{n.replace("linear", "top"): t for n, t in SOUND.items()}),
        "nearest is torchvision",
    ),
    "renamed tensors": (
        "x.safetensors",
        lambda: stored(**{f"net_{n}": t for n, t in SOUND.items()}),
        "no network known here",
    ),
    "a unit that is missing": (
        "x.safetensors",
        lambda: changed(
            layer2__5__conv1__weight=torch.ones(4, 4, 3, 3), layer2__5__conv2__weight=torch.ones(4, 4, 3, 3)
        ),
        "has no unit",
    ),
    "a stage far away": (
        "x.safetensors",
        lambda: changed(
            layer99999__0__conv1__weight=torch.ones(4, 4, 3, 3), layer99999__0__conv2__weight=torch.ones(4, 4, 3, 3)
        ),
        "has no unit",
    ),
    "a number without end": (
        "x.safetensors",
        lambda: stored(**SOUND, **{f"layer{'9' * 5000}.0.conv1.weight": torch.ones(1)}),
        "left over",
    ),
    "groups": (
        "x.safetensors",
        lambda: changed(state=WIDE, layer1__0__conv2__weight=torch.ones(2, 1, 3, 3)),
        "2 groups (ResNeXt)",
    ),
    "a wide bottleneck": (
        "x.safetensors",
        lambda: changed(state=WIDE, layer1__0__conv3__weight=torch.ones(4, 2, 1, 1)),
        "a wide ResNet",
    ),
    "a 5x5 stem": (
        "x.safetensors",
        lambda: changed(state=WIDE, conv1__weight=torch.ones(2, 3, 5, 5)),
        "its first convolution is 5x5",
    ),
    "a description of another release": (
        "x.safetensors",
        lambda: safetensors.torch.save(SOUND, {"residual": '{"format": 99}'}),
        "newer release",
    ),
    "a description of more units than tensors": (
        "x.safetensors",
        lambda: safetensors.torch.save(SOUND, {"residual": json.dumps(HUGE)}),
        "30,000 units are said to be",
    ),
    "a description that is none": (
        "x.safetensors",
        lambda: safetensors.torch.save(SOUND, {"residual": "[1"}),
        "description cannot be used",
    ),
}


def written(name: str, make: Callable[[], bytes]) -> Maker:
    def into(folder: Path) -> Path:
        (folder / name).write_bytes(make())
        return folder / name

    return into


FILES: dict[str, tuple[Maker, str]] = {
    what: (written(name, make), words) for what, (name, make, words) in BYTES.items()
}
