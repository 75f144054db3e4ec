"""The benchmark of reading photographs in small, and the rows of the README that are drawn of real images."""

from __future__ import annotations

from pathlib import Path

from benchmarks import loading
from campaigns import readme
from residual.data.folder import Wishes
from residual.data.packing import pack
from tests.data.photographs import picture


def test_photographs_are_read_in_every_way_by_turns(tmp_path: Path) -> None:
    tiles = [picture(number, number, (64, 64)) for number in range(12)]
    assert loading.mosaic(tiles, 500, 375).size == (500, 375)
    files = loading.write_photographs(tmp_path / "photos", tiles, 500, 375, 6)
    packed = pack(tmp_path / "photos", tmp_path / "pack", 256, Wishes(threads=1)).path
    with loading.one_core():
        found = loading.compare(tmp_path / "photos", packed, files, rounds=2)
    assert all(found[way]["least"] > 0 for way in ("theirs", "theirs, cropped first", "ours, Pillow alone", "packed"))
    ratio = found["packed"]["median"] / found["theirs"]["median"]
    assert found["ratio packed"]["resized first"] == ratio
    large = loading.write_photographs(tmp_path / "large", tiles, 1024, 768, 2)
    difference = loading.difference(large)
    assert (difference["images"], difference["decoded at a fraction"]) == (2, 2)
    assert 0 < difference["mean"] < 3
    assert loading.difference(files)["most"] == 0
    figure = readme.ROWS["loading"]({"sets": {"500x375": found}, "side": 224, "rounds": 2})[1]
    assert "500x375: theirs" in figure
    assert "packed" in figure


def test_the_row_of_tiny_imagenet() -> None:
    scores = {"top1": 0.5, "top5": 0.75, "images": 10_000}
    result = {"final": {"validation": scores}, "grey_images": {"training": 380, "validation": 168},
              "network": {"name": "x"}, "images_seen": 200_000, "seconds": 600.0, "seed": 0}  # fmt: skip
    what, figure, _ = readme.ROWS["tiny-imagenet"](result)
    assert "380 of the training images are grey, 168 of the others" in what
    assert figure == "50.00 % top-1, 75.00 % top-5 of the 10,000 validation images; 10 min"
