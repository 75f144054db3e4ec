"""`residual export`."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from residual.cli.text import Whole, printable


def export(
    run: str,
    /,
    *,
    to: Literal["torchvision", "timm", "transformers", "safetensors", "onnx"] | None = None,
    out: str | None = None,
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
        The library whose tensor names are used; safetensors keeps our own and takes any network. transformers makes a
        folder that Hugging Face's from_pretrained reads; onnx writes the network itself.
    out
        The file: .safetensors, .pth (a plain dictionary of torch.save) or .onnx; it must not exist. Without it,
        RUN.safetensors or RUN.onnx in the working folder, after the run's name. Of transformers the folder,
        RUN-transformers.
    prepared
        Include the preprocessing in the ONNX graph: it takes uint8 images and gives probabilities. Without this option
        it takes float32 images that are already normalised, and gives logits.
    images
        Compare ONNX Runtime with the network on the images in this folder; without it, on the test
        images of the run, or the embedded digits.
    check
        How many of them to compare, 100 unless given.
    """
    from residual.cli.predict import mind_first_word
    from residual.environment import check_versions
    from residual.errors import UsageError, argument

    mind_first_word(run, "export", ("",))
    if to is None:
        raise UsageError("--to is missing", "export", "choose torchvision, timm, transformers, safetensors or onnx")
    check_versions()
    from residual.export.writing import export_model

    made = export_model(run, out, to=to, prepared=prepared, images=images, check=check)
    path, name = made.path, made.classifier.spec.name
    if made.agreement is None:
        print(printable(f"{path}: {name} with the names of {made.names}, {made.size:,} bytes"))
        if to == "transformers":
            print(printable(f"there    AutoModelForImageClassification.from_pretrained({str(path)!r})"))
            print(printable(f"back     residual import {argument(path / 'model.safetensors')} --to FOLDER"))
        elif path.suffix.lower() == ".pth":
            print("without  image size, constants and names of classes: such a file has tensors alone")
        else:
            print(printable(f"back     residual import {argument(path)} --to FOLDER"))
        return 0
    from residual.export.onnx_file import OPSET

    height, width = made.classifier.preprocessing.image_size
    seen = f"{made.classifier.preprocessing.channels} x {height} x {width}"
    kind = "uint8 images in, probabilities out" if prepared else "float32 images, already normalised, in, logits out"
    said = f"opset {OPSET}, {kind}, any number of images of {seen}, {made.size:,} bytes"
    print(printable(f"{path}: {name}, {said}"))
    print(
        printable(
            f"ONNX Runtime agrees on {made.agreement.images:,} images ({made.compared}): the same best class for all, "
            f"largest difference {made.agreement.largest:.2g}"
        )
    )
    return 0
