"""Answer sheets: what a classifier answered to every image of a split, apart from the classifier and the images.

logits_NK float32, labels_N int64 in [0, K), `images` the name of each (a file, or its number). A file of predictions
holds one sheet or several of the same images and classes: the tensors `logits` MNK and `labels` N, and JSON `facts`
with class names, names of the images and what is known of each member. In a `.safetensors` file `facts` stands in the
header, in an `.npz` file it is a string; neither needs pickle, nor the model, to be read.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from residual.data.layout import some
from residual.errors import DataError, UsageError
from residual.evaluation.logits import finite
from residual.evaluation.protocols import Average, combine
from residual.files import Damaged, Facts, read_regular, replace_file

SUFFIXES = (".safetensors", ".npz")
FORMAT = 1
_LARGEST = 1 << 33
_NEEDED = {"place": str, "step": int, "dataset": str, "origin": str, "split": str, "protocol": str, "words": str}
_NEEDED |= {"views": int, "average": str, "device": str, "seconds": float, "identity": str}


@dataclass(frozen=True)
class Sheet:
    """The answers of one classifier, or of an ensemble.

    `facts` has place, step, dataset, origin, split, protocol, words (the protocol's, exactly), views, average, device,
    seconds, identity (a digest of which images these are) and, where one was fitted, temperature {value, images}.
    """

    logits: Tensor
    labels: Tensor
    images: tuple[str, ...]
    class_names: tuple[str, ...]
    facts: Facts

    @property
    def place(self) -> str:
        return str(self.facts["place"])


def align(sheets: Sequence[Sheet]) -> list[Sheet]:
    """The sheets with images and classes in the order of the first, matched by their names.

    Raises:
        UsageError: other classes, other images or another protocol.  DataError: the same images, labelled otherwise.
    """
    first = sheets[0]
    found = [first]
    for sheet in sheets[1:]:
        pair = f"{first.place}, {sheet.place}"
        _refuse_unlike(first, sheet, pair)
        rows, columns = _order(first.images, sheet.images), _order(first.class_names, sheet.class_names)
        places = torch.empty_like(columns)
        places[columns] = torch.arange(len(columns))  # where each of its classes stands in the first
        labels = places[sheet.labels[rows]]
        if not torch.equal(labels, first.labels):
            odd = first.images[int((labels != first.labels).nonzero()[0])]
            what = f"the same images have other labels, for one {odd[:80]!r}"
            raise DataError(what, pair, "judge both on the same data, named with --data")
        logits = sheet.logits[rows][:, columns]
        found.append(replace(sheet, logits=logits, labels=labels, images=first.images, class_names=first.class_names))
    return found


def _refuse_unlike(first: Sheet, other: Sheet, pair: str) -> None:
    for names, what in ((first.class_names, "classes"), (first.images, "images")):
        if len(set(names)) != len(names):
            raise UsageError(f"two {what} have the same name", first.place, "only different names can be matched")
    mine, theirs = set(first.class_names), set(other.class_names)
    if mine != theirs or len(other.class_names) != len(theirs):
        only = [f"only the first has {some(sorted(mine - theirs))}"] * bool(mine - theirs)
        only += [f"only the second has {some(sorted(theirs - mine))}"] * bool(theirs - mine)
        what = f"their classes are not the same: {' and '.join(only) or 'a name stands twice'}"
        raise UsageError(what, pair, "runs are put together where they tell the same classes apart")
    if first.facts["identity"] != other.facts["identity"] or set(first.images) != set(other.images):
        what = f"they were judged on different images, {_judged(first)} and {_judged(other)}"
        raise UsageError(what, pair, "choose a --split or --data that is the same for all")
    if first.facts["protocol"] != other.facts["protocol"]:
        what = f"their protocols differ, {first.facts['protocol']} and {other.facts['protocol']}"
        raise UsageError(what, pair, "evaluate both with the same --protocol")


def _judged(sheet: Sheet) -> str:
    return f"{len(sheet.images):,} {sheet.facts['split']} images of {sheet.facts['dataset']}"


def _order(wanted: Sequence[str], there: Sequence[str]) -> Tensor:
    """Where each wanted name stands."""
    places = {name: place for place, name in enumerate(there)}
    return torch.tensor([places[name] for name in wanted], dtype=torch.int64)


def ensemble(sheets: Sequence[Sheet], average: Average) -> Sheet:
    """The average of aligned sheets.

    Raises:
        UsageError: logits are to be averaged, and of the views of a member there are only mean probabilities.
    """
    for sheet in sheets:
        if average == "logits" and sheet.facts["views"] > 1 and sheet.facts["average"] != "logits":
            what = f"its {sheet.facts['views']} views were averaged as probabilities, so it has no logits to average"
            raise UsageError(what, sheet.place, "use --average probabilities, or evaluate with --average logits")
    first = sheets[0]
    facts = {**first.facts, "place": f"ensemble of {len(sheets)}", "average": average, "temperature": None}
    facts |= {"members": [sheet.place for sheet in sheets], "step": max(sheet.facts["step"] for sheet in sheets)}
    facts |= {"seconds": sum(sheet.facts["seconds"] for sheet in sheets)}
    return replace(first, logits=combine([sheet.logits for sheet in sheets], average), facts=facts)


def check_name(path: Path, more: Sequence[str] = ()) -> None:
    """Refuse a name that tells no format, before anything is computed.

    Args:
        more: endings that are taken beside those of files of predictions.

    Raises:
        UsageError: neither .safetensors nor .npz.
    """
    if path.suffix.lower() not in (*SUFFIXES, *more):
        raise UsageError(
            "no such format of predictions", path, f"let the name end in {' or '.join((*SUFFIXES, *more))}"
        )


def save(path: Path, sheets: Sequence[Sheet], together: Facts | None = None) -> None:
    """Write aligned sheets, whole or not at all; the name's ending says in which format.

    Args:
        together: what is known of their ensemble.

    Raises:
        UsageError: the ending is of no format.  ModelError: an answer is not finite.  StorageError: the disk refused.
    """
    check_name(path)
    for sheet in sheets:
        finite(sheet.logits, sheet.place)  # `read` takes no others
    first = sheets[0]
    facts = json.dumps(
        {
            "format": FORMAT,
            "kind": "predictions",
            "class_names": list(first.class_names),
            "images": list(first.images),
            "members": [sheet.facts for sheet in sheets],
            "ensemble": together,
        }
    )
    tensors = {"logits": torch.stack([sheet.logits for sheet in sheets]).contiguous(), "labels": first.labels}
    if path.suffix.lower() == ".npz":
        packed = io.BytesIO()
        np.savez(packed, facts=np.array(facts), logits=tensors["logits"].numpy(), labels=tensors["labels"].numpy())
        replace_file(path, packed.getvalue())
    else:
        replace_file(path, safetensors.torch.save(tensors, metadata={"facts": facts}))


def read(path: Path) -> tuple[list[Sheet], Facts]:
    """The sheets of a file, and what is known of their ensemble.

    Raises:
        UsageError: the ending is of no format.  DataError: not such a file, or damaged.
    """
    check_name(path)
    try:
        data = read_regular(path, _LARGEST)
    except Damaged as error:
        raise DataError(error.what, path, "name a file that `residual evaluate --predictions` wrote") from None
    except OSError as error:
        raise DataError(f"cannot read: {(error.strerror or '').lower()}", path, "check the name") from None
    try:
        text, tensors = (_npz if path.suffix.lower() == ".npz" else _safetensors)(data)
        return _unpack(json.loads(text), tensors["logits"], tensors["labels"])
    except (
        *(KeyError, ValueError, TypeError, EOFError, OSError, RecursionError, MemoryError, NotImplementedError),
        *(RuntimeError, zipfile.BadZipFile, safetensors.SafetensorError),
    ) as error:
        reason = " ".join(str(error).split())[:120]
        remedy = "write it again with `residual evaluate --predictions`"
        raise DataError(f"not a file of predictions: {reason}", path, remedy) from None


def _safetensors(data: bytes) -> tuple[str, dict[str, Tensor]]:
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header["__metadata__"]["facts"], tensors


def _npz(data: bytes) -> tuple[str, dict[str, Tensor]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
            raise ValueError("it would unpack to more than any predictions need")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return str(arrays["facts"]), {name: torch.from_numpy(arrays[name]) for name in ("logits", "labels")}


def _unpack(facts: Any, logits_MNK: Tensor, labels_N: Tensor) -> tuple[list[Sheet], Facts]:
    if not isinstance(facts, dict) or facts.get("kind") != "predictions" or not isinstance(facts.get("format"), int):
        raise ValueError("its facts are those of something else")
    if facts["format"] > FORMAT:
        raise ValueError(f"format {facts['format']} is newer than this program; install a newer release")
    names, images, members, together = (facts[key] for key in ("class_names", "images", "members", "ensemble"))
    for values, what in ((names, "class_names"), (images, "images")):
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{what} is not a list of names")
    if logits_MNK.dtype != torch.float32 or logits_MNK.shape != (len(members), len(images), len(names)):
        raise ValueError("logits are not float32 for its members, images and classes")
    if not bool(logits_MNK.isfinite().all()):
        raise ValueError("a logit is not finite")
    if labels_N.dtype != torch.int64 or labels_N.shape != (len(images),) or not members or len(names) < 2:
        raise ValueError("labels are not int64, one for each image")
    if len(images) and not 0 <= int(labels_N.min()) <= int(labels_N.max()) < len(names):
        raise ValueError("a label is of no class")
    for member in members:
        for key, kind in _NEEDED.items():
            if not isinstance(member[key], kind):
                raise ValueError(f"{key} of a member is not {kind.__name__}")
        _check_temperature(member.get("temperature"))
    if together is not None:
        _check_temperature(together["temperature"])
    sheets = [
        Sheet(logits, labels_N, tuple(images), tuple(names), member)
        for logits, member in zip(logits_MNK, members, strict=True)
    ]
    return sheets, together or {}


def _check_temperature(found: Any) -> None:
    if found is not None and not (found["value"] > 0 and isinstance(found["images"], int)):
        raise ValueError("a temperature is not above 0")
