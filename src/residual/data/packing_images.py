"""Images of a program, with their labels, as a pack: `residual.pack_images`. It is used wherever photographs are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from residual.data.given import Given, Image, gather
from residual.data.layout import Part
from residual.data.packed import PackWriter, is_pack, same_pack
from residual.errors import UsageError, nearest
from residual.files import growing_file
from residual.sealed import mind_sealed
from residual.version import VERSION

Images = Given | Iterable[Given]
Labels = Sequence[Any] | NDArray[Any] | Tensor


class Numbered(Protocol):
    """A data set as torch has them: pairs by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


Labelled = tuple[Images, Labels] | Iterable[Any] | Numbered
_IMAGE: Final = ("image", "img")
_CLASS: Final = ("label", "labels", "fine_label")
_PAIRS: Final = "give (images, labels), or a data set of pairs of an image and its label"


def pack_images(
    out: str | os.PathLike[str],
    train: Labelled,
    *,
    validation: Labelled | None = None,
    test: Labelled | None = None,
    class_names: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
) -> Path:
    """Write labelled images into one file that is trained and judged on as a folder of photographs is.

    Each of the parts is (images, labels): images as one uint8 array (NHW or NHWC) or tensor (NCHW), or several of what
    `residual.predict` takes, of any sizes; labels as integers or names. Or a data set of pairs (image, label), as those
    of torchvision and Hugging Face are without a transform. Every image keeps its pixels, transparency laid on black.

    Args:
        out: the file; where it holds these very images already, it is left as it is.
        validation: what is held out; without it, training holds out a share of each class.
        test: what the last step is judged on, if there is any.
        class_names: of the labels 0, 1, ...; else the labels themselves. A network numbers its classes in the order of
            their names, numbers by their value: `Classifier.class_names`.
        groups: for each training image what it belongs to (a patient, a video): validation images are drawn by groups.

    Returns:
        The path of the file, for `residual.train`, or for `data=` of `residual.evaluate`.

    Raises:
        UsageError: something else stands at `out`; images, labels or names do not fit each other.
        DataError: an image cannot be read.  StorageError: the disk refused; nothing stands at `out`.
    """
    path = Path(out).expanduser()
    if os.path.lexists(path) and not (path.is_file() and is_pack(path)):
        raise UsageError("something stands there already", path, "name another file")
    mind_sealed(path)
    names = None if class_names is None else [str(name) for name in class_names]
    if names is not None and not 2 <= len({*names}) == len(names):
        what = "two classes have the same name" if len({*names}) < len(names) else f"{len(names)} classes"
        raise UsageError(what, "class_names", "name at least two, each by a name of its own")
    given: list[tuple[Part, Labelled]] = [("all" if validation is None is test else "train", train)]
    if validation is not None:
        given.append(("validation", validation))
    if test is not None:
        given.append(("test", test))
    with growing_file(path, "make room, or name a file elsewhere", _put) as write:
        _write(PackWriter(write), given, names, None if groups is None else [str(group) for group in groups])
    return path


def _put(temporary: Path, path: Path) -> None:
    if not os.path.lexists(path):
        os.replace(temporary, path)
    elif not same_pack(temporary, path):
        raise UsageError("a pack of other images stands there already", path, "name another file, or remove it")


def _write(
    pack: PackWriter, given: list[tuple[Part, Labelled]], names: list[str] | None, groups: list[str] | None
) -> None:
    numbers = {name: number for number, name in enumerate(names or ())}
    trained, paths = set[str](), list[str]()
    known = sorted({*(groups or ())})
    group_of = {group: number for number, group in enumerate(known)}
    for part, labelled in given:
        first, word = part in ("all", "train"), "train" if part == "all" else part
        own, count = _names_of(labelled), 0  # a part may know fewer classes than another, and number them by itself
        for image, label in _pairs(labelled, word):
            name = _class_of(label, names or own, f"{word}[{count}]")
            if first:
                trained.add(name)
                if groups is not None and count >= len(groups):
                    raise UsageError(f"{len(groups)} groups for more images", "groups", "give one for each image")
            elif name not in trained:
                what = f"the {part} images have the class {name[:40]!r}, and the training images have not"
                raise UsageError(what, f"{word}[{count}]", nearest(name, sorted(trained)))
            pixels = image.pixels()
            group = group_of[groups[count]] if first and groups is not None else -1
            number = numbers.setdefault(name, len(numbers))
            pack.add(pixels.tobytes(), (pixels.shape[0], pixels.shape[1], pixels.shape[2]), number, part, group)
            paths.append(f"{part}/{count:07}")
            count += 1
        if not count:
            raise UsageError(f"there are no {'training' if first else part} images", word, _PAIRS)
        if first and groups is not None and count != len(groups):
            raise UsageError(f"{len(groups)} groups for {count} images", "groups", "give one for each image")
    if empty := [name for name in names or () if name not in trained]:
        raise UsageError(f"no training image is of the class {empty[0][:40]!r}", "class_names", "leave it out")
    if len(trained) < 2:
        raise UsageError("all images are of one class", "labels", "there is nothing to tell it from")
    facts = {"written_by": VERSION, "short_side": 0, "made_from": "images of a program", "left_out": {}}
    pack.end({**facts, "class_names": [*numbers], "titles": {}, "paths": paths, "groups": known})


