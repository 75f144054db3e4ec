"""A smaller problem out of a data set: some of its classes, and some training images of each.

Labels are numbered anew, in the order of the data set. Which images are drawn follows from the data and the number of
the draw alone, never from the seed of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from residual.chance import stream
from residual.data.reading import FolderSource
from residual.data.source import Dataset, Source
from residual.data.splits import by_class
from residual.errors import DataError, UsageError, nearest


@dataclass(frozen=True)
class Selected:
    """Some images of a source in memory, by their numbers there, with labels of their own: both int64 N."""

    source: Source
    indices: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Tensor) -> Tensor:
        return self.source.read(self.indices.index_select(0, indices))


def some_classes(dataset: Dataset, names: Sequence[str] | None) -> Dataset:
    """The data set with the images of these classes alone, in every part; all of it where `names` is None.

    Raises:
        UsageError: a class is not there, or there is only one.
    """
    if names is None:
        return dataset
    known = dataset.class_names
    for name in names:
        if name not in known:
            raise UsageError(f"there is no class {name[:80]!r}", "data.classes", nearest(name[:80], list(known)))
    kept = tuple(name for name in known if name in names)
    if len(kept) < 2:
        raise UsageError("one class leaves nothing to tell it from", "data.classes", "name two or more")
    place = torch.full((len(known),), -1, dtype=torch.int64)
    place[[known.index(name) for name in kept]] = torch.arange(len(kept))
    numbers = torch.nonzero(place[dataset.train.labels] >= 0).flatten()
    return replace(
        dataset,
        train=_some(dataset.train, place),
        test=_some(dataset.test, place),
        validation=None if dataset.validation is None else _some(dataset.validation, place),
        seen=None if dataset.seen is None else _some(dataset.seen, place),
        class_names=kept,
        facts={**dataset.facts, "classes": list(kept)},
        groups=None if dataset.groups is None else dataset.groups[numbers],
    )


def _some(source: Source, place: Tensor) -> Source:
    """The images whose class has a new number, `place[label]` >= 0."""
    labels = place[source.labels]
    numbers = torch.nonzero(labels >= 0).flatten()
    labels = labels[numbers]
    if not isinstance(source, FolderSource):
        return Selected(source, numbers, labels)
    chosen = numbers.tolist()
    files, verdicts = [source.files[i] for i in chosen], [source.verdicts[i] for i in chosen]
    return replace(source, files=files, verdicts=verdicts, labels=labels)


def drawn(labels: Tensor, count: int, draw: int, dataset: Dataset) -> Tensor:
    """The numbers of `count` images of every class, int64, sorted; another `draw`, other images.

    Raises:
        DataError: a class has not so many.
    """
    found, images = [], by_class(labels)
    for label, name in enumerate(dataset.class_names):
        members = images.get(label, labels.new_empty(0, dtype=torch.int64))
        if len(members) < count:
            what = f"the class {name[:80]!r} has {len(members):,} training images, not {count:,}"
            raise DataError(what, dataset.origin, f"set data.per_class to {len(members)} or less")
        order = torch.randperm(len(members), generator=stream(0, "split", f"{dataset.name}-per-class", draw, name))
        found.append(members[order[:count]])
    return torch.cat(found).sort().values
