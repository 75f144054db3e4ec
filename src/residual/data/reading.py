"""Images that are files, decoded by threads or processes as they are asked for: nothing needs to fit in memory.

`read` answers for uint8 NCHW of one size, the pixels `predict` would see, `read_cropped` for crops drawn before
decoding; `expect` lets the threads begin with images that will be asked for soon. What comes back depends on the
numbers and the draws alone: not on the count of threads or processes, nor on what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from residual.data.checking import KnowingStore, Verdict, refusal
from residual.data.decoders import Order, decoders
from residual.data.encoded import Encoded, Picture, opened
from residual.data.geometry import Geometry, Interpolation, Resize
from residual.data.images import covering, cropped, fitted
from residual.data.stores import ArchiveStore, File, LocatedStore, Store, shown
from residual.data.windows import Crops
from residual.data.workers import Workers, workers
from residual.errors import DataError
from residual.files import digest

_TASK = 4  # images a thread takes at a time
_AHEAD = 4  # requests that are kept at most


@dataclass
class _Request:
    """Images at work: pixels fill as the tasks end."""

    pixels: NDArray[np.uint8]
    tasks: list[Future[None]]

    def result(self) -> Tensor:
        """All of them, or the first error in their order."""
        try:
            for task in self.tasks:
                task.result()
        finally:
            self.cancel()
        return torch.from_numpy(self.pixels)

    def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()


@dataclass(frozen=True)
class FolderSource:
    """Image files of a folder, an archive or a pack as a source.

    Args:
        files: in the order of the labels.
        verdicts: what each of them was when it was checked.
        labels: int64 N.
        image_size: (H, W) that all are brought to.
        threads: how many decode at a time; 0 is automatic.
        workers: whether threads decode, or processes that a thread each waits for; a pack has nothing to decode.
        crop, resize, interpolation: how they are brought to it, as a model's preprocessing has it.
    """

    store: Store
    files: Sequence[File]
    verdicts: Sequence[Verdict]
    labels: Tensor
    channels: int
    image_size: tuple[int, int]
    threads: int = 0
    crop: float = 1.0
    resize: Resize = "crop"
    interpolation: Interpolation = "bilinear"
    workers: Workers = "threads"
    _expected: dict[bytes, _Request] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.resize, self.interpolation, self.crop)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Tensor) -> Tensor:
        """uint8 NCHW of the files with these numbers.

        Raises:
            DataError: one of them is gone, was replaced, or cannot be decoded; names it.
        """
        request = self._expected.pop(_key(indices, None), None) or self._begin(indices, None)
        return request.result()

    def read_cropped(self, indices: Tensor, crops: Crops) -> Tensor:
        """uint8 NCHW of these crops of the files with these numbers; refused as by `read`."""
        request = self._expected.pop(_key(indices, crops), None) or self._begin(indices, crops)
        return request.result()

    def expect(self, indices: Tensor, crops: Crops | None = None) -> None:
        """Begin with images that will be asked for, in this very order; errors wait until then."""
        key = _key(indices, crops)
        if key not in self._expected:
            while len(self._expected) >= _AHEAD:
                self._expected.pop(next(iter(self._expected))).cancel()
            self._expected[key] = self._begin(indices, crops)

    def read_sized(self, indices: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """uint8 CHW of each file whole, as small as covers (H, W); refused as by `read`."""

        def one(number: int) -> Tensor:
            with self._picture(number) as (picture, where):
                return covering(picture, self.channels, size, where, self.interpolation)

        return list(workers(self.threads).map(one, self._numbers(indices)))

    def names(self, indices: Tensor) -> list[str]:
        """The paths below the root, as text."""
        return [shown(self.files[number].path) for number in indices.tolist()]

    def digests(self, indices: Tensor) -> list[str]:
        """The SHA-256 of each file."""
        return [self.verdicts[number].sha256 for number in indices.tolist()]

    @cached_property
    def _knowing(self) -> bool:
        """Whether the store knows its images; asked once, for Python looks slowly."""
        return isinstance(self.store, KnowingStore)

    @cached_property
    def _ready(self) -> bool:
        """Whether a pack holds all images as they are asked for, so that nothing is left but to copy them."""
        if not self._knowing or self.geometry.around(self.image_size) != self.image_size:
            return False  # before millions of files are looked at
        shape = (*self.image_size, self.channels)
        return all((one.height, one.width, 1 if one.grey else 3) == shape for one in self.verdicts)

    def _numbers(self, indices: Tensor) -> list[int]:
        numbers: list[int] = indices.tolist()
        if any(not 0 <= number < len(self) for number in numbers):
            raise IndexError(f"no image has such a number; there are {len(self)}")
        return numbers

    def _begin(self, indices: Tensor, crops: Crops | None) -> _Request:
        numbers = self._numbers(indices)
        if crops is None and numbers and self._ready:
            with suppress(DataError):  # which is said, as ever, when the images are asked for
                found = np.stack([self.store.picture(self.files[n]).pixels for n in numbers])  # type: ignore[attr-defined]
                return _Request(np.ascontiguousarray(found.transpose(0, 3, 1, 2)), [])
        pixels = np.empty((len(numbers), self.channels, *self.image_size), np.uint8)
        pool = workers(self.threads)

        def fill(start: int) -> Callable[[], None]:
            places = range(start, min(start + _TASK, len(numbers)))

            def task() -> None:
                for place in self._left(places, numbers, crops, pixels):
                    pixels[place] = self._one(numbers[place], crops, place).numpy()

            return task

        return _Request(pixels, [pool.submit(fill(start)) for start in range(0, len(numbers), _TASK)])

    def _left(
        self, places: Sequence[int], numbers: Sequence[int], crops: Crops | None, pixels: NDArray[np.uint8]
    ) -> list[int]:
        """The places that no other process has filled: all, or those of images that it could not make.

        These are made here, which tells in words what is wrong with them.
        """
        if self.workers == "threads" or not isinstance(self.store, LocatedStore):
            return [*places]
        orders = [self._order(self.store, numbers[place], crops, place) for place in places]
        filled = decoders().decode(orders, [pixels[place] for place in places])
        return [place for place, done in zip(places, filled, strict=True) if not done]

    def _order(self, store: LocatedStore, number: int, crops: Crops | None, place: int) -> Order:
        file = self.files[number]
        path, offset = store.locate(file)
        size = file.size if isinstance(store, ArchiveStore) else None
        what = [str(path), offset, size, self.verdicts[number].sha256, self.channels, self.image_size, self.geometry]
        return store.say(file.path), [*what, None if crops is None else crops[place]]

    def _one(self, number: int, crops: Crops | None, place: int) -> Tensor:
        with self._picture(number) as (picture, where):
            if crops is None:
                return fitted(picture, self.channels, self.image_size, where, self.geometry)
            return cropped(picture, self.channels, self.image_size, crops[place], self.interpolation)

    @contextmanager
    def _picture(self, number: int) -> Iterator[tuple[Picture, str]]:
        """An image, the one that was checked, and what it is called in an error."""
        file, store = self.files[number], self.store
        where = store.say(file.path)
        if self._knowing:
            yield store.picture(file), where  # type: ignore[attr-defined]  # that is what it knows
            return
        data = store.read(file)
        if digest(data) != self.verdicts[number].sha256:
            raise refusal(store, file)
        with opened(data, where) as image:
            yield Encoded(image), where


def _key(indices: Tensor, crops: Crops | None) -> bytes:
    return indices.numpy().tobytes() + (b"" if crops is None else crops.key)
