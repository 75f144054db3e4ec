"""Using what was trained: load a classifier, evaluate it on its data, predict anyone's images.

A *place* is a run (path, name under `runs/`, or `last`), a model folder, or one checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from residual.data.images import find_images, read_image
from residual.device import choose_device, mind_fork
from residual.errors import DataError, ModelError, ResidualError, UsageError, argument, log
from residual.evaluation.answering import answer_sheet, mind_mirrors
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.figures import Report, report
from residual.evaluation.judged import Split, select
from residual.evaluation.protocols import Average, Protocol
from residual.runs.folder import find_run

_BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first."""

    file: str
    best: tuple[tuple[str, float], ...]


def load(place: str | os.PathLike[str] | None = None) -> Classifier:
    """The classifier of a run, a model folder or a checkpoint; without a place, of the run last touched.

    Of a run the final model is taken, else the newest checkpoint; one that is damaged is passed over
    with a warning.

    Raises:
        ModelError: nothing there can be used.  UsageError: there is no such run.
    """
    text = os.path.expanduser(place) if place is not None else None
    if text is not None and os.path.exists(os.path.join(text, DESCRIPTION)):
        return Classifier.load(Path(text))
    run = find_run(text)
    candidates = run.models()
    if not candidates:
        raise ModelError("this run has no model yet", run.path, f"residual train --resume {argument(run.path)}")
    for candidate, following in pairwise(candidates):
        try:
            return Classifier.load(candidate)
        except ModelError as error:
            log.warning("passed over, %s is next: %s", following.name, error)
    return Classifier.load(candidates[-1])


def evaluate_run(
    place: str | os.PathLike[str] | None = None,
    *,
    split: Split | None = None,
    data: str | None = None,
    follow_links: bool = False,
    device: str = "auto",
    protocol: Protocol = "1-crop",
    average: Average = "probabilities",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Top-1/3/5, loss, figures of the classes, calibration and confusion of a trained network.

    Args:
        place: a run, model folder or checkpoint; the last run unless given.
        split: the test images; or the held-out or trained-on images of a run. Without it, the test images,
            and where there are none, the held-out ones.
        data: where the images are, if not where they were at training; or another folder of photographs.
        follow_links: also read files that links in a folder of photographs lead out to.
        protocol: which views of an image are looked at.
        average: what of the views is averaged.
        progress: told how many images of how many are done.
    """
    mind_fork()
    classifier = load(place)
    judged = select(classifier, place, split, data, follow_links)
    mind_mirrors(classifier, place, protocol)
    chosen = choose_device(device)
    sheet = answer_sheet(
        classifier, judged, place, protocol=protocol, average=average, device=chosen, progress=progress
    )
    return report(sheet)


def predict(
    place: str | os.PathLike[str] | None,
    images: Iterable[str | os.PathLike[str]],
    *,
    top_k: int = 3,
    device: str = "auto",
    unreadable: Callable[[ResidualError], None] | None = None,
    prepared: Callable[[Classifier], None] = lambda _: None,
) -> list[Prediction]:
    """The most probable classes of image files, and of the image files in folders.

    Args:
        place: a run, model folder or checkpoint; None for the last run.
        images: PNG, JPEG or WebP files, or folders of them.
        top_k: how many classes to name.
        unreadable: told of every file that cannot be read, which is then left out.
        prepared: given the classifier before it sees the first image.

    Raises:
        DataError: a file cannot be read, and `unreadable` is not given.
    """
    if top_k < 1:
        raise UsageError(f"top-k is {top_k}", "--top-k", "it must be at least 1")
    mind_fork()
    classifier = load(place)
    prepared(classifier)
    files = find_images([Path(os.path.expanduser(p)) for p in images])
    chosen = torch.device(choose_device(device))
    found: list[Prediction] = []
    for start in range(0, len(files), _BATCH):
        names, pixels = [], []
        for file in files[start : start + _BATCH]:
            try:
                pixels.append(read_image(file, classifier.preprocessing))
                names.append(str(file))
            except DataError as error:
                if unreadable is None:
                    raise
                unreadable(error)
        if pixels:
            shares, classes = classifier.probabilities(pixels, chosen).sort(dim=1, descending=True, stable=True)
            for name, share, order in zip(names, shares.tolist(), classes.tolist(), strict=True):
                best = [(classifier.class_names[c], p) for c, p in zip(order, share, strict=True)][:top_k]
                found.append(Prediction(name, tuple(best)))
    return found
