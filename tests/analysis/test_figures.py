"""The numbers of the curves, and pictures that are whole, plain and the same each time."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree

import numpy
import pytest
from PIL import Image

from residual.analysis.curves import Curves, Series, axis_scale, curves
from residual.analysis.figures import MOST_IMAGES, draw_curves, draw_predictions
from residual.analysis.style import shortened
from residual.errors import StorageError, UsageError
from tests.conftest import subprocess_environment

NASTY = [
    "$x_1^{2$",
    "_hidden",
    "<script>alert('&')</script>",
    "名前 🐈 \ud800.png",
    "a\nb\x00\t\x1b[31m",
    "\\alpha%",
    "",
    "é" * 99,
]


def train(step, **facts):
    usual = {"kind": "train", "step": step, "epoch": step / 4, "measure": "running"}
    return usual | {"loss": 2.0 / step, "top1": 0.5, "rate": 0.1, "momentum": 0.9} | facts


def evaluation(step, split="validation", **facts):
    return {"kind": "evaluation", "split": split, "step": step, "epoch": step / 4, "loss": 1.0, "top1": 0.75, **facts}


def picture_size(path):
    if path.suffix.lower() == ".svg":
        root = xml.etree.ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
        return float(root.attrib["width"].removesuffix("pt")), float(root.attrib["height"].removesuffix("pt"))
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def test_curves_hold_the_numbers_of_the_records():
    records = [train(1), train(2, rate=0.2), evaluation(2), evaluation(2, "test", loss=1.5, top1=0.7), train(3)]
    found = curves([{"kind": "begin", "seed": 1}, *records, {"kind": "saved", "step": 3}]).series
    assert found["training loss"] == Series((0.25, 0.5, 0.75), (1, 2, 3), (2.0, 1.0, 2.0 / 3))
    assert found["training error"].values == (50.0, 50.0, 50.0)
    assert found["learning rate"].values == (0.1, 0.2, 0.1)
    assert found["momentum"].values == (0.9, 0.9, 0.9)
    assert found["validation loss"] == Series((0.5,), (2,), (1.0,))
    assert found["validation error"].values == (25.0,)
    assert found["test loss"].values == (1.5,)
    assert found["test error"].values == pytest.approx((30.0,))
    assert len(found) == 8


def test_curves_follow_the_steps_and_keep_the_last_word():
    found = curves([train(3, loss=3.0), train(1, loss=1.0), train(2, loss=9.0), train(2, loss=2.0)]).series
    assert found["training loss"] == Series((0.25, 0.5, 0.75), (1, 2, 3), (1.0, 2.0, 3.0))


def test_curves_leave_out_what_is_absent_or_not_finite():
    records = [
        train(1, loss=None),
        train(2, loss=math.nan),
        train(3, loss=math.inf),
        train(4, top1=None, momentum=None),
    ]
    found = curves(records).series
    assert found["training loss"] == Series((1.0,), (4,), (0.5,))
    assert len(found["training error"].values) == len(found["momentum"].values) == 3
    assert curves([]).series == {}
    assert curves([train(1, measure="exact"), evaluation(1, "other")]).series == {}


@pytest.mark.parametrize(
    ("values", "scale"),
    [([], "linear"), ([1, 2], "linear"), ([0, 1], "linear"), ([0.1, 3.0], "linear"), ([0.1, 3.1], "log")],
)
def test_axis_scale(values, scale):
    assert axis_scale(values) == scale


def test_shortened_keeps_both_ends():
    assert shortened("a.png", 10) == "a.png"
    assert shortened("abcdefghijklm.png", 10) == "abcde….png"


@pytest.mark.parametrize("name", ["curves.png", "curves.svg", "new folder/CURVES.PNG"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_curves_are_drawn(tmp_path, name, count):
    records = [*(train(step) for step in range(1, 40)), evaluation(20), evaluation(39), evaluation(39, "test")]
    path = tmp_path / name
    draw_curves({f"run {number}": curves(records) for number in range(count)}, path, "Runs")
    width, height = picture_size(path)
    assert 2 < width / height < 4
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_curves_with_gaps_are_drawn(tmp_path):
    runs = {
        "empty": Curves({}),
        "one point": curves([train(1)]),
        "only test": curves([evaluation(1, "test")]),
        "rate zero": curves([train(1, rate=0.0, momentum=0.0), train(2, rate=0.0, loss=0.0, top1=1.0)]),
        "no momentum": curves([train(1, momentum=None), train(2, momentum=None, rate=0.001)]),
    }
    for name, run in runs.items():
        draw_curves({name: run}, tmp_path / "alone.png", name)
    draw_curves(runs, tmp_path / "together.svg", "All")
    many = {f"{name} {turn}": run for name, run in runs.items() for turn in range(8)}
    draw_curves(many, tmp_path / "many.png", "Many")
    picture_size(tmp_path / "many.png")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_nasty_names_are_drawn_as_they_are(tmp_path, suffix):
    run = curves([train(1), train(2), evaluation(2)])
    for title in NASTY:
        draw_curves(dict.fromkeys(NASTY, run), tmp_path / f"curves{suffix}", title)
    picture_size(tmp_path / f"curves{suffix}")
    image = numpy.zeros((8, 8, 3), numpy.uint8)
    guesses = [[(name, 0.7), (name[::-1], 0.3)] for name in NASTY]
    draw_predictions([image] * len(NASTY), NASTY, guesses, tmp_path / f"grid{suffix}")
    picture_size(tmp_path / f"grid{suffix}")


@pytest.mark.parametrize("name", ["$x$", "_x_", "\\x{"])
def test_names_are_drawn_letter_by_letter(tmp_path, name):
    """One outline for each letter: mathematics would have one for `$x$`, and a label `_x_` would be left out."""
    run = curves([train(1), train(2), evaluation(2)])
    draw_curves({name: run, "other": run}, tmp_path / "curves.svg", "")
    drawn = (tmp_path / "curves.svg").read_text().split(f"<!-- {name} -->")[1:]
    assert [text.partition("<!--")[0].count('href="#DejaVuSans-') for text in drawn] == [len(name)] * 2


@pytest.mark.parametrize("count", [1, 2, 5, 7, MOST_IMAGES, MOST_IMAGES + 4])
def test_predictions_are_drawn(tmp_path, count):
    shapes = [(32, 32, 3), (8, 8), (8, 8, 1), (300, 200, 3), (8, 40, 4)]
    images = [numpy.full(shapes[number % 5], 90, numpy.uint8) for number in range(count)]
    guesses = [[("cat", 0.9), ("dog", 0.1)][: number % 3] for number in range(count)]
    path = tmp_path / "grid.svg"
    draw_predictions(images, [f"{number}.png" for number in range(count)], guesses, path)
    picture_size(path)
    text = path.read_text()
    assert sum(f"<!-- {number}.png -->" in text for number in range(count)) == min(count, MOST_IMAGES)
    assert ("<!-- The first 36 of 40 images; 4 are not shown. -->" in text) is (count > MOST_IMAGES)


def test_the_same_figure_has_the_same_bytes(tmp_path):
    run = curves([train(1), train(2)])
    for suffix in (".png", ".svg"):
        for number in range(2):
            draw_curves({"run": run}, tmp_path / f"{number}{suffix}", "Run")
        assert (tmp_path / f"0{suffix}").read_bytes() == (tmp_path / f"1{suffix}").read_bytes()


def test_refusals_leave_nothing_behind(tmp_path):
    image = numpy.zeros((8, 8), numpy.uint8)
    for name in ("curves.pdf", "curves", "curves.html"):
        with pytest.raises(UsageError, match=r"end the name in \.png or \.svg"):
            draw_curves({}, tmp_path / name, "")
        with pytest.raises(UsageError, match=r"end the name in \.png or \.svg"):
            draw_predictions([image], ["a"], [[]], tmp_path / name)
    with pytest.raises(UsageError, match="no image to draw"):
        draw_predictions([], [], [], tmp_path / "grid.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(StorageError):
        draw_curves({}, tmp_path / "folder.png", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.png"]


def test_figures_import_matplotlib_only_to_draw():
    program = "import sys, residual.analysis.figures; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=subprocess_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
