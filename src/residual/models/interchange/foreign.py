"""A foreign file of weights as named tensors; nothing in it is run, and nothing about it is guessed.

The suffix says which reader is allowed, the first bytes must agree with it. Every reader has limits of its own; what
comes out are plain tensors on the CPU, whose bytes are no more than the file's. A file is at most 2 GiB.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from residual.errors import ModelError
from residual.files import Damaged, digest, read_regular
from residual.sealed import MANIFEST

LARGEST: Final = 1 << 31
_HEADER, _MOST = 1 << 24, 100_000
_SUFFIXES: Final[Mapping[str, str]] = {
    ".safetensors": "safetensors",
    ".pth.tar": "torch",
    ".pth": "torch",
    ".pt": "torch",
    ".th": "torch",
    ".ckpt": "torch",  # of Lightning
    ".bin": "torch",
    ".weights.h5": "hdf5",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".keras": "keras",
}
_KINDS: Final = {
    "safetensors": "a safetensors file",
    "torch": "a file of torch.save",
    "hdf5": "an HDF5 file",
    "keras": "a .keras archive",
}


@dataclass(frozen=True)
class Foreign:
    """What stood in a file: tensors by their foreign names, and what else may matter.

    Attributes:
        form: how it was stored, in words.
        metadata: the texts of a safetensors file.
        remarks: what the reader took and left aside, for the report.
    """

    tensors: Mapping[str, Tensor]
    form: str
    file: str = ""
    sha256: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def is_named_like_weights(path: Path) -> bool:
    """Whether a file has a suffix by which weights are known."""
    return path.name.lower().endswith(tuple(_SUFFIXES))


def in_hub_folder(folder: Path) -> Path | None:
    """The weights in a folder as the Hugging Face hub has them, beside a `config.json`; None for any other."""
    if not (folder / "config.json").is_file() or (folder / MANIFEST).exists():
        return None
    names = ("model.safetensors", "pytorch_model.bin")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_foreign(path: Path, part: str | None = None) -> Foreign:
    """The tensors of a `.safetensors`, `.pth`, `.pt`, `.th`, `.ckpt`, `.pth.tar`, `.bin`, `.h5` or `.keras` file.

    Args:
        part: which of several state dictionaries of a checkpoint, as `state_dict_ema`.

    Raises:
        ModelError: it cannot be read, is too large, is not what its name says, or holds what no weights hold.
        EnvironmentFault: a Keras file, and h5py is not installed.
    """
    kind = next((kind for suffix, kind in _SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    if kind is None:
        raise ModelError("no known kind of weight file", path, f"it must be named {', '.join(_SUFFIXES)}")
    try:
        data = read_regular(path, LARGEST)
    except FileNotFoundError:
        raise ModelError("no such file", path, "check the name") from None
    except Damaged as error:
        remedy = "name a file of weights" if "regular" in error.what else "no network here has so many weights"
        raise ModelError(error.what, path, remedy) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read: {getattr(error, 'strerror', error)}", path, "name a readable file") from None
    if not data:
        raise ModelError("the file is empty", path, "download it again")
    found = content_of(data)
    if found != kind:
        said = _KINDS.get(found, found)
        raise ModelError(f"by its name {_KINDS[kind]}, by its content {said}", path, _remedy(found))
    foreign = _readers()[kind](data, path, part)
    checked = replace(foreign, file=path.name, sha256=digest(data))
    _refuse_odd(checked, len(data), path)
    return checked


def content_of(data: bytes) -> str:
    """What the first bytes say: a key of the table of kinds, or what else it is, in words."""
    head = data[:512]
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head.startswith(b"PK\x03\x04"):
        from residual.models.interchange.pickled import kind_of_zip

        return kind_of_zip(data)
    if head[257:262] == b"ustar":
        return "a tar archive, as torch wrote before its release 0.2"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "safetensors"
    # Protocol 2 and later; the first pickle of a file of torch is a number of ten bytes.
    if head[:1] == b"\x80":
        return "torch" if head[2:14] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" else "a pickle, which may run code"
    if head.lstrip()[:1] == b"<":
        return "a web page"
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of git-lfs"
    return "nothing but zeros" if not any(head) else "none of the known kinds"


def _remedy(found: str) -> str:
    if found in _KINDS:
        return "give it the suffix of its content, if you trust its source"
    if "tar archive" in found or "TorchScript" in found:
        return "load it where it was made and save the state dictionary as .safetensors"
    return "download it again, or save the state dictionary as .safetensors where it was made"


def _readers() -> Mapping[str, Callable[[bytes, Path, str | None], Foreign]]:
    from residual.models.interchange import hdf5, pickled

    return {
        "safetensors": lambda data, where, _: _read_safetensors(data, where),
        "torch": pickled.read,
        "hdf5": lambda data, where, _: hdf5.read(data, where),
        "keras": lambda data, where, _: hdf5.read_archive(data, where),
    }


def _read_safetensors(data: bytes, where: Path) -> Foreign:
    """The library verifies offsets, types and shapes; what it lets pass is refused here."""
    remedy = "download it again"
    length = int.from_bytes(data[:8], "little")
    if not 2 <= length <= len(data) - 8:
        raise ModelError(f"a header of {length:,} bytes in a file of {len(data):,}", where, remedy)
    if length > _HEADER:
        raise ModelError(f"a header of {length:,} bytes is larger than that of any network", where, remedy)
    try:
        header = json.loads(data[8 : 8 + length], object_pairs_hook=_single)
        if not isinstance(header, dict) or len(header) > _MOST:
            raise ValueError("the header is not a table of tensors")
        texts = header.get("__metadata__") or {}
        tensors = safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError, RuntimeError) as error:
        raise ModelError(f"the safetensors file cannot be read: {error!s:.200}", where, remedy) from None
    metadata = {key: text for key, text in texts.items() if isinstance(text, str)} if isinstance(texts, dict) else {}
    return Foreign(tensors, "safetensors", metadata=metadata)


def _single(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object in which no name stands twice: readers do not agree on which of two is meant."""
    table = dict(pairs)
    if len(table) < len(pairs):
        twin = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twin:.80} is there twice")
    return table


def _refuse_odd(foreign: Foreign, size: int, where: Path) -> None:
    """Refuse what is no plain tensor, what is larger than the file it came from, and what is not finite."""
    tensors, remedy = foreign.tensors, "save plain float32 weights where it was made"
    if not tensors:
        raise ModelError("the file holds no tensors", where, "name a file of weights")
    total = 0
    for name, tensor in tensors.items():
        plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
        if not plain or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
            raise ModelError(f"{name:.80} is no plain tensor of real numbers", where, remedy)
        total += tensor.numel() * tensor.element_size()
        if total > 2 * size + _HEADER or len(tensors) > _MOST:
            raise ModelError("the tensors claim to be larger than the file that holds them", where, remedy)
    poisoned = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not _finite(tensor)]
    if poisoned:
        raise ModelError("the weights are not all finite", where, f"{first(poisoned)}; take another file")


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().float().isfinite().all())


def first(names: list[str], shown: int = 5) -> str:
    """The first of many names, and how many more there are."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"{name:.80}" for name in names[:shown]) + rest
