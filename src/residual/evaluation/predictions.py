"""What a run's model answers to every image of a split: computed once, kept in the run folder.

logits_NK float32, labels_N int64, numbers_N int64 (which images of the source), single view. They lie in
the sealed folder RUN/predictions-<split>, and are used again for the same model, images and data only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from residual.data.source import Source, everything
from residual.device import choose_device, mind_fork
from residual.errors import DataError, ResidualError, StorageError, log
from residual.evaluation.answering import answer, counted, plan_for
from residual.evaluation.choices import check_choices
from residual.evaluation.classifier import Classifier
from residual.evaluation.evaluate import BATCH
from residual.evaluation.judged import Split, open_data
from residual.evaluation.scores import Tally
from residual.evaluation.use import read_classifier
from residual.files import Facts, canonical, digest, remove_folder
from residual.runs.folder import RunFolder
from residual.sealed import read_folder, write_folder

KIND = "predictions"
_TENSORS = "predictions.safetensors"


@dataclass(frozen=True)
class Predictions:
    """The answers of one model to the images of one split, with where they were computed."""

    split: Split
    step: int
    device: str
    logits: Tensor
    labels: Tensor
    numbers: Tensor

    def scores(self) -> dict[str, float]:
        """loss, top1, top3, top5, summed as an evaluation sums them."""
        tally = Tally.empty(torch.device("cpu"))
        for logits, labels in zip(self.logits.split(BATCH), self.labels.split(BATCH), strict=True):
            tally.add(logits, labels)
        return tally.scores()


@dataclass(frozen=True)
class Answers:
    """Predictions, the classifier that made them, and the images themselves or why they are not there."""

    predictions: Predictions
    classifier: Classifier
    source: Source | None
    absence: DataError | None = None


def answers(
    run: RunFolder,
    split: Split,
    *,
    data: str | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Answers:
    """The predictions of a run over a split: those stored, where they are of its present model, else new ones.

    Args:
        data: where the images are, if not where they were at training.
        progress: told how many images of how many are done; not called where the stored ones are used.

    Raises:
        UsageError: there is no such split.  ModelError: the run has no model yet.
        DataError: nothing is stored and the images are not there.
    """
    check_choices(split=split)
    mind_fork()
    classifier = read_classifier(run.path)
    identity = _identity(run, classifier, split)
    stored = _stored(run, split, identity)
    try:
        source, numbers = _open(run, classifier, split, data)
    except DataError as error:
        if stored is None:
            raise
        return Answers(stored, classifier, None, error)
    if stored is not None:
        return Answers(stored, classifier, source)
    chosen = choose_device(device)
    plan = plan_for(classifier, source, "1-crop", "probabilities")
    logits = answer(classifier, source, numbers, plan, torch.device(chosen), counted(progress, len(numbers)))
    labels = source.labels.index_select(0, numbers)
    found = Predictions(split, int(classifier.provenance["step"]), chosen, logits, labels, numbers)
    _store(run, found, identity)
    return Answers(found, classifier, source)


def _open(run: RunFolder, classifier: Classifier, split: Split, data: str | None) -> tuple[Source, Tensor]:
    """The images of the split, in the data set the run was trained on."""
    dataset = open_data(classifier, data)
    if split == "test":
        return dataset.test, everything(dataset.test)
    source = dataset.train if split == "training" else dataset.held
    return source, torch.tensor(run.split()[split], dtype=torch.int64)


def _identity(run: RunFolder, classifier: Classifier, split: Split) -> Facts:
    """What the answers depend on: weights and preprocessing, the files of the data, which images of them."""
    files = {name: digest(content) for name, content in sorted(classifier.pack().items())}
    numbers = [] if split == "test" else run.split()[split]
    return {
        "model": digest(canonical(files)),
        "data": digest(canonical(classifier.provenance["data"]["checksums"])),
        "images": digest(canonical(numbers)),
        "split": split,
    }


def _stored(run: RunFolder, split: Split, identity: Facts) -> Predictions | None:
    """The stored predictions, if they are whole and of this model and these images."""
    folder = run.predictions_path(split)
    if not folder.exists():
        return None
    try:
        facts, contents = read_folder(folder, KIND)
        if facts["identity"] != identity:
            return None
        tensors = safetensors.torch.load(contents[_TENSORS])
        return Predictions(split, int(facts["step"]), str(facts["device"]), **tensors)
    except (ResidualError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        log.warning("the stored predictions are made anew: %s", error)
        return None


def _store(run: RunFolder, found: Predictions, identity: Facts) -> None:
    """Keep the predictions; a run folder that cannot be written only makes the next report slower."""
    tensors = {"logits": found.logits, "labels": found.labels, "numbers": found.numbers}
    facts: dict[str, Any] = {"identity": identity, "step": found.step, "device": found.device}
    folder = run.predictions_path(found.split)
    try:
        remove_folder(folder)
        write_folder(folder, {_TENSORS: safetensors.torch.save(tensors)}, KIND, facts)
    except StorageError as error:
        log.warning("the predictions are not kept for the next report: %s", error)
