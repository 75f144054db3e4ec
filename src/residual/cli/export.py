"""`residual export`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from residual.cli.text import Whole, printable

if TYPE_CHECKING:
    from torch import Tensor

    from residual.evaluation.classifier import Classifier


def export(
    run: str,
    /,
    *,
    to: Literal["torchvision", "timm", "safetensors", "onnx"],
    out: str,
    prepared: Annotated[bool, Parameter(negative=())] = False,
    images: str | None = None,
    check: Whole | None = None,
) -> int:
    """Write a trained network for other programs: weights by their names, or an ONNX graph.

    Parameters
    ----------
    run
        A run, a model folder or a checkpoint; `last` is the last run.
    to
        Whose names the tensors get; safetensors keeps ours and any network. onnx writes the network itself.
    out
        The file: .safetensors, .pth (a plain dictionary of torch.save) or .onnx; it must not exist.
    prepared
        The ONNX graph takes uint8 images and gives probabilities.
    images
        PNG, JPEG or WebP files in this folder compare ONNX Runtime with the network; without it the test images of
        the run, or the embedded digits.
    check
        How many of them to compare, 100 unless given.
    """
    from residual.environment import check_versions
    from residual.errors import UsageError, argument
    from residual.files import replace_file

    check_versions()
    path = Path(os.path.expanduser(out))
    suffixes = (".onnx",) if to == "onnx" else (".safetensors",) if to == "safetensors" else (".safetensors", ".pth")
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"the file for {to} must be named {' or '.join(suffixes)}", path, "name another --out")
    if os.path.lexists(path):
        raise UsageError("something stands there already", path, "name another --out")
    for option, given in (("--prepared", prepared), ("--images", images is not None), ("--check", check is not None)):
        if given and to != "onnx":
            raise UsageError(f"{option} goes with --to onnx", "export", "leave it out")
    if check is not None and not 1 <= check <= 100_000:
        raise UsageError(f"check is {check}", "--check", "choose a number between 1 and 100000")

    from residual.evaluation.use import load

    classifier = load(run)
    if to != "onnx":
        from residual.export.weights import family_for, pack

        data = pack(classifier, to, plain=path.suffix.lower() == ".pth")
        replace_file(path, data)
        names = family_for(classifier.spec, to).title
        print(printable(f"{path}: {classifier.spec.name} with the names of {names}, {len(data):,} bytes"))
        print(printable(f"back     residual import {argument(path)} --to FOLDER"))
        return 0
    from residual.export.onnx_file import OPSET, export_onnx

    pixels, said = _images(classifier, run, images, 100 if check is None else check)
    data, found = export_onnx(classifier, pixels, prepared)
    replace_file(path, data)
    kind = "uint8 images in, probabilities out" if prepared else "prepared images in, logits out"
    print(
        printable(f"{path}: {classifier.spec.name}, opset {OPSET}, {kind}, any number of images, {len(data):,} bytes")
    )
    print(
        printable(
            f"ONNX Runtime agrees on {found.images:,} images ({said}): the same best class for all, "
            f"largest difference {found.largest:.2g}"
        )
    )
    return 0


def _images(classifier: Classifier, run: str, folder: str | None, count: int) -> tuple[Tensor, str]:
    """Real images in the model's geometry: of a folder, else the run's own test images, else the digits."""
    import torch

    from residual.data.images import find_images, fit, read_image
    from residual.errors import ResidualError
    from residual.evaluation.judged import select

    if folder is not None:
        files = find_images([Path(os.path.expanduser(folder))])[:count]
        return torch.stack([read_image(file, classifier.preprocessing) for file in files]), folder
    if "imported" not in classifier.provenance:
        try:
            judged = select(classifier, run)
            pixels = judged.source.read(judged.indices[:count])
        except ResidualError:
            pass  # the data are no longer there
        else:
            return pixels, f"{judged.split} images of {judged.dataset}"
    from residual.data.digits import read_digits

    digits = read_digits().test.read(torch.arange(min(count, 300)))
    sight = classifier.preprocessing
    grown = [fit(image, sight.image_size).expand(sight.channels, -1, -1) for image in digits]
    return torch.stack(grown), "embedded digits"
