"""`residual explain`: a picture for every image, named by number and file; refusals."""

from __future__ import annotations

import json

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


def test_refusals(refused, finished, here):
    (here / "a.png").write_bytes(encoded(picture(0)))
    refused(2, ["explain", "run", "--out", "out"], "no image was named")
    refused(2, ["explain", "run", "a.png"], "--out needs a value")
    refused(2, ["explain", "run", "a.png", "--out", "a.png"], "not a folder")
    refused(2, ["explain", "run", "a.png", "--out", "out", "--top-k", "0"], "top-k is 0")
    refused(3, ["explain", "run", "gone.png", "--out", "out"], "gone.png")