def _pairs(labelled: Labelled, part: str) -> Iterator[tuple[Image, Any]]:
    if isinstance(labelled, tuple):
        if len(labelled) != 2:
            raise UsageError(f"{len(labelled)} things were given as {part}", part, _PAIRS)
        count, images = _images(_with_channel(labelled[0]), part)
        labels = _values(labelled[1], part)
        if count != len(labels):
            raise UsageError(f"{count} images and {len(labels)} labels", part, "give one label for each image")
        yield from zip(images, labels, strict=True)
        return
    for number, pair in enumerate(_each(labelled, part)):
        where = f"{part}[{number}]"
        image, label = _taken(pair, where)
        yield _one(image, where), label


def _images(images: Images, part: str) -> tuple[int, Iterator[Image]]:
    """How many there are, and each; those of one array are taken out of it one by one, for it may be a large one."""
    if isinstance(images, np.ndarray | Tensor) and images.ndim == 4:
        return len(images), (_one(row, f"{part}[{number}]") for number, row in enumerate(images))
    found = gather(images)
    return len(found), iter(found)


def _one(given: Any, where: str) -> Image:
    """The image that was given at a place, and is called so, unless it is a file."""
    try:
        found = gather(given)
    except UsageError as error:
        raise UsageError(error.what, where, error.remedy) from None
    if len(found) != 1:
        raise UsageError(f"{len(found)} images with one label", where, _PAIRS)
    return found[0] if isinstance(found[0].what, Path) else found[0]._replace(name=where)


def _with_channel(images: Images) -> Images:
    """Grey images in one array (NHW) with the axis of their channel; alone it would be taken for an image of HWC."""
    if isinstance(images, Tensor) and images.ndim == 3:
        return images.unsqueeze(1)
    return images[..., None] if isinstance(images, np.ndarray) and images.ndim == 3 else images


def _each(labelled: Any, part: str) -> Iterator[Any]:
    """The pairs of a data set, by their numbers where it has them: many have no iterator that ends."""
    if isinstance(labelled, Mapping):
        raise UsageError(f"{type(labelled).__name__} is no data set", part, _PAIRS)
    if hasattr(labelled, "__getitem__") and hasattr(labelled, "__len__"):
        return (labelled[number] for number in range(len(labelled)))
    try:
        return iter(labelled)
    except TypeError:
        raise UsageError(f"{type(labelled).__name__} is no data set", part, _PAIRS) from None


def _taken(pair: Any, where: str) -> tuple[Any, Any]:
    if isinstance(pair, Mapping):
        found = [next((pair[name] for name in known if name in pair), None) for known in (_IMAGE, _CLASS)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    elif isinstance(pair, tuple | list) and len(pair) == 2:
        return pair[0], pair[1]
    raise UsageError(f"{type(pair).__name__} is no pair of an image and its label", where, _PAIRS)


def _values(labels: Any, part: str) -> list[Any]:
    if isinstance(labels, np.ndarray | Tensor):
        if labels.ndim != 1:
            remedy = "give one number for each image; of one-hot rows that is labels.argmax(1)"
            raise UsageError(f"the labels have {labels.ndim} axes", part, remedy)
        found: list[Any] = labels.tolist()
        return found
    try:
        return [*labels]
    except TypeError:
        what = f"{type(labels).__name__} is no list of labels"
        raise UsageError(what, part, "give a number or a name for each image") from None


def _class_of(label: Any, names: list[str] | None, where: str) -> str:
    """The name of a class by its number or its name."""
    label = label.item() if isinstance(label, np.generic | Tensor) and np.ndim(label) == 0 else label
    if isinstance(label, str):
        if names is not None and label not in names:
            raise UsageError(f"no class is named {label[:40]!r}", where, nearest(label, names))
        return label
    if not isinstance(label, Integral):
        raise UsageError(f"the label {label!r:.40} is neither an integer nor a name", where, "give one of these")
    if names is None:
        return str(label)
    if not 0 <= int(label) < len(names):
        what = f"the label {int(label)} is none of {len(names)} classes"
        raise UsageError(what, where, f"labels count from 0 to {len(names) - 1}")
    return names[int(label)]


def _names_of(labelled: Labelled) -> list[str] | None:
    """The names that a data set of torchvision has for its labels."""
    found = getattr(labelled, "classes", None)
    sound = isinstance(found, list | tuple) and all(isinstance(name, str) for name in found)
    return [*found] if found and sound else None
