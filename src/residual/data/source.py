"""What a data set is to the rest of the program.

A *source* answers `len`, `labels` and `read(indices)`; images are uint8 NCHW, pixels 0-255, labels
int64 N in [0, K). `batch_at(step)` and evaluation stand on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Source(Protocol):
    """Images that can be had by number, in any order."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """int64 N, the class of every image."""
        ...

    def read(self, indices: Tensor) -> Tensor:
        """uint8 NCHW for int64 indices N; raises `DataError` for an image that cannot be read."""
        ...


@dataclass(frozen=True)
class MemorySource:
    """A source held in memory: images_NCHW uint8, labels int64 N."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        return self.images.index_select(0, indices)


@dataclass(frozen=True)
class Subset:
    """Some images of another source, by their numbers there."""

    source: Source
    indices: Tensor
    labels: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.source.labels.index_select(0, self.indices))

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Tensor) -> Tensor:
        return self.source.read(self.indices.index_select(0, indices))


@dataclass(frozen=True)
class Dataset:
    """A data set with its official division, its class names and the checksums of what was read."""

    name: str
    train: Source
    test: Source
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    checksums: dict[str, str]
    origin: str


def everything(source: Source) -> Tensor:
    """The numbers of all images of a source, int64 N."""
    return torch.arange(len(source))
