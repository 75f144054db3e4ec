"""`residual explain`: a picture for every image, named by number and file; refusals."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

import residual
from residual.errors import UsageError
from tests.analysis.test_figures import picture_size
from tests.cli.conftest import only_error
from tests.data.photographs import encoded, picture


def test_every_image_gets_its_picture(say, finished, here):
    (here / "in").mkdir()
    for number, name in enumerate(("a.png", "ä b$.png")):
        (here / "in" / name).write_bytes(encoded(picture(number, size=(30, 50))))
    said = say("explain", "run", "in", "in/a.png", "--out", "out", "--top-k", 2)
    assert (said.code, said.err) == (0, "")
    names = ["001-a.png", "002-__b_.png", "003-a.png"]
    assert sorted(path.name for path in (here / "out").iterdir()) == names
    assert all(picture_size(here / "out" / name)[0] > 500 for name in names)
    rows = json.loads(say("explain", "run", "in/a.png", "--out", "out", "--json").out)
    (told,) = json.loads(say("predict", "run", "in/a.png", "--format", "json").out)
    assert [one["class"] for one in rows[0]["predictions"]] == [one["class"] for one in told["predictions"]]
    assert said.out.startswith(f"out/001-a.png: {told['predictions'][0]['class']} ".replace("/", said.out[3]))


def test_what_cannot_be_read_is_told_after_the_others(say, finished, here):
    (here / "good.png").write_bytes(encoded(picture(0)))
    (here / "bad.png").write_bytes(b"no image")
    said = say("explain", "run", "bad.png", "good.png", "--out", "out")
    assert said.code == 3
    assert "1 of 2 images" in only_error(said)
    assert [path.name for path in (here / "out").iterdir()] == ["002-good.png"]


def test_without_out_the_pictures_stand_in_a_folder_named_after_the_run(say, finished, here):
    (here / "a.png").write_bytes(encoded(picture(0)))
    assert say("explain", "last", "a.png").code == 2  # there is no last run: nothing is in runs/
    assert say("explain", "run", "a.png").code == 0
    (drawn,) = (here / "run-explained").iterdir()
    again = say("explain", "run", "a.png")
    assert (again.code, again.err.count("\n")) == (0, 1)
    assert "001-a.png of an earlier call will be replaced" in again.err
    drawn.write_bytes(encoded(picture(1)))
    other = say("explain", "run", "a.png")
    assert other.code == 2
    assert "something else stands there" in only_error(other)
    assert drawn.read_bytes() == encoded(picture(1))


def test_what_is_explained_is_had_from_python(finished, here):
    (here / "a.png").write_bytes(encoded(picture(0)))
    found = residual.explain("run", ["a.png", Image.open("a.png")], top_k=2)
    assert [one.answers for one in found] == [found[0].answers] * 2
    assert found[0].maps.shape == (2, *found[0].pixels.shape[1:])
    (alone,) = residual.explain("run", "a.png", top_k=2)
    assert [name for name, _ in alone.answers] == [name for name, _ in found[0].answers]


def test_a_class_that_is_named_is_explained_whatever_comes_first(say, refused, finished, here):
    (here / "a.png").write_bytes(encoded(picture(0)))
    order = [name for name, _ in residual.predict("run", "a.png", top_k=99)[0].best]
    (whole,) = residual.explain("run", "a.png", top_k=len(order))
    (last,) = residual.explain("run", "a.png", classes=order[-1])
    assert last.answers == whole.answers[-1:]
    assert torch.equal(last.maps, whole.maps[-1:])
    (two,) = residual.explain("run", "a.png", classes=[order[-1], order[0], order[-1]])
    assert two.answers == (whole.answers[-1], whole.answers[0])
    said = say("explain", "run", "a.png", "--class", order[-1], "--class", order[0], "--out", "out", "--json")
    assert [one["class"] for one in json.loads(said.out)[0]["predictions"]] == [order[-1], order[0]]
    refused(2, ["explain", "run", "a.png", "--class", f"{order[0]}x"], "there is no class", "(--class)", order[0])
    with pytest.raises(UsageError, match=r"there is no class 'kat' \(classes\): "):
        residual.explain("run", "a.png", classes="kat")
    with pytest.raises(UsageError, match="no class is named"):
        residual.explain("run", "a.png", classes=[])


def test_refusals(refused, finished, here):
    (here / "a.png").write_bytes(encoded(picture(0)))
    refused(2, ["explain", "run", "--out", "out"], "no image was named")
    refused(2, ["explain", "a.png"], "the first word is the run", "residual explain last a.png")
    refused(2, ["explain", "run", "a.png", "--out", "a.png"], "not a folder")
    refused(2, ["explain", "run", "a.png", "--out", "out", "--top-k", "0"], "top-k is 0")
    refused(3, ["explain", "run", "gone.png", "--out", "out"], "gone.png")
