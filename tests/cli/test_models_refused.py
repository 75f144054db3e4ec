"""Models that are not what they seem: one line with the reason, nothing run, nothing large read."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch

from residual.evaluation.classifier import DESCRIPTION, WEIGHTS
from residual.files import canonical, digest
from residual.sealed import MANIFEST, read_folder, write_folder

Header = dict[str, Any]
OWNED = "owned"


class Evil:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path(OWNED).write_text, ("",)


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def script() -> bytes:
    """An archive as TorchScript writes it: a zip of code and pickles, with the mark of its kind."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    writer.write_record("code/__torch__.py", b"def forward(self): ...", 22)
    writer.write_record("data.pkl", pickle.dumps(Evil()), len(pickle.dumps(Evil())))
    writer.write_end_of_file()
    return buffer.getvalue()


def archive() -> bytes:
    buffer = io.BytesIO()
    numpy.savez(buffer, weights=numpy.array([Evil()], dtype=object))
    return buffer.getvalue()


FOREIGN: dict[str, Callable[[], bytes]] = {
    "pickle.safetensors": lambda: pickle.dumps(Evil()),
    "zip.pt": lambda: saved({"state_dict": Evil()}),
    "old.pth.tar": lambda: saved(Evil(), _use_new_zipfile_serialization=False),
    "script.pt": script,
    "array.npz": archive,
    "sound.safetensors": lambda: safetensors.torch.save({"x": torch.zeros(3)}),
    "empty.pt": lambda: b"",
}


@pytest.fixture
def picture(say: Any, here: Path) -> str:
    assert say("samples", "images", "--count", 1).code == 0
    return "images"


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_of_another_program_is_refused_and_never_opened(refused, picture, here, name):
    (here / name).write_bytes(FOREIGN[name]())
    words, remedy = f"this is a file, and no run or model of this program is one ({name})", "name the folder"
    refused(4, ["train", "--resume", name], words, remedy)
    if name != "array.npz":  # what `residual import` may read, by the end of its name
        words, remedy = f"this is a file of weights, not a run or a model folder ({name})", "residual import"
    for arguments in (["predict", name, picture], ["evaluate", name]):
        refused(4, arguments, words, remedy)
    assert not (here / OWNED).exists()


def test_the_pickles_of_these_tests_would_run(here):
    pickle.loads(pickle.dumps(Evil()))
    assert (here / OWNED).exists()


# The same inside a model folder, sealed anew by whoever made it


@pytest.fixture
def reseal(finished: Path, here: Path) -> Callable[..., Path]:
    """A copy of the run's model with files changed and a manifest that fits them: `reseal(**{name: bytes})`."""
    facts, contents = read_folder(finished / "model", "model")

    def make(changes: dict[str, bytes]) -> Path:
        write_folder(here / "model", {**contents, **changes}, "model", facts)
        return Path("model")

    return make


@pytest.fixture
def weights(finished: Path) -> bytes:
    return (finished / "model" / WEIGHTS).read_bytes()


