"""Predictions: the most probable classes of anyone's images, of a run or of a classifier that is loaded already."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from residual.borrowed import borrowed
from residual.data.given import Given, Image, gather, one_by_one
from residual.data.preprocessing import Preprocessing
from residual.data.workers import workers
from residual.device import choose_device, mind_fork
from residual.errors import DataError, ResidualError, UsageError, argument, check_top_k, is_whole, log, nearest
from residual.evaluation.calibration import fit_temperature
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.logits import check_temperature, shares
from residual.evaluation.predictions import answers
from residual.evaluation.use import Place, load
from residual.runs.folder import find_run

_BATCH = 64

OnError = Literal["raise", "skip"]
Temperature = float | Literal["calibrated"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first.

    `file` is its path; of an image that was given itself `image`, or its place among several, as `images[2]`.
    """

    file: str
    best: tuple[tuple[str, float], ...]


def predict(
    place: Place,
    images: Given | Iterable[Given],
    *,
    top_k: int = 3,
    device: str | torch.device = "auto",
    temperature: Temperature | None = None,
    on_error: OnError = "raise",
    unreadable: Callable[[ResidualError], None] | None = None,
    prepared: Callable[[Classifier], None] = lambda _: None,
    progress: Progress = lambda _done, _all: None,
) -> list[Prediction]:
    """The most probable classes of images, in their order.

    Args:
        place: a run, model folder or checkpoint, or a classifier; None for the last run.
        images: image files, folders of them, Pillow images, uint8 arrays (HW, HWC or NHWC) or uint8
            tensors (HW, CHW or NCHW); one of them, or several of any kind.
        top_k: how many classes to name.
        temperature: what the logits are divided by; "calibrated" fits it on the validation images of the run.
        on_error: "skip" leaves an image out that cannot be read, with a warning.
        unreadable: told of every image that cannot be read, which is then left out.
        prepared: given the classifier before it sees the first image.
        progress: told how many of the images of how many are done.

    Raises:
        DataError: an image cannot be read, and neither `on_error` nor `unreadable` says to leave it out; or there is
            no such file.
        UsageError: what is given is no image.
    """
    _check(top_k, temperature, on_error)
    mind_fork()
    classifier = load(place)
    if isinstance(temperature, str):
        temperature = calibrated(place, device)
    prepared(classifier)
    return predict_images(
        classifier,
        images,
        top_k=top_k,
        device=device,
        temperature=temperature,
        on_error=on_error,
        unreadable=unreadable,
        progress=progress,
    )


def predict_images(
    classifier: Classifier,
    images: Given | Iterable[Given],
    *,
    top_k: int = 3,
    device: str | torch.device = "auto",
    temperature: float | None = None,
    on_error: OnError = "raise",
    unreadable: Callable[[ResidualError], None] | None = None,
    progress: Progress = lambda _done, _all: None,
) -> list[Prediction]:
    """The same of a classifier that is loaded: `Classifier.predict`."""
    _check_loaded(top_k, temperature, on_error)
    if unreadable is None and on_error == "skip":
        unreadable = _tell
    return _answered(classifier, gather(images), device, top_k, temperature, unreadable, progress)


def stream(
    classifier: Classifier,
    images: Given | Iterable[Given],
    *,
    batch: int = 1,
    top_k: int = 3,
    device: str | torch.device = "auto",
    temperature: float | None = None,
    on_error: OnError = "raise",
) -> Iterator[Prediction]:
    """The same, answer by answer, while images come: `Classifier.stream`."""
    _check_loaded(top_k, temperature, on_error)
    if not is_whole(batch) or batch < 1:
        raise UsageError(f"batch is {batch!r:.40}", "batch", "give the number of images that are answered together")
    unreadable = _tell if on_error == "skip" else None
    coming = one_by_one(images)
    while some := [*islice(coming, batch)]:
        yield from _answered(classifier, some, device, top_k, temperature, unreadable)


