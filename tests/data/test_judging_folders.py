"""A folder to judge on: every image of every class folder counts."""

from __future__ import annotations

import pytest

from residual.data.folder import Wishes, open_to_judge
from residual.data.places import scan
from residual.data.source import everything
from residual.errors import DataError
from tests.data.photographs import photographs

WISHES = Wishes(image_size=32, channels=3)


def test_two_folders_of_one_class_are_put_together(tmp_path):
    photographs(tmp_path, ["n01440764", "goldfish", "tench"], 3)
    layout = scan(tmp_path)
    source = open_to_judge(layout, ("tench", "goldfish"), WISHES, {"n01440764": "tench"})["all"]
    assert list(zip(source.names(everything(source)), source.labels.tolist(), strict=True)) == [
        ("n01440764/000.jpg", 0),
        ("n01440764/001.png", 0),
        ("n01440764/002.jpg", 0),
        ("tench/000.jpg", 0),
        ("tench/001.png", 0),
        ("tench/002.jpg", 0),
        ("goldfish/000.jpg", 1),
        ("goldfish/001.png", 1),
        ("goldfish/002.jpg", 1),
    ]
    assert len(layout.parts["all"]["tench"].files) == 3


def test_a_bad_file_of_either_folder_counts(tmp_path):
    photographs(tmp_path, ["n01440764", "goldfish", "tench"], 3)
    (tmp_path / "n01440764" / "000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 9 images cannot be used.*n01440764/000\.jpg"):
        open_to_judge(scan(tmp_path), ("tench", "goldfish"), WISHES, {"n01440764": "tench"})
