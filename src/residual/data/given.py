"""Images as people give them: files, folders, Pillow images, arrays, tensors; alone, or several of any kind.

An array is HW, HWC or NHWC, a tensor HW, CHW or NCHW, both uint8, 0..255, C = 1 (grey), 3 (RGB) or 4 (RGBA). Every
image is brought to the size of the model as a file is, so the pixels of a PNG are answered as the PNG itself. Of a
large JPEG a file is decoded smaller, an image that was opened elsewhere is not: their pixels differ, most at sharp
edges.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torch import Tensor

from residual.data.encoded import Encoded, is_grey, no_room, opened, read_file
from residual.data.images import find_images, fitted, read_image
from residual.data.limits import PIXEL_LIMIT
from residual.data.preprocessing import Preprocessing
from residual.errors import DataError, UsageError

Given = str | os.PathLike[str] | PIL.Image.Image | NDArray[Any] | Tensor
_CHANNELS = (1, 3, 4)
_DEEP = 256
"""Images of 16 and 32 bits are read as 0 to 65535, as PNG files have them; the scale of less is unknown."""
_UINT8 = "give uint8, 0 to 255; of floats from 0 to 1 that is (255 * x).round() as uint8"


class Image(NamedTuple):
    """One image and what it is called: the path of a file, or its place among those given, as `images[2]`."""

    name: str
    what: Path | PIL.Image.Image

    def read(self, sight: Preprocessing) -> Tensor:
        """uint8 CHW in the geometry of a model.

        Raises:
            DataError: the file cannot be read, or the image holds no sound pixels.  UsageError: the model takes other
                channels than images have.
        """
        if isinstance(self.what, Path):
            return read_image(self.what, sight)
        sight.mind_pictures(self.name)
        with self._held(self.what) as image:
            return fitted(Encoded(image), sight.channels, sight.image_size, self.name, sight.geometry)

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 HWC in its own size, upright, C = 1 where it is grey, else 3.

        Raises:
            DataError: the file cannot be read, or the image holds no sound pixels.
        """
        with opened(read_file(self.what), self.name) if isinstance(self.what, Path) else self._held(self.what) as image:
            return Encoded(image).array(1 if is_grey(image) else 3)

    @contextmanager
    def _held(self, image: PIL.Image.Image) -> Iterator[PIL.Image.Image]:
        """A decoded copy; the image of the caller stays as it is."""
        width, height = image.size
        if not 0 < width * height <= PIXEL_LIMIT:
            raise DataError(f"{width} x {height} pixels", self.name, f"give 1 to {PIXEL_LIMIT:,} pixels")
        try:
            copy = image.copy()
            if copy.mode == "F" or (copy.mode.startswith("I") and np.asarray(copy).max() < _DEEP):
                what = f"this image has the mode {copy.mode} and no scale that is known"
                raise UsageError(what, self.name, "convert it to L or RGB, with values from 0 to 255")
            yield copy
        except MemoryError:
            raise no_room(self.name) from None
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"not a readable image: {error}", self.name, "replace or remove it") from None


def gather(given: Given | Iterable[Given]) -> list[Image]:
    """The images in their order; of a folder all image files, of a batch every image.

    Raises:
        DataError: no such file or folder.  UsageError: something that is no image, or of another type or shape.
    """
    return [*one_by_one(given)]


def one_by_one(given: Given | Iterable[Given]) -> Iterator[Image]:
    """The same, each when it is asked for: of an iterator without an end as well, such as a camera's."""
    if isinstance(given, str | os.PathLike):
        yield from _files(given)
        return
    if isinstance(given, PIL.Image.Image | np.ndarray | Tensor):
        yield from _held(given, "image", "images")
        return
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise _unknown(given, "images")
    for place, one in enumerate(given):
        name = f"images[{place}]"
        yield from _files(one) if isinstance(one, str | os.PathLike) else _held(one, name, name)


def _files(place: str | os.PathLike[str]) -> list[Image]:
    return [Image(str(path), path) for path in find_images([Path(os.path.expanduser(place))])]


def _held(given: PIL.Image.Image | NDArray[Any] | Tensor, alone: str, batch: str) -> list[Image]:
    """An image that is held in memory, called `alone`, or those of a batch, called by their places in `batch`."""
    if isinstance(given, PIL.Image.Image):
        return [Image(alone, given)]
    if isinstance(given, Tensor):
        kind, order = "tensor", "HW, CHW or NCHW"
        if given.ndim in (3, 4):
            given = given.movedim(-3, -1)
        pixels: NDArray[Any] = given.detach().cpu().numpy()
    elif isinstance(given, np.ndarray):
        kind, order, pixels = "array", "HW, HWC or NHWC", given
    else:
        raise _unknown(given, alone)
    if pixels.dtype != np.uint8:
        raise UsageError(f"this {kind} is of {pixels.dtype}", alone, _UINT8)
    if pixels.ndim not in (2, 3, 4) or (pixels.ndim > 2 and pixels.shape[-1] not in _CHANNELS):
        channels = f", {pixels.shape[-1]} of them channels" if pixels.ndim in (3, 4) else ""
        what = f"this {kind} has {pixels.ndim} axes{channels}"
        raise UsageError(what, alone, f"give {order}, with 1, 3 or 4 channels")
    if pixels.ndim < 4:
        return [Image(alone, _picture(pixels))]
    return [Image(f"{batch}[{place}]", _picture(one)) for place, one in enumerate(pixels)]


def _picture(pixels: NDArray[Any]) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels))


def _unknown(given: object, name: str) -> UsageError:
    remedy = "give paths, Pillow images, uint8 arrays or tensors; of bytes PIL.Image.open(io.BytesIO(...))"
    return UsageError(f"{type(given).__name__} is no image", name, remedy)