@borrowed()
def _answered(
    classifier: Classifier,
    given: list[Image],
    device: str | torch.device,
    top_k: int,
    temperature: float | None,
    unreadable: Callable[[ResidualError], None] | None,
    progress: Progress = lambda _done, _all: None,
) -> list[Prediction]:
    chosen = torch.device(choose_device(device))
    found: list[Prediction] = []
    done = 0
    for batch in _decoded(given, classifier.preprocessing):
        names, pixels = [], []
        for image, read in batch:
            try:
                pixels.append(read())
                names.append(image.name)
            except DataError as error:
                if unreadable is None:
                    raise
                unreadable(error)
        if pixels:
            logits = classifier.logits(pixels, chosen)
            # By the logits: probabilities of 0 would be in the order of the classes.
            classes = logits.argsort(dim=1, descending=True, stable=True)
            probabilities = shares(logits, temperature or 1.0).gather(1, classes)
            for name, share, order in zip(names, probabilities.tolist(), classes.tolist(), strict=True):
                best = [(classifier.class_names[c], p) for c, p in zip(order, share, strict=True)][:top_k]
                found.append(Prediction(name, tuple(best)))
        done += len(batch)
        progress(done, len(given))
    return found


def _decoded(given: list[Image], sight: Preprocessing) -> Iterator[list[tuple[Image, Callable[[], Tensor]]]]:
    """The images by batches, each with what gives its pixels. Files are decoded side by side, and those of the next
    batch while the network answers; an image of the caller's is read in his own thread."""
    pool = workers()

    def begun(start: int) -> list[tuple[Image, Callable[[], Tensor]]]:
        batch = given[start : start + _BATCH]
        return [
            (one, pool.submit(one.read, sight).result if isinstance(one.what, Path) else partial(one.read, sight))
            for one in batch
        ]

    ahead = begun(0)
    for start in range(_BATCH, len(given) + _BATCH, _BATCH):
        batch, ahead = ahead, begun(start)
        if batch:
            yield batch


@borrowed()
def calibrated(place: Place, device: str | torch.device = "auto") -> float:
    """The temperature of least loss on the validation images of a run, for the single view that a prediction has.

    The answers to these images are kept in the run folder, as those of a report are.

    Raises:
        UsageError: no run, no validation images, or no temperature is best.  DataError: the images are not there.
    """
    if isinstance(place, Classifier):
        remedy = "name the run, or give a number"
        raise UsageError("only a run knows its validation images", place.spec.name, remedy)
    text = os.path.expanduser(place) if place is not None else None
    if text is not None and os.path.exists(os.path.join(text, DESCRIPTION)):
        raise UsageError("only a run knows its validation images", text, "name the run, or give a number")
    run = find_run(text)
    try:
        held = answers(run, "validation", device=str(device)).predictions
    except DataError as error:
        if "--data" not in error.remedy:
            raise
        # A prediction has no such option: its images are others.
        found_by = (
            f"`residual evaluate {argument(run.path)} --data DIR --calibrate` says the temperature; give its number"
        )
        raise DataError(error.what, error.where, found_by) from None
    if not len(held.labels):
        raise UsageError("this run has no validation images", run.path, "give a number, or leave the temperature out")
    found = fit_temperature(held.logits, held.labels)
    if found is None:
        what = "no temperature is best: its validation images are all answered rightly, or no better than by chance"
        raise UsageError(what, run.path, "leave the temperature out")
    log.info("temperature %.4g, fitted on %s validation images", found.value, f"{found.images:,}")
    return found.value


def _tell(error: ResidualError) -> None:
    log.warning("left out: %s", error)


def _check(top_k: int, temperature: Temperature | None, on_error: str) -> None:
    check_top_k(top_k)
    if on_error not in ("raise", "skip"):
        raise UsageError(f"on_error is {on_error!r}", "predict", nearest(on_error, ("raise", "skip")))
    if temperature is not None and temperature != "calibrated":
        check_temperature(temperature, "--temperature", "a number above 0, or calibrated")


def _check_loaded(top_k: int, temperature: Temperature | None, on_error: str) -> None:
    """The same of a classifier, which knows no validation images."""
    _check(top_k, temperature, on_error)
    if isinstance(temperature, str):
        raise UsageError("only a run can be calibrated", "temperature", "give its number, or use residual.predict")
