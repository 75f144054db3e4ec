"""What a data set is to the rest of the program.

A *source* answers `len`, `labels` and `read(indices)`; images are uint8 NCHW, pixels 0-255, labels
int64 N in [0, K). `batch_at(step)` and evaluation stand on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from residual.data.geometry import USUAL, Geometry
from residual.data.sending import sent
from residual.data.windows import Crops


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


@runtime_checkable
class FileSource(Source, Protocol):
    """A source of files: it can begin early, and knows its images by name and content."""

    def expect(self, indices: Tensor) -> None:
        """Begin with images that `read` will be asked for, in this order; what `read` gives stays the same."""
        ...

    def names(self, indices: Tensor) -> list[str]:
        """The files, as a person would name them."""
        ...

    def digests(self, indices: Tensor) -> list[str]:
        """The SHA-256 of each file."""
        ...


@runtime_checkable
class CroppingSource(FileSource, Protocol):
    """A source of files that decodes no more of an image than a crop needs."""

    def expect(self, indices: Tensor, crops: Crops | None = None) -> None: ...

    def read_cropped(self, indices: Tensor, crops: Crops) -> Tensor:
        """uint8 NCHW of one crop of each image; raises `DataError` as `read`."""
        ...


@runtime_checkable
class SizedSource(Source, Protocol):
    """A source whose images have more to show than `read` gives: they can be had in other sizes, nothing cut off."""

    def read_sized(self, indices: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """uint8 CHW of each image in its own proportions, as small as covers (H, W); raises `DataError` as `read`."""
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
class ResidentSource:
    """A source held in memory whose images lie on a device too: a batch is cut out there, and only numbers travel.

    images_NCHW uint8 on the device, labels int64 N on the CPU; `read` gives images on the device.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        return self.images.index_select(0, sent(indices, self.images.device))


RESIDENT_SHARE = 4
"""Images are kept on a GPU where its free memory holds them so many times over."""


def resident(source: Source, device: torch.device) -> Source:
    """The same images on a GPU that has the room for them; elsewhere the source as it is."""
    if device.type != "cuda" or not isinstance(source, MemorySource):
        return source
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own, at rest
    if source.images.nbytes * RESIDENT_SHARE > free:
        return source
    return ResidentSource(source.images.to(device), source.labels)


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
    """A data set with its official division, its class names and the checksums of what was read.

    `test` has no images where there is no test set. `validation` is None where validation images are drawn
    from the training images. `chosen` holds settings that were left open and follow from the images, by path,
    `reasons` why; `left_out` the files that cannot be used, each with the reason; `facts` what else a run shall
    remember of it. `groups` (int64 N) numbers the training images that belong together: a division separates none.
    `geometry` is how files are brought to their size; where images are judged at another size than trained on, that
    is `test_size` (H, W), and `seen` holds the training images at it.
    """

    name: str
    train: Source
    test: Source
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    checksums: dict[str, str]
    origin: str
    validation: Source | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    groups: Tensor | None = None
    geometry: Geometry = USUAL
    test_size: tuple[int, int] | None = None
    seen: Source | None = None

    @property
    def held(self) -> Source:
        """Where the images held out for validation are: the numbers of a division count in this source."""
        if self.validation is not None:
            return self.validation
        return self.train if self.seen is None else self.seen


def everything(source: Source) -> Tensor:
    """The numbers of all images of a source, int64 N."""
    return torch.arange(len(source))


def expect(source: Source, indices: Tensor) -> None:
    """Let a source that decodes files begin with images that are read soon; for others there is nothing to do."""
    if isinstance(source, FileSource):
        source.expect(indices)


def names(source: Source, indices: Tensor) -> list[str]:
    """What a person would call these images: their files, or their numbers."""
    return source.names(indices) if isinstance(source, FileSource) else [str(number) for number in indices.tolist()]
