"""What a person should know of their images before training on them: what is not used, twins, small and uneven classes.

Nothing here stops a run; every concern is one line with its numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from residual.data.layout import some
from residual.data.source import Dataset, FileSource, everything

FEW = 10  # training images of a class
GROUPS = 10  # that are held out
UNEVEN = 5  # times as many images in the largest class as in the smallest


def concerns(dataset: Dataset, training: Tensor, validation: Tensor, share: float = 0.0) -> list[str]:
    """The concerns about a data set, divided like this; all but one are about files.

    Args:
        share: of the training images that were to be held out.
    """
    lost = share > 0 and not len(validation)
    none = [f"a share of {share:g} held out none of {len(training):,} images: nothing is validated"] * lost
    if not isinstance(dataset.train, FileSource):
        return none
    return [
        *none,
        *dataset.facts.get("unused", ()),
        *_twins(dataset, training, validation),
        *_sizes(dataset.class_names, dataset.train.labels.index_select(0, training)),
        *_judged(dataset, training, validation),
    ]


def _digests(source: object, numbers: Tensor) -> list[str]:
    return source.digests(numbers) if isinstance(source, FileSource) else []


def _twins(dataset: Dataset, training: Tensor, validation: Tensor) -> list[str]:
    trained = _digests(dataset.train, training)
    classes: dict[str, set[int]] = {}
    for digest, label in zip(trained, dataset.train.labels.index_select(0, training).tolist(), strict=True):
        classes.setdefault(digest, set()).add(label)
    found = []
    for part, twins in (
        ("validation", _digests(dataset.held, validation)),
        ("test", _digests(dataset.test, everything(dataset.test))),
    ):
        count = sum(twin in classes for twin in twins)
        if count:
            found.append(
                f"{count:,} of the {len(twins):,} {part} images are trained on as well, bit for bit: "
                f"the {part} figure will flatter ({dataset.origin})"
            )
    both = sum(len(classes[digest]) > 1 for digest in trained)
    if both:
        found.append(f"{both:,} training images lie in another class as well, bit for bit ({dataset.origin})")
    return found


def _sizes(names: Sequence[str], labels: Tensor) -> list[str]:
    counts = labels.bincount(minlength=len(names)).tolist()
    few = [f"{name} {count}" for name, count in zip(names, counts, strict=True) if count < FEW]
    found = []
    if few:
        found.append(f"{len(few)} of {len(names)} classes have fewer than {FEW} training images: {some(few)}")
    least, most = counts.index(min(counts)), counts.index(max(counts))
    if counts[most] >= UNEVEN * counts[least]:
        found.append(
            f"the classes are uneven, from {counts[least]:,} training images of {names[least]!r} to {counts[most]:,} "
            f"of {names[most]!r}: look at the accuracy of each class, not only at the whole; data.sampling and "
            "loss.class_weights can make them count alike"
        )
    return found


def _judged(dataset: Dataset, training: Tensor, validation: Tensor) -> list[str]:
    found = []
    if not len(validation):
        figure = "only the test figure" if len(dataset.test) else "no figure at all"
        found.append(f"no images are held out for validation: this run will have {figure}")
    elif dataset.groups is not None and dataset.validation is None:
        held, kept = (len(dataset.groups[numbers].unique()) for numbers in (validation, training))
        if held < GROUPS:
            few = f"{held:,} of {held + kept:,} groups: their figure says little of others"
            found.append(f"the {len(validation):,} validation images come from {few}; raise data.validation")
    judged = {"validation": dataset.held.labels.index_select(0, validation), "test": dataset.test.labels}
    for part, labels in judged.items():
        counts = labels.bincount(minlength=len(dataset.class_names)).tolist()
        without = [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]
        if without and len(labels):
            found.append(f"{len(without)} of {len(counts)} classes have no {part} images: {some(without)}")
    return found
