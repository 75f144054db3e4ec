"""Using what was trained: load a classifier, evaluate it on its data, predict anyone's images.

A *place* is a run (path, name under `runs/`, or `last`), a model folder, or one checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from residual.data.images import find_images, read_image
from residual.device import choose_device, mind_fork
from residual.errors import DataError, ModelError, ResidualError, UsageError, argument, log
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.evaluate import BATCH, Evaluation, evaluate
from residual.evaluation.judged import Split, select
from residual.runs.folder import find_run

_BATCH = 64
_PIXELS = BATCH * 64 * 64  # in one batch: larger images are taken fewer at a time


@dataclass(frozen=True)
class Report:
    """An evaluation with what it must be quoted beside."""

    place: str
    step: int
    dataset: str
    origin: str
    split: Split
    evaluation: Evaluation
    class_names: tuple[str, ...]
    device: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: figures, accuracy of each class, confusion (rows true, columns predicted)."""
        confusion = self.evaluation.confusion
        counts = confusion.sum(1).tolist()
        hits = confusion.diagonal().tolist()
        shares = [hit / count if count else None for hit, count in zip(hits, counts, strict=True)]
        return {
            "place": self.place,
            "step": self.step,
            "dataset": self.dataset,
            "origin": self.origin,
            "split": self.split,
            "protocol": "single view",
            "images": self.evaluation.images,
            **self.evaluation.scores,
            "classes": dict(zip(self.class_names, shares, strict=True)),
            "confusion": confusion.tolist(),
            "device": self.device,
            "seconds": round(self.seconds, 2),
        }


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
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Top-1/3/5, loss, per-class accuracy and confusion of a trained network, single view.

    Args:
        place: a run, model folder or checkpoint; the last run unless given.
        split: the test images; or the held-out or trained-on images of a run. Without it, the test images,
            and where there are none, the held-out ones.
        data: where the images are, if not where they were at training; or another folder of photographs.
        follow_links: also read files that links in a folder of photographs lead out to.
    """
    began = time.monotonic()
    mind_fork()
    classifier = load(place)
    judged = select(classifier, place, split, data, follow_links)
    chosen = choose_device(device)
    # The stubs of torch do not know `memory_format` here.
    network = classifier.network.to(torch.device(chosen), memory_format=torch.channels_last)  # type: ignore[call-overload]
    on = torch.device(chosen)
    height, width = classifier.preprocessing.image_size
    evaluation = evaluate(
        network,
        judged.source,
        judged.indices,
        classifier.preprocessing,
        on,
        batch_size=max(1, min(BATCH, _PIXELS // (height * width))),
        progress=progress,
    )
    assert evaluation is not None  # nothing halts it
    return Report(
        place=str(place or "last"),
        step=classifier.provenance["step"],
        dataset=judged.dataset,
        origin=judged.origin,
        split=judged.split,
        evaluation=evaluation,
        class_names=classifier.class_names,
        device=chosen,
        seconds=time.monotonic() - began,
    )


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