def split(data: bytes) -> tuple[Header, bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def joined(header: Header | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def twice(data: bytes) -> bytes:
    header, rest = split(data)
    name = "classifier.bias"
    text = json.dumps(header)
    return joined(f"{text[:-1]}, {json.dumps(name)}: {json.dumps(header[name])}}}".encode(), rest)


def with_entry(**entry: object) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        header, rest = split(data)
        header["classifier.bias"] |= entry
        return joined(header, rest)

    return change


def overlapping(data: bytes) -> bytes:
    header, _ = split(data)
    return with_entry(data_offsets=header["stem.norm.bias"]["data_offsets"])(data)


FORGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a pickle": (lambda _: pickle.dumps(Evil()), "cannot be read"),
    "an archive of torch": (lambda _: saved(Evil()), "cannot be read"),
    "nothing": (lambda _: b"", "header too small"),
    "a header of 2^63 bytes": (lambda _: struct.pack("<Q", 2**63) + b"{}", "header too large"),
    "a header of 101 MB": (lambda _: joined(b"{" + b" " * 101_000_000 + b"}"), "header too large"),
    "a header of lists in lists": (lambda _: joined(b"[" * 100_000), "cannot be read"),
    "a header that is not UTF-8": (lambda _: joined(b'{"\xff": 1}'), "cannot be read"),
    "overlapping places": (overlapping, "invalid offset"),
    "places that overflow": (with_entry(data_offsets=[0, 2**63]), "invalid"),
    "a shape that overflows": (with_entry(shape=[2**32, 2**32]), "overflow"),
    "a negative shape": (with_entry(shape=[-10]), "cannot be read"),
    "an unknown type": (with_entry(dtype="X9"), "cannot be read"),
    "bytes after the end": (lambda data: data + b"more", "not fully covered"),
    "one name twice": (twice, "classifier.bias is there twice"),
}


@pytest.mark.parametrize(("forge", "reason"), FORGED.values(), ids=FORGED)
def test_forged_weights_are_refused(refused, reseal, weights, picture, here, forge, reason):
    place = reseal({WEIGHTS: forge(weights)})
    refused(4, ["predict", place, picture], "the weights cannot be read (model)", reason)
    assert not (here / OWNED).exists()


def test_the_first_five_differences_are_named(refused, reseal, weights, picture):
    tensors = safetensors.torch.load(weights)
    tensors["classifier.bias"] = tensors["classifier.bias"].half()
    tensors["classifier.weight"] = tensors["classifier.weight"].T.contiguous()
    for name in [name for name in tensors if name.startswith("stem.norm")]:
        tensors[f"other.{name}"] = tensors.pop(name)
    line = refused(
        4, ["evaluate", reseal({WEIGHTS: safetensors.torch.save(tensors)})], "do not fit the network (model)"
    )
    assert line.count(" is missing") == 5
    assert "and 7 more" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t | {"extra": torch.zeros(1)}, ["extra is unknown"]),
        (lambda t: t | {"classifier.bias": torch.zeros(11)}, ["classifier.bias has shape [11], not [10]"]),
        (lambda t: t | {"classifier.bias": torch.zeros(10).half()}, ["classifier.bias has type float16, not float32"]),
        (lambda t: {name: x for name, x in t.items() if name != "classifier.bias"}, ["classifier.bias is missing"]),
    ],
    ids=["extra", "shape", "type", "missing"],
)
def test_a_difference_is_named(refused, reseal, weights, picture, change, words):
    data = safetensors.torch.save(change(safetensors.torch.load(weights)))
    refused(4, ["predict", reseal({WEIGHTS: data}), picture], "the weights do not fit the network (model)", *words)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_predict_nothing(refused, reseal, weights, picture, value):
    tensors = safetensors.torch.load(weights)
    tensors["stem.norm.running_var"][0] = value
    place = reseal({WEIGHTS: safetensors.torch.save(tensors)})
    for arguments in (["predict", place, picture], ["evaluate", place]):
        refused(4, arguments, "the weights are not all finite (model)", "stem.norm.running_var", "earlier save")


@pytest.mark.parametrize(
    ("names", "words"),
    [(None, "class_names"), (["a"] * 9, "9 class names for 10 classes"), ("abcdefghij", "not a list of names")],
    ids=["absent", "nine", "a word"],
)
def test_class_names_that_do_not_fit(refused, reseal, finished, picture, names, words):
    description = json.loads((finished / "model" / DESCRIPTION).read_bytes())
    del description["class_names"]
    if names is not None:
        description["class_names"] = names
    refused(4, ["predict", reseal({DESCRIPTION: canonical(description)}), picture], words, "(model)")


# Files without end


@pytest.mark.parametrize("name", [WEIGHTS, DESCRIPTION, MANIFEST])
def test_a_file_that_was_made_huge_is_not_read(refused, reseal, picture, here, name):
    place = reseal({})
    os.truncate(here / place / name, 100 << 30)
    refused(4, ["predict", place, picture], "107,374,182,400 bytes where at most", f"model/{name}")


def test_a_huge_file_whose_manifest_agrees_is_not_read(refused, reseal, picture, here):
    place = reseal({})
    os.truncate(here / place / WEIGHTS, 100 << 30)
    body = json.loads((here / place / MANIFEST).read_bytes())
    del body["seal"]
    body["files"][WEIGHTS]["bytes"] = 100 << 30
    (here / place / MANIFEST).write_bytes(canonical(body | {"seal": digest(canonical(body))}))
    refused(
        4, ["predict", place, picture], "107,374,182,400 bytes are more than any model has (model/model.safetensors)"
    )


def test_records_that_were_made_huge_are_not_read(say, refused, finished, here):
    os.truncate(finished / "records.jsonl", 100 << 30)
    (row,) = json.loads(say("runs", ".", "--json").out)
    assert row == {"run": "run", "damaged": "records.jsonl is larger than any run's"}
    refused(4, ["curves", "run"], "records.jsonl is larger than any run's (run)")
