"""`residual predict`: its first word, its forms of output, its files, its temperature; and `last` by its name."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import only_error
from tests.data.photographs import encoded, picture


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

    monkeypatch.setattr(Classifier, "probabilities", None)
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
    assert "--temperature calibrated" in say("evaluate", "run", "--calibrate").out


def test_the_last_run_has_its_name_in_every_table(say, finished, here, monkeypatch):
    monkeypatch.setenv("RESIDUAL_RUNS", str(here))
    said = say("evaluate", "last")
    assert said.code == 0
    assert "last" not in said.out
    assert said.out.startswith("run at step 6 on digits")
