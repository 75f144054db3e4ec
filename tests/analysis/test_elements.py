"""Text from outside stays text, in content and in attributes; figures become part of a page."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residual.analysis.curves import curves
from residual.analysis.elements import Column, Html, escape, named, number, percent, table, tag, visible, whole
from residual.analysis.figures import PANELS, confusion_picture, panel_picture
from residual.analysis.inline import COLOURS, inline_svg
from tests.analysis.reading import Page
from tests.analysis.test_figures import NASTY, evaluation, train


@given(st.text())
def test_text_comes_back_as_it_was_and_makes_no_element(text):
    page = Page(tag("p", text, title=text))
    assert [name for name, _ in page.elements] == ["p"]
    assert "".join(page.texts) == visible(text)
    assert page.every("p")[0]["title"] == visible(text)
    visible(text).encode()


def test_what_could_steer_a_reader_is_written_out():
    assert visible("a\x00\x1b[31m\u202eb\ud800\nc") == "a\\x00\\x1b[31m\\u202eb\\ud800 c"
    assert visible("نص 👩\u200d👧 é") == "نص 👩\u200d👧 é"


def test_markup_is_not_escaped_twice_and_nothing_is_left_open():
    assert tag("p", tag("b", "x & y"), "<i>") == "<p><b>x &amp; y</b>&lt;i&gt;</p>"
    assert tag("td", "x", class_=None, hidden=True, aria_label="y") == '<td hidden aria-label="y">x</td>'
    assert tag("br") == "<br>"
    assert isinstance(escape("x"), Html)


def test_long_names_are_shortened_and_whole_in_the_title():
    page = Page(named("x" * 90))
    assert "".join(page.texts) == "x" * 20 + "…" + "x" * 19
    assert page.every("bdi")[0]["title"] == "x" * 90
    assert "title" not in Page(named("short")).every("bdi")[0]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.12345, "12.35 %"),
        (0.0, "0.00 %"),
        (1.0, "100.00 %"),
        (1e-9, "< 0.01 %"),
        (1 - 1e-9, "> 99.99 %"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_shares_are_never_rounded_to_nothing_or_all(share, text):
    assert percent(share).replace("\u00a0", " ") == text


def test_numbers():
    assert (number(1234.56789, 2), number(None), number(float("inf")), whole(1234), whole(None)) == (
        "1,234.57",
        "–",
        "–",
        "1,234",
        "–",
    )


def test_a_table_has_heads_for_rows_and_columns():
    page = Page(table("What", [Column("name"), Column("n", True)], [("a", "1"), ("b", "2")], foot=("all", "3")))
    assert page.table("What") == [["name", "n"], ["a", "1"], ["b", "2"], ["all", "3"]]
    assert [head["scope"] for head in page.every("th")] == ["col", "col", "row", "row", "row"]


@pytest.mark.parametrize("panel", PANELS)
def test_a_figure_becomes_part_of_a_page(panel):
    records = [train(1), train(2), evaluation(2), evaluation(2, "test")]
    runs = {name: curves(records) for name in NASTY}
    svg = inline_svg(panel_picture(runs, panel, "step", "inline"), "mine", "A <title>")
    page = Page(svg)
    names = {name for name, _ in page.elements}
    assert names <= {"svg", "title", "defs", "g", "path", "use", "text", "clippath", "rect", "tspan"}
    (root,) = page.every("svg")
    assert root["aria-labelledby"] == "mine-title"
    assert "width" not in root
    assert "A <title>" in page.texts
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert all(str(name).startswith("mine-") for name in identifiers)
    assert len(set(identifiers)) == len(identifiers)
    wanted = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
    assert wanted
    assert {one or other for one, other in wanted} <= set(identifiers)


def test_every_colour_of_a_figure_follows_the_page():
    alone = {"run": curves([train(1), train(2), evaluation(2), evaluation(2, "test")])}
    several = {str(number): curves([train(1), train(2), evaluation(2)]) for number in range(7)}
    for runs in (alone, several, {}):
        for panel in PANELS:
            svg = inline_svg(panel_picture(runs, panel, "epoch", "inline"), "x", "x")
            assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == []
            assert set(re.findall(r"var\(--([a-z]+)\)", svg)) <= set(COLOURS.values())


def test_a_large_confusion_is_a_picture_with_its_pixels_within():
    import numpy

    classes = 60
    counts = numpy.eye(classes, dtype=numpy.int64) * 9
    counts[0, 1] = 1
    svg = inline_svg(confusion_picture(counts, [str(k) for k in range(classes)], "inline"), "c", "Confusion")
    (image,) = Page(svg).every("image")
    assert str(image["href"]).startswith("data:image/png;base64,")
    assert " " not in str(image["href"])


def test_a_small_confusion_names_its_classes_letter_by_letter():
    import numpy

    names = ["cat", "$x_1$", "<b>"]
    svg = inline_svg(confusion_picture(numpy.eye(3, dtype=numpy.int64), names, "inline"), "c", "Confusion")
    texts = Page(svg).texts
    assert [texts.count(name) for name in names] == [2, 2, 2]
