"""The page: well formed, loading nothing, readable in light and dark, and saying what the report says."""

from __future__ import annotations

import dataclasses
import re
from importlib.resources import files
from itertools import combinations, pairwise
from urllib.parse import urlparse

import pytest
import torch

from residual.analysis.elements import number, percent, visible
from residual.analysis.page import page
from residual.analysis.report import judge, read_report
from residual.analysis.style import PALETTE
from residual.data.source import MemorySource
from residual.evaluation.predictions import Predictions
from tests.analysis.reading import Page
from tests.analysis.seeing import EYES, distance, lab

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' style='display:none",
    "--><svg onload=alert(1)>",
    "</td></table></style>",
    "javascript:alert(1)",
    "https://evil.example/x.png",
    "&lt;b&gt; $x_1^{2$",
    "a\nb\x00\u202e\ud800",
    "é" * 255,
]


@pytest.fixture(scope="module")
def data(trained, tmp_path_factory):
    import shutil

    from residual.runs.folder import RunFolder

    copy = RunFolder(shutil.copytree(trained, tmp_path_factory.mktemp("copy") / "run"))
    return read_report([copy])


@pytest.fixture(scope="module")
def plain(data):
    """The page of the report; drawing one takes seconds."""
    return page(data)


def read(report):
    return Page(page(report).decode())


