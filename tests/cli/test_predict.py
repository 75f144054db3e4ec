"""`residual predict`: its first word, its forms of output, its files, its temperature; and `last` by its name."""

from __future__ import annotations

import csv
import io
import json
import os
import sys

import pytest
from rich.console import Console

from residual.cli.predict import _table
from residual.evaluation.predicting import Prediction
from tests.cli.conftest import SIX, few_figures, only_error
from tests.data.photographs import encoded, photographs, picture


@pytest.fixture
def image(here):
    (here / "a.png").write_bytes(encoded(picture(0)))
    return "a.png"


def test_json_is_a_synonym(say, refused, finished, image):
    wanted = say("predict", "run", image, "--format", "json")
    assert say("predict", "run", image, "--json").out == wanted.out
    assert json.loads(wanted.out)[0]["file"] == image
    assert say("predict", "run", image, "--json", "--format", "json").code == 0
    refused(2, ["predict", "run", image, "--json", "--format", "csv"], "--json and --format csv")


def test_csv_has_a_row_for_what_cannot_be_read(say, finished, image, here):
    (here / "broken.png").write_bytes(b"no image")
    said = say("predict", "run", image, "broken.png", "--format", "csv", "--top-k", 2)
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert said.code == 3
    assert [(row["file"], row["rank"]) for row in rows] == [(image, "1"), (image, "2"), ("broken.png", "")]
    assert [bool(row["error"]) for row in rows] == [False, False, True]


