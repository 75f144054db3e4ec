"""The numbers of the curves, and pictures that are whole, plain and the same each time."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree

import numpy
import pytest
from PIL import Image

from residual.analysis.curves import Curves, Series, axis_scale, bends, curves
from residual.analysis.figures import (
    MOST_IMAGES,
    MOST_NAMES,
    SHADES,
    confusion_picture,
    draw_curves,
    draw_predictions,
    panel_picture,
)
from residual.analysis.reliability import reliability_picture
from residual.analysis.style import PALETTE, look, shortened
from residual.errors import StorageError, UsageError
from residual.evaluation.calibration import Bin, Calibration
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


def dropped(step):
    """A rate that falls with the step of number 700 and then lies still."""
    return (0.1 if step < 700 else 0.01), 0.9


def test_between_the_records_the_rate_is_that_of_the_schedule():
    found = curves([train(500), train(1000, rate=0.01)], dropped)
    assert found.retraced
    rate = found.series["learning rate"]
    place = rate.steps.index(701)  # steps are counted when they are done
    assert rate.values[place - 1 : place + 1] == (0.1, 0.01)
    assert rate.steps[place - 1] == 700
    assert (rate.steps[0], rate.steps[-1], rate.epochs[-1]) == (1, 1000, 250.0)
    assert found.series["training loss"].steps == (500, 1000)
    later = curves([train(1000, rate=0.01)], dropped, first=600)
    assert later.series["learning rate"].steps[0] == 601


@pytest.mark.parametrize("records", [[], [train(500, rate=0.2)], [train(500, momentum=0.8)], [evaluation(500)]])
def test_rates_that_are_not_those_recorded_are_not_believed(records):
    assert curves(records, dropped) == curves(records)
    assert not curves(records).retraced


def test_a_smooth_rate_needs_few_points():
    def cosine(step):
        return 0.1 * (1 + math.cos(math.pi * step / 64_000)) / 2, 0.9

    taken = bends(cosine, 0, 63_999)
    assert (taken[0], taken[-1]) == (0, 63_999)
    assert taken == sorted(set(taken))
    assert len(taken) < 200
    lines = numpy.interp(range(64_000), taken, [cosine(step)[0] for step in taken])
    assert numpy.allclose(lines, [cosine(step)[0] for step in range(64_000)], rtol=0.01, atol=0)
    assert bends(cosine, 5, 5) == [5]


def test_recorded_rates_are_marks_without_lines_between():
    records = [train(500), train(1000, rate=0.01)]
    known, recorded = (
        panel_picture({"run": run}, "rate", "step", "inline").decode()
        for run in (curves(records, dropped), curves(records))
    )
    assert "Learning rate; momentum (dashed, right)" in known
    assert "Recorded learning rate; momentum (x, right)" in recorded
    assert ["stroke-dasharray" in text for text in (known, recorded)] == [True, False]
    assert ["stroke-width: 1.6" in text for text in (known, recorded)] == [True, False]


def test_no_two_lines_look_alike():
    for by in ("dashes", "marks"):
        looks = [look(number, by) for number in range(36)]
        assert len({str(one) for one in looks}) == 36
        assert [one["color"] for one in looks[:6]] == list(PALETTE)
        first = [str({name: value for name, value in one.items() if name != "color"}) for one in looks[:6]]
        assert len(set(first)) == 6, "told apart without their colours too"


@pytest.mark.parametrize("classes", [3, MOST_NAMES + 1])
def test_a_confusion_in_a_file_says_what_its_shades_are(classes):
    counts, names = numpy.eye(classes, dtype=numpy.int64), [str(k) for k in range(classes)]
    assert f"<!-- {SHADES} -->" in confusion_picture(counts, names, "svg").decode()
    assert SHADES not in confusion_picture(counts, names, "inline").decode()


def test_shares_over_bars_are_never_rounded_to_nothing_or_all(tmp_path):
    path = tmp_path / "grid.svg"
    draw_predictions([numpy.zeros((8, 8), numpy.uint8)], ["a"], [[("cat", 0.99999), ("dog", 0.00001)]], path)
    text = path.read_text().replace("\u00a0", " ")
    assert "<!-- &gt; 99.9 % -->" in text
    assert "<!-- &lt; 0.1 % -->" in text


def test_bins_of_few_answers_are_hollow():
    few, many = Bin(0.0, 0.5, 19, 0.4, 0.3), Bin(0.5, 1.0, 20, 0.9, 0.8)
    drawn = [reliability_picture(Calibration(bins, 0.02), "inline").decode() for bins in ((few, many), (many, many))]
    assert ["hollow: below 20 answers" in text for text in drawn] == [True, False]
    assert "2.00\u00a0points" in drawn[0]


@pytest.mark.parametrize(
    ("values", "scale"),
    [([], "linear"), ([1, 2], "linear"), ([0, 1], "linear"), ([0.1, 3.0], "linear"), ([0.1, 3.1], "log")],
)
def test_axis_scale(values, scale):
    assert axis_scale(values) == scale


def test_shortened_keeps_both_ends():
    assert shortened("a.png", 10) == "a.png"
    assert shortened("abcdefghijklm.png", 10) == "abcde….png"


@pytest.mark.parametrize(
    ("name", "count"),
    [*((name, count) for name in ("curves.png", "curves.svg") for count in (0, 1, 3)), ("new folder/CURVES.PNG", 1)],
)
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
    for title in NASTY[1:]:
        draw_curves({}, tmp_path / f"curves{suffix}", title)
    draw_curves(dict.fromkeys(NASTY, run), tmp_path / f"curves{suffix}", NASTY[0])
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


@pytest.mark.parametrize("count", [1, 2, 5, 7, MOST_IMAGES + 4])
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


def test_as_many_predictions_as_fit_are_all_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("residual.analysis.figures.MOST_IMAGES", 6)
    path = tmp_path / "grid.svg"
    image = numpy.zeros((8, 8), numpy.uint8)
    for count, cut in ((6, False), (7, True)):
        names = [f"{number}.png" for number in range(count)]
        draw_predictions([image] * count, names, [[("cat", 0.9)]] * count, path)
        assert sum(f"<!-- {name} -->" in path.read_text() for name in names) == 6
        assert ("are not shown" in path.read_text() or "is not shown" in path.read_text()) is cut


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
