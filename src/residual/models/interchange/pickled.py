"""Files of `torch.save`: the only module that calls `torch.load`, and only with `weights_only=True`.

A pickle is a program. Before torch sees it, its instructions are listed without being run, and any name outside the
few that tensors need is refused in words; torch's restricted reader then refuses the same once more. Entries of an
archive must be stored, not compressed, and must fit in the file, so that a small file cannot grow.
"""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from residual.errors import ModelError
from residual.models.interchange.foreign import Foreign, first

_PARTS: Final = ("state_dict", "model_state_dict", "model", "state_dict_ema", "model_ema", "net", "network")
_PLAIN: Final = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch\.nn\.parameter Parameter"
    r"|torch(\.cuda)? [A-Z]\w+Storage|torch Size|torch device|torch (b?float|u?int)\w+"
)
_PROGRAM = 1 << 26  # bytes of a pickle without its tensors
_ENTRIES = 200_000
_ADVICE = "load it where it was made and save the state dictionary as .safetensors"


def kind_of_zip(data: bytes) -> str:
    """What a zip archive is, by the names in it."""
    try:
        names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, OverflowError):
        return "a zip archive that is cut or damaged"
    if any(name.endswith("/constants.pkl") or "/code/" in name or name.startswith("code/") for name in names):
        return "a TorchScript archive, which is a program"
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    if "config.json" in names and "model.weights.h5" in names:
        return "keras"
    return (
        "an archive of numpy" if names and all(n.endswith(".npy") for n in names) else "a zip archive without weights"
    )


def entries(data: bytes, where: Path) -> zipfile.ZipFile:
    """A zip archive none of whose entries is compressed, encrypted, doubled or larger than the whole."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, OverflowError) as error:
        raise ModelError(f"the archive is damaged: {error!s:.80}", where, "download it again") from None
    names = [info.filename for info in infos]
    if len(names) > _ENTRIES or len(set(names)) < len(names):
        raise ModelError("the archive has an entry twice, or too many", where, "download it again")
    squeezed = [info for info in infos if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1]
    if squeezed or sum(info.file_size for info in infos) > len(data):
        raise ModelError("the archive's entries are compressed or larger than the file", where, _ADVICE)
    return archive


def read(data: bytes, where: Path, part: str | None = None) -> Foreign:
    """The state dictionary in a file of `torch.save`, of today's form (zip) or that of before release 1.6.

    Raises:
        ModelError: it is damaged, asks for anything but tensors, or it is not plain which dictionary is meant.
    """
    zipped = data.startswith(b"PK")
    for program in _zipped_program(data, where) if zipped else _early_programs(data, where):
        _refuse_calls(program, where)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storage classes that are about to go
            value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails as any program may
        what = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(
            f"the file of torch cannot be read: {what}", where, f"download it again, or {_ADVICE}"
        ) from None
    tensors, remarks = _choose(value, where, part)
    return Foreign(tensors, f"torch.save ({'zip' if zipped else 'before release 1.6'})", remarks=remarks)


def _zipped_program(data: bytes, where: Path) -> list[bytes]:
    archive = entries(data, where)
    names = [name for name in archive.namelist() if name.endswith("data.pkl")]
    if len(names) != 1 or archive.getinfo(names[0]).file_size > _PROGRAM:
        raise ModelError("the archive has no single table of tensors", where, _ADVICE)
    try:
        return [archive.read(names[0])]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"the archive is damaged: {error!s:.80}", where, "download it again") from None


def _early_programs(data: bytes, where: Path) -> Iterator[bytes]:
    """The five pickles at the head of an early file: mark, version, system, the value, names of storages."""
    stream = io.BytesIO(data[:_PROGRAM])
    for _ in range(5):
        start = stream.tell()
        for _ in _instructions(stream, where):
            pass
        yield data[start : stream.tell()]


def _instructions(stream: io.BytesIO, where: Path) -> Iterator[tuple[str, Any]]:
    try:
        for code, value, _ in pickletools.genops(stream):
            yield code.name, value
    except Exception as error:  # of any kind: the bytes are anyone's
        what = " ".join(str(error).split())[:80]
        raise ModelError(f"the table of tensors is damaged: {what}", where, "download it again") from None


def _refuse_calls(program: bytes, where: Path) -> None:
    """Refuse a pickle that names anything but what tensors are made of; it is read, not run."""
    asked = []
    for name, value in _instructions(io.BytesIO(program), where):
        if name in ("GLOBAL", "INST") and not _PLAIN.fullmatch(str(value)):
            asked.append(str(value).replace(" ", "."))
        elif name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "OBJ", "NEWOBJ_EX"):
            asked.append(f"the instruction {name}")
    if asked:
        names = first(sorted(set(asked)), 3)
        raise ModelError(f"nothing was run: the file asks for {names}, which no weights need", where, _ADVICE)


def _choose(value: object, where: Path, part: str | None) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The dictionary of tensors meant, and what was left aside."""
    if not isinstance(value, dict):
        raise ModelError(f"the file holds a {type(value).__name__}, no state dictionary", where, _ADVICE)
    inner = [name for name in _PARTS if isinstance(value.get(name), dict) and _tensors(value[name])]
    if part is None and not inner and (found := _tensors(value)):
        aside = [str(name) for name in value if name not in found]
        return found, (f"left aside: {first(aside)}",) if aside else ()
    if part is not None:
        chosen = value.get(part)
        if not isinstance(chosen, dict) or not _tensors(chosen):
            remedy = f"choose one of {', '.join(inner)}" if inner else "leave out --part"
            raise ModelError(f"the file has no part {part[:80]!r} of tensors", where, remedy)
    elif len(inner) != 1:
        keys = first([str(name) for name in value]) or "nothing"
        if inner:
            raise ModelError(f"the file holds {' and '.join(inner)}", where, f"choose one, as in --part {inner[0]}")
        raise ModelError(f"the file holds no dictionary of tensors, but {keys}", where, _ADVICE)
    key = part or inner[0]
    aside = [str(name) for name in value if name != key]
    return _tensors(value[key]), (f"taken: {key}", *([f"left aside: {first(aside)}"] if aside else []))


def _tensors(table: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {
        name: tensor.detach() for name, tensor in table.items() if isinstance(name, str) and isinstance(tensor, Tensor)
    }