def test_patterns_and_names_from_standard_input(say, refused, finished, here, monkeypatch):
    for name in ("b.png", "a.png", ".hidden.png", "c.jpg.txt"):
        (here / name).write_bytes(encoded(picture(0)))
    (here / "[odd].png").write_bytes(encoded(picture(1)))
    found = json.loads(say("predict", "run", "*.png", "--json").out)
    assert [one["file"] for one in found] == ["[odd].png", "a.png", "b.png"]
    assert json.loads(say("predict", "run", "[odd].png", "--json").out)[0]["file"] == "[odd].png"
    refused(3, ["predict", "run", "*.webp"], "fits this pattern", "*.webp")
    refused(3, ["predict", "run", ".h*.png"], "fits this pattern")
    (here / "p" / "c").mkdir(parents=True)
    for name in ("p/a.png", "p/c/b.png"):
        (here / name).write_bytes(encoded(picture(0)))
    for pattern in ("p/**", "p/**/*.png", "p*"):
        found = json.loads(say("predict", "run", pattern, "--json").out)
        assert [one["file"] for one in found] == ["p/a.png", "p/c/b.png"], pattern
    monkeypatch.setattr("sys.stdin", io.StringIO("b.png\n\na.png\r\n"))
    found = json.loads(say("predict", "run", "[odd].png", "-", "--json").out)
    assert [one["file"] for one in found] == ["[odd].png", "b.png", "a.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    refused(2, ["predict", "run", "-"], "no image was named on standard input")
    refused(2, ["predict", "run", "-", "-"], "read once")


@pytest.mark.skipif(sys.platform == "win32", reason="names of bytes are of Linux")
def test_names_of_any_bytes_and_a_closed_standard_input(start, finished, image, here):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        (here / name).write_bytes(encoded(picture(0)))
    except OSError:
        pytest.skip("this disk has no such names")
    (here / "names").write_bytes(b"caf\xe9.png\na.png\n")
    with (here / "names").open("rb") as names:
        said = start("predict", "run", "-", "--json", stdin=names, env={"PYTHONIOENCODING": "utf-8:strict"}).end()
    assert said.code == 0, said.err
    assert [one["file"] for one in json.loads(said.out)] == [name, "a.png"]


def test_an_image_in_the_place_of_the_run_is_told(refused, finished, image):
    for verb in ("predict", "explain", "export"):
        refused(2, [verb, image], "the first word is the run", f"residual {verb} last a.png")
    refused(2, ["predict", image, image], "the first word is the run")
    refused(2, ["predict", "typo.jpg"], "the first word is the run")
    refused(2, ["predict", "run"], "no image was named")


def test_where_nothing_could_be_read_there_is_no_table(say, finished, here):
    (here / "notes.txt").write_text("mine")
    said = say("predict", "run", "notes.txt")
    assert (said.code, said.out) == (3, "")
    assert "1 of 1 images" in only_error(said)


@pytest.mark.parametrize(
    ("option", "ours", "words"),
    [("--picture", "p.png", "another place with --picture"), ("--embeddings", "e.npz", "another place with --emb")],
)
def test_only_its_own_files_are_replaced(say, refused, finished, here, image, option, ours, words):
    assert say("predict", "run", image, option, ours).err == ""
    again = say("predict", "run", image, option, ours)
    assert (again.code, again.err) == (0, f"info: {ours} of an earlier call will be replaced\n")
    (here / ours).write_bytes(b"mine")
    refused(2, ["predict", "run", image, option, ours], "something else stands there", words)


def test_a_place_of_no_use_is_told_before_anything_is_computed(refused, finished, image, monkeypatch):
    from residual.evaluation.classifier import Classifier

    monkeypatch.setattr(Classifier, "logits", None)
    refused(2, ["predict", "run", image, "--picture", "p.jpg"], "no picture format '.jpg'")
    refused(2, ["predict", "run", image, "--picture", image], "something else stands there")
    refused(5, ["predict", "run", image, "--picture", f"{image}/p.png"], "a file stands where", "--picture")
    refused(2, ["evaluate", "run", "--predictions", image], "let the name end in")


def test_answers_and_figures_of_an_evaluation_are_kept_apart(say, refused, finished, here):
    assert say("evaluate", "run", "--predictions", "a.npz", "--figures", "album").code == 0
    assert say("evaluate", "run", "--predictions", "a.npz", "--figures", "album").err.count("earlier call") == 2
    (here / "album" / "confusion.png").write_bytes(encoded(picture(0)))
    refused(2, ["evaluate", "run", "--figures", "album"], "something else stands there", "--figures")
    (here / "a.npz").write_bytes(b"mine")
    refused(2, ["evaluate", "run", "--predictions", "a.npz"], "something else stands there", "--predictions")


def test_a_temperature_is_used(say, refused, finished, image):
    shares = [
        json.loads(say("predict", "run", image, "--json", *more).out)[0]["predictions"][0]["probability"]
        for more in ([], ["--temperature", 1], ["--temperature", 5])
    ]
    assert shares[0] == shares[1] > shares[2]
    said = say("predict", "run", image, "--temperature", "calibrated")
    assert said.code == 0
    assert "fitted on 10 validation images" in said.err
    refused(2, ["predict", "run", image, "--temperature", "cold"], "'cold' is no temperature")
    refused(2, ["predict", "run", image, "--temperature", "0"], "the temperature is 0")
    refused(2, ["predict", "run", image, "--temperature", "1e-50"], "the temperature is 1e-50")  # 0 in float32
    assert "--temperature calibrated" in say("evaluate", "run", "--calibrate").out


def test_the_last_run_has_its_name_in_every_table(say, finished, here, monkeypatch):
    monkeypatch.setenv("RESIDUAL_RUNS", str(here))
    said = say("evaluate", "last")
    assert said.code == 0
    assert "last" not in said.out
    assert said.out.startswith("run at step 6 on digits")


def test_nothing_is_written_into_a_model_folder(say, refused, finished, image, here):
    photographs(here / "photos")
    inside = finished / "model"
    words = ("a sealed folder takes no further file", "run/model")
    refused(2, ["predict", "run", image, "--picture", inside / "p.png"], *words, "--picture")
    refused(2, ["predict", "run", image, "--embeddings", inside / "e.npz"], *words, "--embeddings")
    refused(2, ["explain", "run", image, "--out", inside / "maps"], *words, "--out")
    refused(2, ["evaluate", "run", "--predictions", inside / "a.npz"], *words, "--predictions")
    refused(2, ["evaluate", "run", "--figures", inside / "album"], *words, "--figures")
    refused(2, ["report", "run", "--out", inside / "r.html"], *words, "--out")
    refused(2, ["report", "run", "--out", "r.html", "--figures", inside], *words, "--figures")
    refused(2, ["export", "run", "--to", "safetensors", "--out", inside / "x.safetensors"], *words, "--out")
    refused(2, [*SIX, "--out", inside / "new" / "run"], *words, "--out")
    refused(2, ["data", "pack", here / "photos", inside / "p.pack"], *words, "name another place")
    refused(2, ["card", inside, "--out", inside / "README.md"], *words, "--out")
    assert say("export", "run", "--to", "safetensors", "--out", "x.safetensors").code == 0
    refused(2, ["import", "x.safetensors", "--to", inside / "sub"], *words, "--to")


def test_no_picture_is_drawn_among_the_images(say, refused, finished, here):
    photographs(here / "photos", count=8)
    words = "a picture would lie among the images"
    refused(2, ["predict", "run", "photos", "--picture", "photos/seen.png"], words, "--picture")
    refused(2, ["explain", "run", "photos/", "--out", "photos/maps"], words, "--out")
    changes = ("network.name=resnet-8", "network.widths=[4,4,4]", "batch_size=6", "data.image_size=24")
    settings = [token for change in (*changes, "compute.threads=1") for token in ("--set", change)]
    assert say("train", "photos/", *settings, "--set", "steps=2", "--log", "plain", "--out", "own").code == 0
    (kind, *_) = sorted(path for path in (here / "photos").iterdir() if path.is_dir())
    (one, *_) = sorted(kind.iterdir())
    refused(2, ["evaluate", "own", "--figures", kind], words, "--figures")
    refused(2, ["report", "own", "--out", "r.html", "--figures", kind], words, "--figures")
    refused(2, ["predict", "own", one, "--picture", kind / "seen.png"], words, "--picture")
    refused(2, ["explain", "own", one, "--out", kind], words, "--out")
    assert say("evaluate", "own", "--predictions", "a.npz").code == 0
    refused(2, ["evaluate", "--from-predictions", "a.npz", "--figures", kind], words, "--figures")


def test_only_what_is_written_is_said_to_be_replaced(say, finished, here, monkeypatch):
    few_figures(monkeypatch)
    (here / "in").mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        (here / "in" / name).write_bytes(encoded(picture(number)))
    assert say("explain", "run", "in", "--out", "out").err == ""
    said = say("explain", "run", "in/a.png", "--out", "out")
    assert said.err.splitlines() == [
        "info: out/001-a.png of an earlier call will be replaced",
        "info: out/002-b.png of an earlier call stays as before: this call does not write such",
    ]
    assert say("evaluate", "run", "--figures", "album").err == ""
    (here / "album" / "confusion.png").rename(here / "album" / "confusion-2.png")
    assert say("evaluate", "run", "--figures", "album").err.splitlines() == [
        "info: album/reliability.png and 2 more of an earlier call will be replaced",
        "info: album/confusion-2.png of an earlier call stays as before: this call does not write such",
    ]
    said = say("report", "run", "--out", "r.html", "--figures", "album")
    assert said.err.splitlines() == [
        "info: album/confusion.png and 3 more of an earlier call will be replaced",
        "info: album/confusion-2.png of an earlier call stays as before: this call does not write such",
    ]


def test_long_names_of_classes_stay_whole(capsys, monkeypatch):
    names = [f"a class with a very long name, number {number}" for number in range(3)]
    monkeypatch.setattr("residual.cli.words.console", lambda: Console(width=60))
    _table([Prediction("a.png", tuple((name, 0.3) for name in names))])
    out = capsys.readouterr().out
    assert "…" not in out
    columns = zip(*(line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")), strict=True)
    found = ["".join("".join(cells).split()) for cells in columns]
    assert found[1:] == [f"{name.replace(' ', '')}(30.00%)" for name in names]


def test_pictures_tell_images_of_one_name_apart_and_are_told(say, finished, here):
    for folder in ("left", "right"):
        (here / folder).mkdir()
        (here / folder / "a.png").write_bytes(encoded(picture(len(folder))))
    said = say("predict", "run", "left/a.png", "right/a.png", "--picture", "p.svg", "--embeddings", "e.npz")
    assert said.code == 0
    assert said.out.splitlines()[-2:] == ["embeddings  e.npz", "picture  p.svg"]
    drawn = (here / "p.svg").read_text()
    assert "left/a.png" in drawn
    assert "right/a.png" in drawn
    assert json.loads(say("predict", "run", "left/a.png", "--picture", "q.svg", "--json").out)


def test_shares_of_two_classes_are_those_that_say_something(say, here):
    photographs(here / "photos", ("cat", "dog"), count=8)
    changes = ("network.name=resnet-8", "network.widths=[4,4,4]", "batch_size=6", "data.image_size=24")
    settings = [token for change in (*changes, "compute.threads=1") for token in ("--set", change)]
    said = say("train", "photos/", *settings, "--set", "steps=2", "--log", "plain", "--out", "own")
    (head,) = [line for line in said.out.splitlines() if "split" in line and "loss" in line]
    assert "top-1" in head
    assert "top-3" not in head
    said = say("evaluate", "own")
    assert said.out.count(" points") == 1  # the calibration error, as the report has it
    assert say("report", "own", "--out", "r.html").code == 0
    page = (here / "r.html").read_text(encoding="utf-8")
    assert "there are no test images" in page
    assert "test images not looked at" not in page


def test_what_cannot_be_read_stands_in_the_json(say, finished, here):
    (here / "good.png").write_bytes(encoded(picture(1)))
    (here / "bad.png").write_bytes(b"no image")
    said = say("predict", "run", "good.png", "bad.png", "--json")
    assert said.code == 3
    good, bad = json.loads(said.out)
    assert (good["file"], "error" in good) == ("good.png", False)
    assert (bad["file"], bad["predictions"]) == ("bad.png", [])
    assert bad["error"]
