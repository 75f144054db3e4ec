"""Trained weights from anywhere: a run, a model folder, a checkpoint, a file of another library, or by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from residual.data.download import Told
from residual.data.weights import fetch_weights
from residual.errors import log
from residual.evaluation.classifier import DESCRIPTION, Classifier
from residual.evaluation.imported import classifier_of
from residual.evaluation.use import read_classifier
from residual.files import Facts, digest
from residual.models import pack_weights
from residual.models.interchange.beside import labels_beside, sight_beside
from residual.models.interchange.families import bring_in
from residual.models.interchange.foreign import is_named_like_weights, read_foreign
from residual.models.interchange.published import find_published
from residual.runs.folder import find_run


@dataclass(frozen=True)
class Origin:
    """A classifier, and where it is from: `weights` names it again, `sha256` is that of the file of its weights.

    `said` is what was assumed for it, line by line.
    """

    classifier: Classifier
    facts: Facts
    said: tuple[str, ...]


def weight_file(weights: str, told: Told = lambda _: None) -> tuple[Path, int | None]:
    """The file meant by a path or by `torchvision:NAME`; of published weights also the side they resize images to.

    Args:
        told: called several times a second while they are downloaded.
    """
    path = Path(os.path.expanduser(weights))
    library, colon, _ = weights.partition(":")
    # A drive of Windows is one letter; and a file of that very name is a file.
    if not colon or len(library) < 2 or {"/", "\\"} & {*library} or os.path.lexists(path):
        return path, None
    found = find_published(weights)
    return fetch_weights(found.file, told), found.resize


def import_weights(weights: str | os.PathLike[str], told: Told = lambda _: None) -> Classifier:
    """Trained weights as a classifier: `residual.import_weights("torchvision:resnet50")`, or a file of another library.

    What a file does not say of images and classes is taken from what its library publishes, and logged. To choose it,
    `residual import` has options. Of a network of `residual.build` load its state and use `Classifier.of`.

    Args:
        weights: published weights by name, or a file of torchvision, timm, Keras, safetensors or of a checkpoint.
        told: called several times a second while weights are downloaded.

    Raises:
        UsageError: no weights are published by that name.  ModelError: what is there cannot be used.
    """
    found = bring(os.fspath(weights), told)
    for line in found.said:
        log.info("%s", line)
    return found.classifier


def bring(place: str, told: Told = lambda _: None) -> Origin:
    """The classifier that `place` names.

    Args:
        told: as for `weight_file`.

    Raises:
        UsageError: there is no such run, and no weights are published by that name.
        ModelError: what is there cannot be used.
    """
    path, usual = weight_file(place, told)
    if usual is not None or (is_named_like_weights(path) and not path.is_dir()):
        foreign = read_foreign(path)
        brought = bring_in(foreign, "torchvision" if usual is not None else "auto", path)
        classifier, said = classifier_of(
            brought, foreign, resize=usual, beside=sight_beside(path), labels=labels_beside(path)
        )
        facts: Facts = {
            "weights": place,
            "sha256": foreign.sha256,
            "network": classifier.spec.name,
            "form": foreign.form,
        }
        return Origin(classifier, facts, tuple(said))
    # The run is named by its path: `last` is another one tomorrow.
    named = str(path if os.path.exists(path / DESCRIPTION) else find_run(place).path)
    classifier = read_classifier(named)
    facts = {
        "weights": named,
        "sha256": digest(pack_weights(classifier.network)),
        "network": classifier.spec.name,
        "run": classifier.provenance.get("run"),
        "step": classifier.provenance.get("step"),
        "data": classifier.provenance.get("data", {}).get("name"),
    }
    return Origin(classifier, facts, ())
