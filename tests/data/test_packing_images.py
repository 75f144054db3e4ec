"""Images of a program become a pack: the same pixels, labels by number or name, every fault told before it stands."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import residual
from residual.data.datasets import DataSettings, divide, open_dataset
from residual.data.source import Dataset, everything
from residual.errors import DataError, UsageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 32, 32), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def opened(path: Path, **settings: Any) -> Dataset:
    return open_dataset(DataSettings.model_validate({"dataset": "folder", "path": str(path), **settings}))


class Pairs:
    """A data set as torch has them: by number, and with no iterator that ends."""

    classes: tuple[str, ...] = ("ant", "bee", "cat")

    def __len__(self) -> int:
        return 12

    def __getitem__(self, number: int) -> tuple[Image.Image, int]:
        return Image.fromarray(COLOUR[number % 12]), int(LABELS[number % 12])


@pytest.mark.parametrize(
    ("given", "pixels"),
    [
        ((GREY, LABELS), GREY[..., None]),
        ((torch.from_numpy(GREY), torch.from_numpy(LABELS)), GREY[..., None]),
        ((COLOUR, LABELS.tolist()), COLOUR),
        ((torch.from_numpy(COLOUR).permute(0, 3, 1, 2), LABELS), COLOUR),
        (([Image.fromarray(one) for one in COLOUR], [str(label) for label in LABELS]), COLOUR),
        ([(one, label) for one, label in zip(COLOUR, LABELS, strict=True)], COLOUR),
        ([{"img": one, "label": int(label)} for one, label in zip(COLOUR, LABELS, strict=True)], COLOUR),
        (Pairs(), COLOUR),
    ],
)
def test_pixels_and_labels_are_those_that_were_given(tmp_path: Path, given: Any, pixels: np.ndarray) -> None:
    path = residual.pack_images(tmp_path / "own.pack", given)
    dataset = opened(path, image_size=32)
    found = dataset.train.read(everything(dataset.train)).permute(0, 2, 3, 1).numpy()
    order = np.argsort(LABELS, kind="stable")  # a folder is read class by class
    assert (found == pixels[order]).all()
    assert dataset.train.labels.tolist() == LABELS[order].tolist()
    assert dataset.class_names == (Pairs.classes if isinstance(given, Pairs) else ("0", "1", "2"))


def test_parts_names_and_groups(tmp_path: Path) -> None:
    parts = {"validation": (COLOUR[:3], LABELS[:3]), "test": (COLOUR[3:6], ["wolf", "ant", "bee"])}
    names = ["wolf", "ant", "bee"]
    dataset = opened(residual.pack_images(tmp_path / "own.pack", (COLOUR, LABELS), class_names=names, **parts))
    assert dataset.class_names == ("ant", "bee", "wolf"), "a network numbers its classes by their names"
    assert [dataset.class_names[label] for label in dataset.test.labels.tolist()] == ["ant", "bee", "wolf"]
    assert dataset.validation is not None
    assert len(dataset.validation) == 3
    patients = [number // 2 for number in range(12)]
    path = residual.pack_images(tmp_path / "grouped.pack", (COLOUR, [0, 1] * 6), groups=patients)
    settings = DataSettings.model_validate({"dataset": "folder", "path": str(path), "validation": 0.3})
    dataset = open_dataset(settings)
    assert dataset.groups is not None
    division = divide(dataset, settings)
    sides = [{int(dataset.groups[n]) for n in part} for part in (division.training, division.validation)]
    assert sides[0] | sides[1] == set(range(6))
    assert not sides[0] & sides[1]


def test_the_same_images_are_packed_once_and_others_replace_nothing(tmp_path: Path) -> None:
    path = residual.pack_images(tmp_path / "own.pack", (COLOUR, LABELS))
    before = path.stat()
    assert residual.pack_images(path, (COLOUR, LABELS)) == path
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    with pytest.raises(UsageError, match="a pack of other images stands there"):
        residual.pack_images(path, (COLOUR[::-1], LABELS))
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="something stands there already"):
        residual.pack_images(tmp_path / "letter.txt", (COLOUR, LABELS))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["letter.txt", "own.pack"]


def test_each_part_of_a_data_set_numbers_its_own_classes(tmp_path: Path) -> None:
    class Fewer(Pairs):
        classes = ("ant", "cat")  # of these 1 is the cat

        def __getitem__(self, number: int) -> tuple[Image.Image, int]:
            return Image.fromarray(COLOUR[number]), int(number % 2)

    class Letters(Pairs):
        classes = ("none", "ant", "bee", "cat")  # the first has no images

        def __getitem__(self, number: int) -> tuple[Image.Image, int]:
            return super().__getitem__(number)[0], int(LABELS[number]) + 1

    dataset = opened(residual.pack_images(tmp_path / "own.pack", Letters(), test=Fewer()))
    assert dataset.class_names == ("ant", "bee", "cat")
    assert dataset.test.labels.tolist() == [0] * 6 + [2] * 6


def test_a_pack_of_another_release_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residual.data.packing_images.VERSION", "9.9")
    path = residual.pack_images(tmp_path / "own.pack", (COLOUR, LABELS))
    before = path.read_bytes()
    monkeypatch.undo()
    residual.pack_images(path, (COLOUR, LABELS))
    assert path.read_bytes() == before


def test_a_source_of_a_pack_goes_to_other_processes_without_the_pack(tmp_path: Path) -> None:
    source = opened(residual.pack_images(tmp_path / "own.pack", (COLOUR, LABELS)), image_size=32).train
    found = source.read(everything(source))
    sent = pickle.dumps(source)
    assert len(sent) < COLOUR.nbytes
    assert torch.equal(pickle.loads(sent).read(everything(source)), found)


@pytest.mark.parametrize(
    ("given", "more", "words"),
    [
        ((COLOUR / 255.0, LABELS), {}, "this array is of float64"),
        ((COLOUR, LABELS[:5]), {}, "12 images and 5 labels"),
        ((COLOUR, np.eye(3)[LABELS]), {}, "labels.argmax(1)"),
        ((COLOUR, LABELS + 0.5), {}, "neither an integer nor a name"),
        ((COLOUR, LABELS), {"class_names": ["a", "b"]}, "the label 2 is none of 2 classes"),
        ((COLOUR, LABELS), {"class_names": ["a", "b", "c", "d"]}, "no training image is of the class 'd'"),
        ((COLOUR, LABELS), {"class_names": ["a", "b", "a"]}, "two classes have the same name"),
        ((COLOUR, LABELS), {"test": (COLOUR, LABELS + 1)}, "the test images have the class '3'"),
        ((COLOUR, LABELS), {"groups": [1, 2]}, "2 groups for"),
        ((COLOUR, LABELS * 0), {}, "all images are of one class"),
        ((COLOUR, LABELS, LABELS), {}, "3 things were given"),
        ([], {}, "there are no training images"),
        (7, {}, "int is no data set"),
        ({"image": COLOUR, "label": LABELS}, {}, "dict is no data set"),
        ((COLOUR, None), {}, "NoneType is no list of labels"),
        ((COLOUR, LABELS), {"class_names": []}, "0 classes (class_names)"),
        ([(COLOUR[0], 0), (COLOUR[1] / 2.0, 1)], {}, "train[1]"),
        ([COLOUR[0]], {}, "ndarray is no pair"),
    ],
)
def test_what_cannot_be_packed_is_refused_and_leaves_nothing(
    tmp_path: Path, given: Any, more: dict[str, Any], words: str
) -> None:
    with pytest.raises((UsageError, DataError), match=re.escape(words)):
        residual.pack_images(tmp_path / "own.pack", given, **more)
    assert [*tmp_path.iterdir()] == []