def with_judged(data, names, **changes):
    """The report with other classes, 4 images of each, half of them answered wrongly."""
    classes = len(names)
    labels = torch.arange(4 * classes) % classes
    logits = torch.nn.functional.one_hot(torch.where(torch.arange(4 * classes) % 2 == 0, labels, labels // 2), classes)
    source = MemorySource(torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels)
    given = Predictions("test", 12, "cpu", 3.0 * logits.float(), labels, torch.arange(len(labels)))
    judged, _ = judge(given, names, source, [f"{names[0]}/{n}.png" for n in range(len(labels))])
    (run,) = data.runs
    run = dataclasses.replace(run, judged=judged, data={**run.data, "class_names": list(names)}, **changes)
    return dataclasses.replace(data, runs=(run,))


def check_page(found):
    """What holds for every page."""
    identifiers = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for tag, attributes in found.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form", "animate", "foreignobject")
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert "url(" not in str(value) or "url(#" in str(value)
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                assert urlparse(str(value)).scheme in ("", "data"), value
                assert str(value).startswith(("#", "data:image/png;base64,")), value
    links = {str(link["href"])[1:] for link in found.every("a")}
    assert links <= set(identifiers)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(image["alt"] for image in found.every("img"))
    assert all(head["scope"] in ("row", "col") for head in found.every("th"))
    (policy,) = [m["content"] for m in found.every("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "script" not in str(policy)


def test_the_page_says_what_the_report_says(data, plain):
    found = Page(plain.decode())
    check_page(found)
    (run,) = data.runs
    judged = run.judged
    assert judged is not None
    rows = found.table("Share of images")[1:]
    assert [row[0] for row in rows] == ["training", "validation", "test", "test, evaluated for this report"]
    for row, figures in zip(rows, [*run.figures, judged.figures], strict=True):
        shares = [percent(s) for s in (figures.top1, figures.top3, figures.top5)]
        assert row[1:] == [f"{figures.images:,}", number(figures.loss), *shares]
    *classes, mean = found.table("Worst first")[1:]
    for row, one in zip(classes, judged.classes, strict=True):
        assert row[:5] == [one.name, str(one.images), *(percent(s, 1) for s in (one.precision, one.recall, one.f1))]
    assert mean[4] == percent(judged.means["f1"], 1)
    matrix = found.table("Images by true class")[1:]
    counts = [[0 if cell == "·" else int(cell) for cell in row[1:]] for row in matrix]
    assert counts == judged.confusion.tolist()
    settings = {
        f"{group}.{row[0]}": row[1:]
        for group in ("schedule", "compute")
        for row in found.tables[group]
        if len(row) == 3
    }
    assert settings["schedule.peak"] == ["0.2", "recipe digits"]
    assert settings["compute.device"][1].startswith("chosen: ")
    (sums,) = found.table("SHA-256")[1:]
    assert sums == list(*run.data["checksums"].items())
    assert run.command in "".join(found.texts)
    assert len(found.every("img")) == 2 * (len(judged.mistakes) + len(judged.examples))  # each with its map
    text = found.text().replace("\u00a0", " ")
    assert f"lie {100 * judged.calibration.error:.2f} points on average" in text
    assert "Bins of fewer than 20 answers are hollow" in text
    ends = [run.curves.series[f"{part} error"].values[-1] for part in ("training", "validation", "test")]
    assert "At the end: training {:.4g} %, validation {:.4g} %, test {:.4g} %".format(*ends) in text
    assert found.text().count("answered rightly and most surely") == 1


def test_the_same_report_gives_the_same_page(data, plain):
    assert page(data) == plain


def test_hostile_names_stay_text(data):
    hostile = with_judged(
        data,
        HOSTILE,
        name=HOSTILE[0],
        missing=tuple(HOSTILE[:-1]),
        command=HOSTILE[1],
        source=HOSTILE[3],
        recipe=HOSTILE[4],
    )
    hostile = dataclasses.replace(hostile, damaged={HOSTILE[1]: HOSTILE[0]})
    found, plain = read(hostile), read(with_judged(data, [str(k) for k in range(len(HOSTILE))]))
    check_page(found)
    assert {name for name, _ in found.elements} - {"li", "ul"} <= {name for name, _ in plain.elements}
    text = "".join(found.texts)
    for name in HOSTILE[:-1]:
        assert visible(name) in text
    assert "é" * 100 not in text
    titles = [attributes.get("title") for _, attributes in found.elements]
    assert "é" * 255 in titles


def test_many_classes_are_a_picture_and_a_long_table(data):
    found = read(with_judged(data, [f"class {k}" for k in range(200)]))
    check_page(found)
    assert len(found.table("Worst first")) == 1 + 200 + 1
    assert not any(caption.startswith("Images by true class") for caption in found.tables)
    assert len(found.every("image")) == 1
    assert len(found.table("The most frequent confusions")) > 5


def test_two_classes_have_no_top_3(data):
    found = read(with_judged(data, ["cat", "dog"]))
    check_page(found)
    assert found.table("Share of images")[-1][-2:] == ["–", "–"]


def test_several_runs_stand_beside_each_other(data):
    (run,) = data.runs
    gone = {"judged": None, "figures": (), "missing": ("Its model is gone.",)}
    other = dataclasses.replace(run, name="other", finished=False, step=3, **gone)
    both = dataclasses.replace(data, runs=(run, other), differences={"seed": [0, 5]}, damaged={"third": "cut"})
    found = read(both)
    check_page(found)
    overview = found.table("Final figures")
    assert [row[:3] for row in overview[1:]] == [["run", "finished", "12"], ["other", "not finished", "3"]]
    assert found.table("Settings whose values")[1:] == [["seed", "0", "5"]]
    for words in ("Its model is gone.", "this run is damaged: cut", "not finished: step 3 of 12"):
        assert words in found.text()
    assert sum(attributes.get("class") == "plot" for attributes in found.every("svg")) == 6 + 1  # and the reliability


def test_a_report_without_answers_is_a_page(data):
    (run,) = data.runs
    bare = dataclasses.replace(run, judged=None, figures=(), curves=type(run.curves)({}), parameters=None, seconds=None)
    check_page(read(dataclasses.replace(data, runs=(bare,))))


def colours(block):
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6}|\d+ \d+ \d+)", block))


def channels(colour):
    if colour.startswith("#"):
        return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return [int(part) for part in colour.split()]


def luminance(rgb):
    """WCAG 2.2, relative luminance."""
    parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def theme_colours(theme):
    css = files("residual.analysis").joinpath("page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return {name: channels(value) for name, value in colours(blocks[["light", "dark", "print"].index(theme)]).items()}


@pytest.mark.parametrize(
    ("one", "other", "apart"),  # of the table of Sharma, Wu and Dalal 2005
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ],
)
def test_distances_are_those_of_ciede2000(one, other, apart):
    assert distance(one, other) == pytest.approx(apart, abs=1e-4)


@pytest.mark.parametrize("eye", EYES)
@pytest.mark.parametrize("theme", ["light", "dark", "print", "files"])
def test_no_two_lines_have_colours_that_look_alike(theme, eye):
    """As far apart as 9, where 1 can just be seen."""
    if theme == "files":
        found = {colour: channels(colour) for colour in PALETTE}
    else:
        found = {name: theme_colours(theme)[name] for name in ("blue", "red", "green", "pink", "orange", "sky")}
    for one, other in combinations(found, 2):
        assert distance(lab(found[one], eye), lab(found[other], eye)) >= 9, (one, other)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_everything_can_be_told_from_its_ground(theme):
    found = theme_colours(theme)
    paper = found["paper"]
    for words in ("ink", "muted", "accent", "warn"):
        for ground in ("paper", "raised"):
            assert contrast(found[words], found[ground]) >= 4.5, (words, ground)
    assert contrast(found["ink"], found["warn-paper"]) >= 4.5
    assert contrast(found["warn"], found["warn-paper"]) >= 4.5
    for line in ("blue", "red", "green", "pink", "orange", "sky", "edge"):
        assert contrast(found[line], paper) >= 3, line
    for shade in ("right", "wrong"):  # a cell of the confusion matrix at its strongest
        mixed = [0.62 * a + 0.38 * b for a, b in zip(found[shade], paper, strict=True)]
        assert contrast(found["ink"], mixed) >= 4.5, shade
