"""A trained network written for other programs, and what was found when it was: `residual.export_model`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from residual.data.digits import read_digits
from residual.data.images import find_images, fit, read_image
from residual.device import at_home
from residual.errors import ResidualError, UsageError, nearest
from residual.evaluation.classifier import Classifier
from residual.evaluation.judged import select
from residual.evaluation.soundness import mind_float32
from residual.evaluation.use import Place, load, named
from residual.export.onnx_file import Agreement, export_onnx
from residual.export.transformers_folder import pack_folder
from residual.export.weights import Target, family_for, pack
from residual.files import new_folder, replace_file
from residual.sealed import mind_sealed

To = Literal[Target, "onnx"]
_COMPARED: Final = 100
_SUFFIXES: Final = {"onnx": (".onnx",), "safetensors": (".safetensors",), "transformers": ("-transformers",)}


@dataclass(frozen=True)
class Exported:
    """The file or folder, whose network it holds, and of ONNX how well ONNX Runtime agrees on which images."""

    path: Path
    classifier: Classifier
    size: int
    names: str
    agreement: Agreement | None = None
    compared: str = ""


@at_home()
def export_model(
    place: Place = None,
    out: str | os.PathLike[str] | None = None,
    *,
    to: To,
    prepared: bool = False,
    images: str | os.PathLike[str] | None = None,
    check: int | None = None,
) -> Exported:
    """Write a trained network for other programs: weights by their names, or an ONNX graph.

    Args:
        place: a run, model folder or checkpoint, or a classifier; the last run unless given.
        out: the file, which must not exist; without it, NAME.safetensors or NAME.onnx here, after the run. Of
            transformers a folder, NAME-transformers.
        to: whose names the tensors get: torchvision, timm, transformers or safetensors (ours, any network); or onnx.
        prepared: the ONNX graph prepares images itself: uint8 in, probabilities out; else float32 and logits.
        images: a folder whose images compare ONNX Runtime with the network; else the test images, or the digits.
        check: how many of them to compare, 100 unless given.

    Raises:
        UsageError: nothing can be asked so, or something stands there.  ModelError: `to` has no such network.
        EnvironmentFault: what writes ONNX is not installed.
    """
    if to not in (known := (*get_args(Target), "onnx")):
        raise UsageError(f"nothing is exported to {to!r}", "--to", nearest(str(to), known))
    for option, given in (("--prepared", prepared), ("--images", images is not None), ("--check", check is not None)):
        if given and to != "onnx":
            raise UsageError(f"{option} goes with --to onnx", "export", "leave it out")
    if check is not None and not 1 <= check <= 100_000:
        raise UsageError(f"check is {check}", "--check", "choose a number between 1 and 100000")
    suffixes = _SUFFIXES.get(to, (".safetensors", ".pth"))
    classifier = load(place) if isinstance(place, Classifier) else None
    stem = classifier.spec.name if classifier is not None else Path(os.path.abspath(named(place))).name
    place = named(place)
    path = Path(os.path.expanduser(out or f"{stem}{suffixes[0]}"))
    if to == "transformers":
        if path.suffix.lower() in (".safetensors", ".pth", ".bin", ".onnx"):
            raise UsageError("for transformers a folder is made, not a file", path, "name a folder with --out")
    elif path.suffix.lower() not in suffixes:
        raise UsageError(f"the file for {to} must be named {' or '.join(suffixes)}", path, "name another --out")
    if os.path.lexists(path):
        raise UsageError("something stands there already", path, "name another --out")
    mind_sealed(path, "--out")
    classifier = classifier or load(place)
    mind_float32(classifier.network)
    if to == "onnx":
        pixels, said = _images(classifier, place, images, check or _COMPARED)
        data, found = export_onnx(classifier, pixels, prepared)
        replace_file(path, data)
        return Exported(path, classifier, len(data), "ONNX", found, said)
    if to == "transformers":
        files = pack_folder(classifier)
        new_folder(path, files)
        return Exported(path, classifier, sum(map(len, files.values())), family_for(classifier.spec, to).title)
    data = pack(classifier, to, plain=path.suffix.lower() == ".pth")
    replace_file(path, data)
    return Exported(path, classifier, len(data), family_for(classifier.spec, to).title)


def _images(
    classifier: Classifier, place: str, folder: str | os.PathLike[str] | None, count: int
) -> tuple[Tensor, str]:
    """Real images in the model's geometry: of a folder, else the run's own test images, else the digits."""
    if folder is not None:
        files = find_images([Path(os.path.expanduser(folder))])[:count]
        return torch.stack([read_image(file, classifier.preprocessing) for file in files]), os.fspath(folder)
    if "imported" not in classifier.provenance:
        try:
            judged = select(classifier, place)
            pixels = judged.source.read(judged.indices[:count])
        except ResidualError:
            pass  # the data are no longer there
        else:
            return pixels, f"{judged.split} images of {judged.dataset}"
    digits = read_digits().test.read(torch.arange(min(count, 300)))
    sight = classifier.preprocessing
    grown = [fit(image, sight.image_size).expand(sight.channels, -1, -1) for image in digits]
    return torch.stack(grown), "embedded digits"
