"""A classifier from foreign weights: the network, the images it expects, the names of its classes, where it came from.

What a file does not tell is taken from its library's published weights and said; nothing of it is measured here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch

from residual.data.cifar import CLASS_NAMES, OFFICIAL
from residual.data.datasets import Name
from residual.data.geometry import Interpolation
from residual.data.preprocessing import Preprocessing
from residual.errors import ModelError, UsageError
from residual.evaluation.classifier import Classifier
from residual.evaluation.soundness import twin_of
from residual.models.interchange.class_names import imagenet_names
from residual.models.interchange.conversion import Sight
from residual.models.interchange.families import Brought
from residual.models.interchange.foreign import Foreign

ELSEWHERE = "the images its weights were trained on"


def classifier_of(
    brought: Brought,
    foreign: Foreign,
    names: Sequence[str] | None = None,
    resize: int | None = None,
    interpolation: Interpolation | None = None,
    beside: Sight | None = None,
    labels: Sequence[str] | None = None,
    asked: Mapping[str, Any] | None = None,
) -> tuple[Classifier, list[str]]:
    """The classifier, and what was assumed for it, line by line.

    Args:
        names: of the classes, in the order of their labels, if not those the file or its library is known for.
        resize: the side to which images are resized before the centre is cut, if not that of the library.
        interpolation: how they are resized, if not as the library does.
        beside: what a description beside the file says of the images; goes before what is usual for the library.
        labels: the names of the classes there; pass where the file itself has none.
        asked: what goes before all of these: `image_size`, and `mean` and `std` of pixels / 255, one for each channel.

    Raises:
        ModelError: the file's own description does not fit its network.
        UsageError: there are not as many names as classes, or numbers as channels; or the file says it itself.
    """
    said: list[str] = []
    spec, description = brought.network.spec, brought.description
    if description is not None:
        if asked:
            remedy = "leave them out"
            raise UsageError("the file says itself what images it takes", ", ".join(map(_flag, asked)), remedy)
        preprocessing = _restored(description, foreign.file)
    else:
        assert brought.sight is not None  # one of the two always is
        sight = beside or brought.sight
        if asked and "image_size" in asked:
            sight = replace(sight, image_size=asked["image_size"], trained=None)
        if asked and "mean" in asked:
            sight = _with_constants(sight, asked["mean"], asked["std"], spec.channels)
        preprocessing = _preprocessing(sight)
        said.append(f"constants: {sight.source}")
    if resize is not None:
        side = preprocessing.image_size[0]
        if not side <= resize <= 10 * side:
            raise UsageError(f"resize is {resize}", "--resize", f"choose a side between {side} and {10 * side}")
        preprocessing = replace(preprocessing, crop=side / resize)
    if interpolation is not None:
        preprocessing = replace(preprocessing, interpolation=interpolation)
    if preprocessing.channels != spec.channels:
        how = "their mean over the channels" if spec.channels == 1 else "repeated in turn"
        said.append(f"constants for {spec.channels} of {preprocessing.channels} channels: {how}")
        preprocessing = _with_channels(preprocessing, spec.channels, foreign.file)
    found, words = _names(brought, names, labels)
    said.append(words)
    if spec.channels not in (1, 3):
        said.append(f"no image file has {spec.channels} channels: give uint8 tensors of C x H x W to Classifier.logits")
    old = (description or {}).get("provenance", {})
    provenance = {
        **old,
        "run": foreign.file,
        "step": old.get("step", 0),
        "data": {"origin": ELSEWHERE, "checksums": {}, **old["data"]} if old.get("data") else _data(found),
        "imported": {
            "file": foreign.file,
            "sha256": foreign.sha256,
            "form": foreign.form,
            "library": brought.report.family,
            "report": brought.report.as_dict(),
            "assumed": said,
        },
    }
    return Classifier(brought.network, preprocessing, found, provenance), said


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _with_constants(sight: Sight, mean: Sequence[float], std: Sequence[float], channels: int) -> Sight:
    for flag, numbers in (("--mean", mean), ("--std", std)):
        if len(numbers) != channels:
            what = f"{len(numbers)} given, and the images have {channels} channels"
            raise UsageError(what, flag, "give one number for each channel, of pixels from 0 to 1")
    return replace(sight, mean=tuple(mean), std=tuple(std), source="as asked")


def _preprocessing(sight: Sight) -> Preprocessing:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (sight.mean, sight.std))
    trained = None if sight.trained is None else (sight.trained,) * 2
    way = (sight.crop, sight.resize, sight.interpolation, trained)
    return Preprocessing((sight.image_size,) * 2, len(sight.mean), "mean-std", mean, std, *way)


def _restored(description: dict[str, Any], where: str) -> Preprocessing:
    try:
        constants = {name: torch.tensor(values) for name, values in description["constants"].items()}
        names = description["class_names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("class_names is not a list of names")
        if type(description["provenance"].get("step", 0)) is not int:
            raise ValueError("provenance has no step")
        _check_data(description["provenance"].get("data") or {"name": "folder"})
        return Preprocessing.restore(description["preprocessing"], constants)
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        remedy = "export it again with `residual export RUN --to safetensors`"
        raise ModelError(f"the file's description cannot be used: {error!r:.120}", where, remedy) from None


def _check_data(data: dict[str, Any]) -> None:
    """Raise where it is not what `evaluate` reads of the data set of a training."""
    if data["name"] not in get_args(Name) or not isinstance(data.get("origin", ""), str):
        raise ValueError("provenance.data is of no known data set")
    if not all(isinstance(text, str) for pair in data.get("checksums", {}).items() for text in pair):
        raise ValueError("provenance.data.checksums is no table of texts")


def _with_channels(preprocessing: Preprocessing, channels: int, where: str) -> Preprocessing:
    """The constants for other channels: their mean for one, else repeated in turn."""
    if preprocessing.normalisation != "mean-std":
        raise ModelError("its mean image has other channels", where, f"leave --channels at {preprocessing.channels}")
    return preprocessing.with_channels(channels)


def _names(brought: Brought, names: Sequence[str] | None, labels: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    classes = brought.network.spec.classes
    if names is not None:
        if (twin := twin_of(names)) is not None:
            raise UsageError(f"two classes are called {twin:.80}", "--classes", "give each a name of its own")
        if len(names) != classes:
            raise UsageError(f"{len(names)} names for {classes} classes", "--classes", "give one name for each class")
        return tuple(names), "classes: as given"
    if brought.description is not None:
        found = tuple(brought.description["class_names"])
        if len(found) != classes:
            what = f"{len(found)} class names for {classes} classes"
            raise ModelError(what, brought.report.family, "give them with --classes")
        if (twin := twin_of(found)) is not None:
            raise ModelError(f"two classes are called {twin:.80}", brought.report.family, "name them with --classes")
        return found, "classes: from the file"
    if labels is not None and len(labels) == classes:
        return tuple(labels), "classes: as the config.json beside the weights names them"
    if classes == 1000:
        return imagenet_names(), "classes: the 1000 of ImageNet in their usual order"
    if brought.report.family == "cifar" and classes == len(CLASS_NAMES):
        return CLASS_NAMES, "classes: the ten of CIFAR-10 in their official order"
    return numbered(classes), "classes: not known, numbered; --classes names them"


def numbered(classes: int) -> tuple[str, ...]:
    """The names of classes of which nothing is known."""
    return tuple(f"class {number}" for number in range(classes))


def _data(names: tuple[str, ...]) -> dict[str, Any]:
    """What `evaluate` looks for: CIFAR-10 where the classes are its own, else a folder that must be named."""
    if names == CLASS_NAMES:
        return {"name": "cifar-10", "origin": "", "checksums": dict(OFFICIAL)}
    return {"name": "folder", "origin": ELSEWHERE, "checksums": {}}
