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
from typing import Any, Literal

import torch
from torch import Tensor

from residual.data.datasets import DataSettings, open_dataset
from residual.data.images import find_images, read_image
from residual.data.source import Dataset, Source, everything
from residual.device import choose_device, mind_fork
from residual.errors import DataError, ModelError, ResidualError, UsageError, argument, log
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.evaluate import Evaluation, evaluate
from residual.runs.folder import RunFolder, find_run

Split = Literal["test", "validation", "training"]
_BATCH = 64


@dataclass(frozen=True)
class Report:
    """An evaluation with what it must be quoted beside."""

    place: str
    step: int
    dataset: str
    split: Split
    evaluation: Evaluation
    class_names: tuple[str, ...]
    device: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: figures, accuracy of each class, confusion (rows true, columns predicted)."""
        confusion = self.evaluation.confusion
        shares = (confusion.diagonal() / confusion.sum(1).clamp_min(1)).tolist()
        return {
            "place": self.place,
            "step": self.step,
            "dataset": self.dataset,
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


def open_data(classifier: Classifier, path: str | None = None) -> Dataset:
    """The data set a classifier was trained on, from where it was then or from `path`.

    Raises:
        DataError: it is not there, or not the same files.
    """
    facts = classifier.provenance["data"]
    at_training = Path(facts["origin"])  # what is embedded has no absolute place
    origin = str(at_training) if at_training.is_absolute() and at_training.exists() else None
    settings = DataSettings(dataset=facts["name"], path=path or origin)
    dataset = open_dataset(settings)
    if dataset.checksums != facts["checksums"]:
        raise DataError(
            "these are not the files the model was trained and is to be judged on",
            dataset.origin,
            "name them with --data",
        )
    return dataset


def evaluate_run(
    place: str | os.PathLike[str] | None = None,
    *,
    split: Split = "test",
    data: str | None = None,
    device: str = "auto",
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Top-1/3/5, loss, per-class accuracy and confusion of a trained network, single view.

    Args:
        place: a run, model folder or checkpoint; the last run unless given.
        split: the test images; or the held-out or trained-on images of a run.
        data: where the images are, if not where they were at training.
    """
    began = time.monotonic()
    mind_fork()
    classifier = load(place)
    dataset = open_data(classifier, data)
    source, indices = _select(classifier, dataset, split, place)
    if not len(indices):
        raise UsageError(f"this run has no {split} images", "--split", "it trained on all; choose test or training")
    chosen = choose_device(device)
    # The stubs of torch do not know `memory_format` here.
    network = classifier.network.to(torch.device(chosen), memory_format=torch.channels_last)  # type: ignore[call-overload]
    evaluation = evaluate(network, source, indices, classifier.preprocessing, torch.device(chosen), progress=progress)
    assert evaluation is not None  # nothing halts it
    return Report(
        place=str(place or "last"),
        step=classifier.provenance["step"],
        dataset=dataset.name,
        split=split,
        evaluation=evaluation,
        class_names=classifier.class_names,
        device=chosen,
        seconds=time.monotonic() - began,
    )


def _select(
    classifier: Classifier, dataset: Dataset, split: Split, place: str | os.PathLike[str] | None
) -> tuple[Source, Tensor]:
    if split == "test":
        return dataset.test, everything(dataset.test)
    try:
        run: RunFolder = find_run(os.fspath(place) if place is not None else None)
    except UsageError as error:
        raise UsageError(
            f"only a run knows its {split} images", error.where, "name the run, or use --split test"
        ) from None
    division = run.split()
    return dataset.train, torch.tensor(division[split], dtype=torch.int64)


def predict(
    place: str | os.PathLike[str] | None,
    images: Iterable[str | os.PathLike[str]],
    *,
    top_k: int = 3,
    device: str = "auto",
    unreadable: Callable[[ResidualError], None] | None = None,
) -> list[Prediction]:
    """The most probable classes of image files, and of the image files in folders.

    Args:
        place: a run, model folder or checkpoint; None for the last run.
        images: PNG, JPEG or WebP files, or folders of them.
        top_k: how many classes to name.
        unreadable: told of every file that cannot be read, which is then left out.

    Raises:
        DataError: a file cannot be read, and `unreadable` is not given.
    """
    if top_k < 1:
        raise UsageError(f"top-k is {top_k}", "--top-k", "it must be at least 1")
    mind_fork()
    classifier = load(place)
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
