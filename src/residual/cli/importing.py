"""`residual import`."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from residual.cli.text import Whole, printable

if TYPE_CHECKING:
    from residual.models.interchange.conversion import Report

_NAMES_LIMIT = 1 << 24


def import_(
    weights: str,
    /,
    *,
    to: str | None = None,
    from_: Annotated[
        Literal["auto", "torchvision", "timm", "transformers", "keras", "cifar", "safetensors"],
        Parameter(name="--from"),
    ] = "auto",
    classes: str | None = None,
    channels: Whole | None = None,
    resize: Whole | None = None,
    interpolation: Literal["bilinear", "bicubic"] | None = None,
    image_size: Whole | None = None,
    mean: str | None = None,
    std: str | None = None,
    part: str | None = None,
    stem: Literal["3x3", "3x3/2"] | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Convert weights from elsewhere into a model folder that evaluate and predict can use.

    No code in the file is executed. If any tensor cannot be accounted for, the file is refused.

    Parameters
    ----------
    weights
        A .safetensors, .pth, .pt, .th, .ckpt, .pth.tar, .bin, .h5, .weights.h5 or .keras file; or torchvision:resnet50
        and the like, which is downloaded and verified.
    to
        The model folder to make; it must not exist.
    from_
        The library whose tensor names the file has; auto detects it and says so.
    classes
        A text file with the name of a class on each line, in the order of the labels.
    channels
        Number of image channels, if different from the training images: the first convolution is adapted.
    resize
        The side to which images are resized before the centre is cut, if not what is usual for the library.
    interpolation
        How images are resized; without it, as a config.json beside the weights says, or as the library does it.
    image_size
        The side of the input images; without it, as a config.json says, or the library's usual one.
    mean
        The mean of each channel, for pixels from 0 to 1, as 0.485,0.456,0.406; must be given with --std.
    std
        The standard deviation of each channel, written the same way.
    part
        Which dictionary of a checkpoint that holds several, as state_dict_ema.
    stem
        The stem of a ResNet for small images with torchvision's names, which its tensors do not show: 3x3, or 3x3/2
        with stride 2; no pooling follows.
    json
        The report as JSON.
    """
    from residual.environment import check_versions
    from residual.errors import UsageError, argument

    if to is None:
        folder = argument(
            Path(weights).name.partition(".")[0].partition(":")[2] or Path(weights).name.partition(".")[0]
        )
        raise UsageError("--to is missing", "import", f"name the model folder to make, as in --to {folder}")
    check_versions()
    target = Path(os.path.expanduser(to))
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("something stands there already", target, "name another --to")
    from residual.sealed import mind_sealed, write_folder

    mind_sealed(target, "--to")
    names = _read_names(Path(os.path.expanduser(classes))) if classes is not None else None
    constants = (_numbers("--mean", mean), _numbers("--std", std))

    from residual.evaluation.bringing import Asked, import_file

    asked = Asked(from_, part, names, channels, image_size, *constants, resize, interpolation, stem)
    classifier, foreign, brought, said = import_file(weights, asked)
    write_folder(
        target, classifier.pack(), "model", {"step": classifier.provenance["step"], "imported": foreign.sha256}
    )
    spec, report = brought.network.spec, brought.report
    if json:
        facts = {"folder": str(target), "file": foreign.file, "sha256": foreign.sha256, "form": foreign.form}
        print(json_.dumps({**facts, "network": spec.model_dump(mode="json"), "report": report.as_dict(), "said": said}))
        return 0
    height, width = classifier.preprocessing.image_size
    _tell(report, said, f"{foreign.file} ({foreign.form}, SHA-256 {foreign.sha256})")
    channels_ = "1 channel" if spec.channels == 1 else f"{spec.channels} channels"
    print(printable(f"network  {spec.name}, {spec.classes} classes, {channels_}, {height} x {width} pixels"))
    print(printable(f"model    {target}"))
    if spec.channels in (1, 3):
        print(printable(f"next     residual predict {argument(target)} IMAGE_OR_FOLDER"))
    return 0


def _numbers(flag: str, text: str | None) -> tuple[float, ...] | None:
    """The numbers that stand in a text between commas."""
    from residual.errors import UsageError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        remedy = "give a number for each channel, of pixels from 0 to 1, as in 0.485,0.456,0.406"
        raise UsageError(f"{text[:60]!r} cannot be used", flag, remedy) from None


def _read_names(path: Path) -> list[str]:
    from residual.errors import UsageError
    from residual.evaluation.soundness import twin_of
    from residual.files import Damaged, read_regular

    try:
        lines = read_regular(path, _NAMES_LIMIT).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, Damaged) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "what", None) or "not UTF-8"
        raise UsageError(f"the names of the classes cannot be read: {reason}", path, "name a text file") from None
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    twin = twin_of(names)
    for fault, found in (("is empty", ""), *(() if twin is None else ((f"is there twice: {twin:.40}", twin),))):
        if found in names:
            line = names.index(found) + 1
            raise UsageError(f"line {line} {fault}", path, "give every class a name of its own")
    return names


def _tell(report: Report, said: list[str], file: str) -> None:
    lines: list[tuple[str, Any]] = [
        ("file", file),
        ("names", f"of {report.family}: {len(report.matched)} matched, {len(report.converted)} converted"),
    ]
    changes: dict[str, list[str]] = {}
    for name, how in report.converted:
        changes.setdefault(how, []).append(name)
    for how, names in changes.items():
        lines.append(("changed", f"{how}: {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")))
    if report.missing:
        lines.append(("missing", f"{len(report.missing)} counters of batches, set to 0"))
    lines += [("note", words) for words in (*report.remarks, *said)]
    for label, words in lines:
        print(printable(f"{label:<8} {words}"))
