"""A network's answers to images under a protocol: logits_NK float32, on the CPU, in the order of the indices.

A batch holds about as many pixels at every size. Images of files are decoded for each size anew, from the file
itself; those held in memory are resized as files are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from residual.data.sending import sent
from residual.data.source import FileSource, SizedSource, Source, expect, names
from residual.errors import ResidualError, UsageError, log
from residual.evaluation.classifier import Classifier
from residual.evaluation.evaluate import batch_size, resting
from residual.evaluation.judged import Judged
from residual.evaluation.protocols import Average, Frame, Plan, Protocol, choose, combine, ready
from residual.evaluation.sheets import Sheet
from residual.files import canonical, digest
from residual.models import layout_of, put
from residual.runs.folder import find_run


def plan_for(classifier: Classifier, source: Source, protocol: Protocol, average: Average) -> Plan:
    """The views of these images that a protocol asks of this network.

    Raises:
        UsageError: the network cannot be applied to images of other sizes.
    """
    if protocol == "multi-scale" and classifier.spec.head != "average":
        what = f"the hidden layers of {classifier.spec.name} read maps of one size"
        raise UsageError(what, "--protocol", "multi-scale needs a network that averages its maps; choose 10-crop")
    sight = classifier.preprocessing
    return choose(protocol, sight.image_size, isinstance(source, SizedSource), average, sight.geometry)


def resized(classifier: Classifier, image_size: int | None, crop: float | None) -> Classifier:
    """The classifier at the size and share that are asked for; itself where none is."""
    if image_size is None and crop is None:
        return classifier
    return classifier.at_size(classifier.preprocessing.image_size if image_size is None else image_size, crop)


def mind_sizes(judged: Judged, image_size: int | None, crop: float | None) -> None:
    """Refuse another size of images that have only one.

    Raises:
        UsageError: they are held in memory.
    """
    if (image_size is not None or crop is not None) and not isinstance(judged.source, SizedSource):
        what = f"the images of {judged.dataset} are of one size"
        raise UsageError(what, "--image-size, --crop", "they are for photographs: leave them out")


def mind_mirrors(classifier: Classifier, place: str | os.PathLike[str] | None, protocol: Protocol) -> None:
    """Warn where a protocol shows images other than those of the training: mirrored, cut, or in other proportions."""
    resize = classifier.preprocessing.resize
    if protocol != "1-crop" and resize != "crop":
        seen = "whole images with a border" if resize == "pad" else "whole images, squashed"
        shown = (
            "cuts the ends of images off" if protocol == "10-crop" else "shows whole images in their own proportions"
        )
        log.warning("%s %s, and %s was trained on %s", protocol, shown, place or "the last run", seen)
    if protocol == "1-crop" or _mirrored(classifier, place) is not False:
        return
    what = "%s looks at mirror images, and %s was trained without any: its figures may be worse than those of 1-crop"
    log.warning(what, protocol, place or "the last run")


def _mirrored(classifier: Classifier, place: str | os.PathLike[str] | None) -> bool | None:
    """Whether the network was trained on mirror images; None where nobody knows, as of imported weights."""
    told = classifier.provenance.get("mirror")
    if told is None and "imported" not in classifier.provenance:  # a model of an older release
        with suppress(ResidualError):
            augment = find_run(os.fspath(place) if place is not None else None).facts()["recipe"]["data"]["augment"]
            told = augment.get("mirror")
    return told if isinstance(told, bool) else None


def answer(
    classifier: Classifier,
    source: Source,
    indices: Tensor,
    plan: Plan,
    device: torch.device,
    progress: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """The logits of the images named by `indices` (int64 N), their views combined as the plan says.

    Args:
        progress: told of every batch how many images it had.
    """
    network = put(classifier.network, device)
    with torch.inference_mode(), resting(network):
        return _answer(classifier, source, indices, plan, device, progress)


def _answer(
    classifier: Classifier,
    source: Source,
    indices: Tensor,
    plan: Plan,
    device: torch.device,
    progress: Callable[[int], None],
) -> Tensor:
    network = classifier.network
    sizes = [frame.size or classifier.preprocessing.image_size for frame, _ in plan.frames]
    parts = indices.split(min(batch_size(*size) for size in sizes))
    found: list[Tensor] = []
    for number, part in enumerate(parts):
        answers: list[Tensor] = []
        for frame, views in plan.frames:
            of_frame = [torch.empty(len(part), classifier.spec.classes) for _ in views]
            for rows, pixels in _groups(source, part, frame):
                if frame.size is None:
                    for following in parts[number + 1 : number + 2]:
                        expect(source, following)
                on_device = sent(pixels, device)
                for logits, view in zip(of_frame, views, strict=True):
                    images = ready(on_device, frame, view, classifier.preprocessing)
                    images = images.contiguous(memory_format=layout_of(device))
                    logits[rows] = network(images).float().cpu()
            answers += of_frame
        found.append(combine(answers, plan.average))
        progress(len(part))
    return torch.cat(found) if found else torch.empty(0, classifier.spec.classes)


def counted(progress: Callable[[int, int], None], whole: int) -> Callable[[int], None]:
    """Tells `progress` how many images of the whole are done, 0 at once, from the sizes of batches."""
    done = 0

    def tell(images: int) -> None:
        nonlocal done
        done += images
        progress(done, whole)

    tell(0)
    return tell


def _groups(source: Source, indices: Tensor, frame: Frame) -> Iterator[tuple[Tensor, Tensor]]:
    """(rows, uint8 NCHW) of images of one size each; all rows are named once."""
    if frame.size is None:
        yield torch.arange(len(indices)), source.read(indices)
    elif isinstance(source, SizedSource):
        images = source.read_sized(indices, frame.size)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for row, image in enumerate(images):
            by_shape.setdefault(tuple(image.shape), []).append(row)
        for (_, height, width), rows in by_shape.items():
            for some in torch.tensor(rows).split(batch_size(height, width)):
                yield some, torch.stack([images[row] for row in some.tolist()])
    else:
        pixels = source.read(indices)
        if tuple(pixels.shape[2:]) != frame.size:
            pixels = interpolate(pixels, size=frame.size, mode="bilinear", antialias=True, align_corners=False)
        yield torch.arange(len(indices)), pixels


def answer_sheet(
    classifier: Classifier,
    judged: Judged,
    place: str | os.PathLike[str] | None,
    *,
    protocol: Protocol,
    average: Average,
    device: str,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Sheet:
    """The answers to the images meant, with all that a figure made of them must be quoted beside.

    Args:
        place: what the classifier is called.
        progress: told how many images of how many are done.
    """
    began = time.monotonic()
    source, indices, sight = judged.source, judged.indices, classifier.preprocessing
    plan = plan_for(classifier, source, protocol, average)
    logits = answer(classifier, source, indices, plan, torch.device(device), counted(progress, len(indices)))
    facts = {
        "place": str(place or "last"),
        "step": int(classifier.provenance.get("step", 0)),
        "dataset": judged.dataset,
        "origin": judged.origin,
        "split": judged.split,
        "protocol": plan.protocol,
        "words": plan.words
        + (
            f"; images of {' x '.join(map(str, sight.image_size))} pixels, where it was trained on "
            f"{' x '.join(map(str, sight.train_size))}"
            if sight.train_size
            else ""
        ),
        "views": plan.views,
        "average": plan.average,
        "device": device,
        "seconds": time.monotonic() - began,
        "identity": _identity(classifier, judged),
        "temperature": None,
    }
    if not facts["step"] and {"imported", "program"} & {*classifier.provenance}:
        facts["trained_elsewhere"] = True
    chose = classifier.provenance.get("selection")
    if chose and judged.own and judged.split == "validation":
        facts["selected"] = str(chose)
    labels = source.labels.index_select(0, indices)
    return Sheet(logits, labels, tuple(names(source, indices)), classifier.class_names, facts)


def _identity(classifier: Classifier, judged: Judged) -> str:
    """Which images these are, in whatever order: the files by name and content, or numbers in files of a data set."""
    source, indices = judged.source, judged.indices
    if isinstance(source, FileSource):
        files = zip(source.names(indices), source.digests(indices), strict=True)
        return digest(canonical(sorted(map(list, files))))
    facts = classifier.data
    # The names of classes are no part of it: coarse and fine labels are of the same images.
    split = "test" if judged.split == "test" else "training"
    return digest(canonical([facts["checksums"], split, sorted(indices.tolist())]))
