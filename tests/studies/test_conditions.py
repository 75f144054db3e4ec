"""The language of conditions: what holds, what is refused, what is absent."""

from __future__ import annotations

import math

import pytest

from residual.studies.conditions import Absent, look_up, parse

FIGURES = {
    "plain-20": {"error": {"least": 8.0, "most": 9.0}, "layers": 20},
    "plain-56": {"error": {"least": 9.5, "most": 11.0}},
    "resnet_50": {"parameters": 25_583_592},
    "same": True,
    "broken": math.nan,
    "words": "text",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain-56.error.least > plain-20.error.most", True),
        ("plain-56.error.least > plain-20.error.most and plain-20.layers == 21", False),
        ("0.98 <= resnet_50.parameters / 25.5e6 <= 1.02", True),
        ("plain-56.error.most - plain-20.error.most <= 2", True),
        ("plain-56.error.most - plain-20.error.most * 2 == 4", True),  # from left to right
        ("same == true", True),
        ("same != true", False),
        ("-1 < 0 < 1 < 1", False),
    ],
)
def test_conditions_hold_or_not(text, expected):
    assert parse(text).holds(FIGURES) is expected


@pytest.mark.parametrize("text", ["", "a", "a >", "> a", "a b > c", "a + > c", "a > b and", "a = b"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(ValueError, match="no condition"):
        parse(text)


@pytest.mark.parametrize("path", ["plain-20.error.mean", "absent", "broken", "words", "plain-20", "plain-20.layers.x"])
def test_what_is_no_finite_number_is_absent(path):
    with pytest.raises(Absent) as found:
        look_up(path, FIGURES)
    assert found.value.path == path
    with pytest.raises(Absent):
        parse(f"1 < 2 and 0 < {path}").holds(FIGURES)


def test_a_division_by_nothing_is_no_figure():
    with pytest.raises(Absent):
        parse("1 / zero > 2").holds({"zero": 0})


def test_the_figures_of_a_condition_are_those_it_names():
    condition = parse("plain-56.error.least > plain-20.error.most and absent == 1 and same == true")
    assert condition.paths() == ["plain-56.error.least", "plain-20.error.most", "absent", "same"]
    assert condition.figures(FIGURES) == {"plain-56.error.least": 9.5, "plain-20.error.most": 9.0, "same": True}
