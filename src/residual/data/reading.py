"""A source whose images are files, decoded by threads as they are asked for: nothing needs to fit in memory.

`read` answers for uint8 NCHW of one size, the pixels `predict` would see; `expect` lets the threads begin with
images that will be asked for soon. What comes back depends on the numbers alone: not on the count of threads,
nor on what was expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from residual.data.checking import Verdict, changed
from residual.data.images import decode_fitted, read_file
from residual.data.layout import File, shown
from residual.data.workers import workers
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
    """Image files below `root` as a source.

    Args:
        files: in the order of the labels.
        verdicts: what each of them was when it was checked.
        labels: int64 N.
        image_size: (H, W) that all are brought to.
        threads: how many decode at a time; 0 is automatic.
    """

    root: Path
    files: Sequence[File]
    verdicts: Sequence[Verdict]
    labels: Tensor
    channels: int
    image_size: tuple[int, int]
    threads: int = 0
    _expected: dict[bytes, _Request] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: Tensor) -> Tensor:
        """uint8 NCHW of the files with these numbers.

        Raises:
            DataError: one of them is gone, was replaced, or cannot be decoded; names it.
        """
        request = self._expected.pop(_key(indices), None) or self._begin(indices)
        return request.result()

    def expect(self, indices: Tensor) -> None:
        """Begin with images that `read` will be asked for, in this very order; errors wait until then."""
        key = _key(indices)
        if key not in self._expected:
            while len(self._expected) >= _AHEAD:
                self._expected.pop(next(iter(self._expected))).cancel()
            self._expected[key] = self._begin(indices)

    def names(self, indices: Tensor) -> list[str]:
        """The paths below the root, as text."""
        return [shown(self.files[number].path) for number in indices.tolist()]

    def digests(self, indices: Tensor) -> list[str]:
        """The SHA-256 of each file."""
        return [self.verdicts[number].sha256 for number in indices.tolist()]

    def _begin(self, indices: Tensor) -> _Request:
        numbers = indices.tolist()
        if any(not 0 <= number < len(self) for number in numbers):
            raise IndexError(f"no image has such a number; there are {len(self)}")
        pixels = np.empty((len(numbers), self.channels, *self.image_size), np.uint8)
        pool = workers(self.threads)
        tasks = [
            pool.submit(self._fill, pixels[start : start + _TASK], numbers[start : start + _TASK])
            for start in range(0, len(numbers), _TASK)
        ]
        return _Request(pixels, tasks)

    def _fill(self, pixels: NDArray[np.uint8], numbers: list[int]) -> None:
        for place, number in enumerate(numbers):
            pixels[place] = self._one(number).numpy()

    def _one(self, number: int) -> Tensor:
        path = self.root / self.files[number].path
        try:
            data = read_file(path)
        except DataError as error:
            if not path.exists():
                raise changed("the file is gone since the folder was scanned", path) from None
            raise DataError(error.what, shown(str(path)), "make it readable, then go on with --resume") from None
        if digest(data) != self.verdicts[number].sha256:
            raise changed("the file was changed since it was checked", path)
        return decode_fitted(data, self.channels, self.image_size, shown(str(path)))


def _key(indices: Tensor) -> bytes:
    return indices.numpy().tobytes()
