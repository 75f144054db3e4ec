"""Using what was trained: load a classifier, evaluate it on its data. Anyone's images: `predicting`.

A *place* is a run (path, name under `runs/`, or `last`), a model folder, or one checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import torch

from residual.borrowed import borrowed
from residual.device import choose_device, mind_fork
from residual.errors import ModelError, ResidualError, argument, log
from residual.evaluation.answering import answer_sheet, mind_mirrors, mind_sizes, resized
from residual.evaluation.choices import check_choices
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.figures import Report, report
from residual.evaluation.judged import Split, select
from residual.evaluation.protocols import Average, Protocol
from residual.models.interchange.foreign import in_hub_folder, is_named_like_weights
from residual.runs.folder import find_run

Place = str | os.PathLike[str] | Classifier | None
"""What a classifier is had from; None is the run last touched."""


def read_classifier(place: str | os.PathLike[str] | None = None) -> Classifier:
    """The classifier of a run, a model folder or a checkpoint; without a place, of the run last touched.

    Of a run the final model is taken, else the newest checkpoint; one that is damaged is passed over
    with a warning.

    Raises:
        ModelError: nothing there can be used.  UsageError: there is no such run.
    """
    text = os.path.expanduser(place) if place is not None else None
    if text is not None:
        refuse_file(text)
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


def load(place: Place = None) -> Classifier:
    """The classifier of a run, a model folder or a checkpoint: `residual.load`.

    Of a run the final model is taken, else the newest sound checkpoint. A warning says where the training of these
    weights has not ended, or not begun.

    Args:
        place: the path of one of these, a run by its name under `runs/`, a classifier, which is given back; without
            any, the run last touched.

    Raises:
        ModelError: nothing there can be used.  UsageError: there is no such run.
    """
    if isinstance(place, Classifier):
        return place
    classifier = read_classifier(place)
    mind_step(classifier, place)
    return classifier


def mind_step(classifier: Classifier, place: str | os.PathLike[str] | None) -> None:
    """Say which step's weights are used where they are not those of a finished run; imported ones know no step."""
    text = os.path.expanduser(place) if place is not None else None
    step, provenance = classifier.provenance.get("step"), classifier.provenance
    if not isinstance(step, int) or {"imported", "program"} & {*provenance}:
        return
    what = "the weights it began from" if provenance.get("start") else "the random start"
    untrained = f"{what}: nothing was learned yet"
    if text is not None and os.path.exists(os.path.join(text, DESCRIPTION)):
        if step == 0:
            log.warning("%s holds the weights of step 0, %s", text, untrained)
        return
    with suppress(ResidualError, KeyError, TypeError):  # a damaged run.json or result.json is no reason not to go on
        run = find_run(text)
        steps = int(run.facts()["chosen"]["steps"])
        if run.result() is None and step < steps:
            told = untrained if step == 0 else "the run is not finished"
            resume = f"residual train --resume {argument(run.path)}"
            log.warning(
                "%s: step %s of %s is used, %s; go on with `%s`", run.path, f"{step:,}", f"{steps:,}", told, resume
            )


def named(place: Place) -> str:
    """The place, and instead of the last run its path: `last` says nothing in a table, and is another run tomorrow."""
    if isinstance(place, Classifier):
        return f"{place.spec.name} (in memory)"
    text = os.fspath(place) if place is not None else "last"
    if text != "last" or os.path.exists(os.path.join(text, DESCRIPTION)):
        return text
    return str(find_run(None).path)


def refuse_file(place: str) -> None:
    """Say what to do with a file of weights, or a folder around one, which is no run and no model folder.

    Raises:
        ModelError: it is one.
    """
    path = Path(place)
    try:
        if in_hub_folder(path):
            what, folder = "this is a folder of weights as the Hugging Face hub has them", f"{path.name}-model"
            remedy = f"make a model folder of it with `residual import {argument(path)} --to "
            raise ModelError(what, path, f"{remedy}{argument(path.with_name(folder))}`")
        if not path.is_file():
            return
    except (OSError, ValueError):
        return  # no such name; whoever looks for it says so
    if path.suffix.lower() == ".onnx":
        remedy = "name the run or model folder it was exported from"
        raise ModelError("this is an ONNX file, which is for other programs and is not read here", path, remedy)
    if is_named_like_weights(path):
        folder = argument(path.with_name(path.name.partition(".")[0] or "model"))
        remedy = f"make a model folder of it with `residual import {argument(path)} --to {folder}`"
        raise ModelError("this is a file of weights, not a run or a model folder", path, remedy)


@borrowed()
def evaluate(
    place: Place = None,
    *,
    split: Split | None = None,
    data: str | os.PathLike[str] | None = None,
    follow_links: bool = False,
    device: str | torch.device = "auto",
    protocol: Protocol = "1-crop",
    average: Average = "probabilities",
    image_size: int | None = None,
    crop: float | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Report:
    """Top-1/3/5, loss, figures of the classes, calibration and confusion of a trained network: `residual.evaluate`.

    Args:
        place: a run, model folder or checkpoint, or a classifier; the last run unless given.
        split: the test images; or the held-out or trained-on images of a run. Without it, the test images,
            and where there are none, the held-out ones.
        data: where the images are, if not where they were at training; or another folder of photographs.
        follow_links: also read files that links in a folder of photographs lead out to.
        protocol: which views of an image are looked at: "1-crop", "10-crop" or "multi-scale".
        average: what of the views is averaged: "probabilities" or "logits".
        image_size, crop: look at files in another size, or at another share of them; see `Classifier.at_size`.
        progress: told how many images of how many are done.

    Raises:
        UsageError: there is no such run, split, protocol or average.  DataError: the images are not there.
    """
    check_choices(protocol, average, split)
    mind_fork()
    name = named(place)
    classifier = resized(load(place if isinstance(place, Classifier) else name), image_size, crop)
    judged = select(classifier, name, split, None if data is None else os.fspath(data), follow_links)
    mind_sizes(judged, image_size, crop)
    mind_mirrors(classifier, name, protocol)
    chosen = choose_device(device)
    sheet = answer_sheet(classifier, judged, name, protocol=protocol, average=average, device=chosen, progress=progress)
    return report(sheet)
