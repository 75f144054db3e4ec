"""Figures of studies: what is cut off is said, every arm is found, and names do not lie on one another."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from residual.analysis.bands import Band, draw_bands
from residual.analysis.comparison_figures import curve_picture, mean_line
from residual.analysis.inline import inline_svg
from residual.analysis.range_figure import draw_range
from residual.analysis.study_figures import (
    Draw,
    draw_costs,
    draw_errors,
    draw_gradients,
    draw_lesions,
    draw_probes,
    draw_responses,
    draw_similarities,
    names_of_points,
    picture,
)
from tests.analysis.reading import Page


def texts(draw: Draw, series: Mapping[str, object]) -> list[str]:
    """The words of a figure."""
    return Page(inline_svg(picture(draw, series, "", "inline"), "x", "x")).texts


def falling(*means: float) -> dict[str, object]:
    steps = [100 * (number + 1) for number in range(len(means))]
    return {"test error": {"step": steps, "mean": [*means], "std": [0.0] * len(means)}}


FLAT = falling(*([10.0] * 20))


def test_what_a_figure_of_errors_cuts_off_is_said():
    found = texts(draw_errors, {"resnet-20": falling(80.0, *([10.0] * 19))})
    assert "dashed: training, solid: test or validation; cut at 11 %" in found
    assert "dashed: training, solid: test or validation" in texts(draw_errors, {"resnet-20": FLAT})


def test_an_arm_that_ends_above_the_figure_says_so_by_its_name():
    arms = {f"resnet-{depth}": FLAT for depth in range(20, 30)} | {"plain-110": falling(*([62.0] * 10))}
    found = texts(draw_errors, arms)
    assert "plain-110 (above: 62.0 % at the end)" in found
    assert "resnet-20" in found
    assert "plain-110" in texts(draw_errors, {"plain-110": falling(*([62.0] * 10))})


def test_most_of_an_arm_that_ends_in_the_figure_is_seen():
    """Of plain-56 beside plain-20, five points of twelve lay above the figure."""
    arms = {"plain-20": falling(*([15.0] * 12)), "plain-56": falling(*(90.0, 80.0, 70.0), *([62.0] * 5), *([25.0] * 4))}
    assert any("cut at 69 %" in text for text in texts(draw_errors, arms))
    never = arms | {"resnet-20": FLAT, "plain-110": falling(*([90.0] * 2))}
    assert "plain-110 (above: 90.0 % at the end)" in texts(draw_errors, never)


def test_arms_judged_once_or_twice_stand_in_rows():
    ends = {"half": 35.0, "identity": 31.0, "none": 38.0, "gate": 33.0, "dropout": 60.0}
    arms = {name: falling(60.0, last) for name, last in ends.items()}
    found = texts(draw_errors, arms)
    assert [text for text in found if text in arms] == ["dropout", "none", "half", "gate", "identity"]
    assert "step 200; hollow: training, full: test or validation" in found
    assert marks(picture(draw_errors, arms, "t", "svg")) == 5
    assert "step 200; hollow: training, full: test or validation" not in texts(draw_errors, {"a": falling(60.0, 31.0)})


def test_there_is_no_layer_between_two():
    found = texts(draw_responses, {"resnet-8": {"response": [0.1, 0.2, 0.3]}})
    assert not {"1.5", "2.5"} & set(found)
    assert {"1", "2", "3"} <= set(found)


@pytest.mark.parametrize(
    ("draw", "points"),
    [
        (draw_responses, lambda height: {"response": [height, 1.0]}),
        (draw_gradients, lambda height: {"gradient": [height, 1.0]}),
        (draw_probes, lambda height: {"depth": [0, 1], "accuracy": [height, 1.0]}),
        (draw_similarities, lambda height: {"depth": [0, 0.5, 1], "similarity": [height, 1.0]}),
        (
            draw_lesions,
            lambda height: {"whole": 1.0, "unit": [1], "deleted": [height], "swap": [1.5], "swapped": [height]},
        ),
    ],
)
def test_runs_of_other_seeds_are_drawn_faintly_and_told(draw, points):
    one = {"resnet-8": points(2.0)}
    both = {"resnet-8": {**points(2.0), "others": [points(3.0)]}}
    alone, drawn = (picture(draw, series, "", "svg") for series in (one, both))
    assert drawn.count(b"opacity: 0.55") > alone.count(b"opacity: 0.55") == 0
    words = texts(draw, both)
    assert any("faint: runs of other seeds" in text for text in words)
    assert not any("faint" in text for text in texts(draw, one))
    assert sum("resnet-8" in text for text in words) == sum("resnet-8" in text for text in texts(draw, one))


def test_a_logarithmic_axis_of_one_decade_has_several_numbers(tmp_path):
    draw_range([0.02, 0.1, 0.4], [2.3, 2.0, 3.0], [2.3, 2.1, 2.2], {"steepest": 0.1}, "t", tmp_path / "lr.svg")
    drawn = (tmp_path / "lr.svg").read_text()
    assert {"0.05", "0.1", "0.2"} <= set(re.findall("<!-- ([0-9.]+) -->", drawn))


def test_a_figure_ends_at_the_whole():
    assert not any("cut at" in text for text in texts(draw_errors, {"chance": falling(99.0, 98.0)}))


def test_an_axis_that_does_not_begin_at_0_says_so():
    high = {"plain-34": falling(99.0, 98.2), "resnet-34": falling(97.0, 80.8)}
    assert "dashed: training, solid: test or validation; from 70 % up" in texts(draw_errors, high)
    assert not any("% up" in text for text in texts(draw_errors, high | {"resnet-20": FLAT}))


@pytest.mark.parametrize(
    ("seconds", "names"),
    [
        ([1.0, 1.1, 2.0], ["plain-20, resnet-20", "resnet-32"]),
        ([1.0, 1.5, 2.0], ["plain-20", "resnet-20", "resnet-32"]),
    ],
)
def test_names_of_one_place_stand_together(seconds, names):
    found = {"network": ["plain-20", "resnet-20", "resnet-32"], "multiply_adds": [100, 101, 170], "seconds": seconds}
    assert [name for _, _, name in names_of_points(found)] == names
    assert set(names) <= set(texts(draw_costs, {"a set": found}))


def test_a_search_without_a_figure_is_not_left_out_of_the_mean():
    assert mean_line([[(1, 2.0), (2, 4.0)], [(1, 3.0)]]) == [(1, 2.5)]
    assert mean_line([[(1, 2.0), (2, 4.0)], [(1, 3.0)], []]) == []


def marks(drawn: bytes) -> int:
    """Marks of the first colour, that of the legend with them; a band is a shape without an edge."""
    return len(re.findall(rb'<use [^>]*style="fill: #0072b2; stroke: #0072b2"', drawn, re.IGNORECASE))


def test_a_single_point_is_a_mark_where_no_line_can_be_drawn(tmp_path):
    path = tmp_path / "bands.svg"
    for at, count in (((1.0,), 2), ((1.0, 2.0), 0)):
        some = [30.0] * len(at)
        draw_bands({"test": Band(at, tuple(some), tuple(some))}, path, "t")
        assert marks(path.read_bytes()) == count
        judged = {"test error": {"step": [*at], "mean": some, "std": some}}
        assert marks(picture(draw_errors, {"plain-8": judged}, "t", "svg")) == count
        curve = {"epochs": [*at], "mean": some, "std": some}
        found = {"arms": ["default"], "curves": {"default": {"top-1": curve}}}
        assert marks(curve_picture(found, "top-1", "svg")) == count // 2, "its legend has lines alone"


def test_rates_of_a_range_test_are_numbers(tmp_path):
    draw_range([1e-5, 1e-3, 0.1], [2.3, 2.0, 3.0], [2.3, 2.1, 2.2], {"steepest": 1e-3}, "t", tmp_path / "lr.svg")
    drawn = (tmp_path / "lr.svg").read_text()
    assert "mathdefault" not in drawn
    assert "<!-- 0.001 -->" in drawn
