"""`residual evaluate`: protocols, ensembles, files of answers, refusals before any work."""

from __future__ import annotations

import json
import shutil

import pytest

import residual
from residual.cli.main import run
from residual.evaluation.protocols import scaled
from tests.analysis.test_figures import picture_size
from tests.cli.conftest import TINY
from tests.data.photographs import photographs


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "run"
    assert run([*TINY, "--set", "steps=3", "--seed", "5", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def second(other, here):
    shutil.copytree(other, here / "second")
    return "second"


def test_the_protocol_stands_beside_every_figure(say, finished):
    plain = json.loads(say("evaluate", "run", "--json").out)
    assert plain["protocol"] == "1-crop"
    for protocol in ("10-crop", "multi-scale"):
        value = json.loads(say("evaluate", "run", "--protocol", protocol, "--json").out)
        assert (value["protocol"], value["views"], value["average"]) == (protocol, 10, "probabilities")
        assert value["words"].startswith(protocol)
        assert value["images"] == 359
        assert value["loss"] != plain["loss"]
        low, high = value["intervals"]["top1"]
        assert low < value["top1"] < high
        assert value["errors"]["top1"] == pytest.approx(1 - value["top1"])
    said = say("evaluate", "run", "--protocol", "10-crop", "--average", "logits")
    assert said.code == 0
    assert said.err == (
        "warning: 10-crop looks at mirror images, and run was trained without any: its figures may be worse than those "
        "of 1-crop\n"
    )
    assert say("evaluate", "run").err == ""
    tables = [line for line in said.out.splitlines() if "10-crop" in line]
    assert len(tables) == 6  # head, protocol in full, and four tables
    assert "logits averaged" in said.out
    assert "Wilson" in said.out


def test_members_and_ensemble_stand_side_by_side(say, finished, second):
    said = say("evaluate", "run", second, "--calibrate")
    assert said.code == 0
    value = json.loads(say("evaluate", "run", second, "--json").out)
    assert [member["place"] for member in value["members"]] == ["run", "second"]
    for one, name in zip([*value["members"], value["ensemble"]], ["run", "second", "ensemble of 2"], strict=True):
        (row,) = [line for line in said.out.splitlines() if line.split("│")[1:2] and "top-1 " in line and name in line]
        assert f"{100 * one['top1']:.2f} %" in row
        assert f"{100 * one['errors']['top1']:.2f} %" in row
    pair, *with_the_whole = value["paired"]
    assert [(one["first"], one["second"]) for one in with_the_whole] == [
        ("run", "ensemble of 2"),
        ("second", "ensemble of 2"),
    ]
    assert 0 <= value["ensemble"]["means"]["auc"] <= 1
    assert 0 <= value["ensemble"]["brier"] <= 2
    assert "mean AUC" in said.out
    assert pair["both"] + pair["only_first"] + pair["only_second"] + pair["neither"] == 359
    assert f"{pair['exact']:.3g}" in said.out
    assert "McNemar" in said.out
    assert "temperature" in said.out


def test_answers_come_from_a_file_as_from_the_runs(say, finished, second, here):
    wanted = json.loads(say("evaluate", "run", second, "--json", "--predictions", "a.npz").out)
    shutil.rmtree("run")
    shutil.rmtree("second")
    said = say("evaluate", "--from-predictions", "a.npz", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == wanted
    logits = json.loads(say("evaluate", "--from-predictions", "a.npz", "--average", "logits", "--json").out)
    assert logits["ensemble"]["average"] == "logits"
    assert logits["ensemble"]["loss"] != wanted["ensemble"]["loss"]
    said = say("evaluate", "--from-predictions", "a.npz", "--figures", "drawn", "--predictions", "b.safetensors")
    assert said.code == 0
    names = {
        f"{name}-{place}.{kind}" for name in ("confusion", "reliability") for place in "123" for kind in ("png", "svg")
    }
    assert {path.name for path in (here / "drawn").iterdir()} == names
    assert min(picture_size(here / "drawn" / "reliability-3.svg")) > 100
    assert json.loads(say("evaluate", "--from-predictions", "b.safetensors", "--json").out) == wanted


def test_photographs_are_judged_at_other_sizes(say, here):
    photographs(here / "photos", count=8)
    changes = ("network.name=resnet-8", "network.widths=[4,4,4]", "batch_size=6", "data.image_size=24")
    settings = [token for change in (*changes, "compute.threads=1") for token in ("--set", change)]
    assert say("train", "photos/", *settings, "--set", "steps=2", "--log", "plain", "--out", "run").code == 0
    value = json.loads(say("evaluate", "run", "--protocol", "10-crop", "--json").out)
    assert f"resized to a shorter side of {scaled((24, 24), 256)[0]}" in value["words"]
    assert say("evaluate", "run", "--protocol", "multi-scale", "--json").code == 0
    report = residual.evaluate("run", protocol="10-crop")
    assert report.evaluation.scores["loss"] == value["loss"]
    assert [one["image"].split("/")[0] for one in value["most_wrong"]] == [
        report.class_names[one["true"]] for one in value["most_wrong"]
    ]


def test_the_same_network_twice_is_no_ensemble(say, refused, finished, second, here):
    words = "they are one network"
    refused(2, ["evaluate", "run", second, "run/model"], words, "run, run/model")
    shutil.copytree("run", "copy")
    refused(2, ["evaluate", "run", "copy"], words, "run, copy")
    assert say("evaluate", "run", second, "--predictions", "a.npz").code == 0
    assert say("evaluate", "copy", "--predictions", "b.npz").code == 0
    refused(2, ["evaluate", "--from-predictions", "a.npz", "b.npz"], words, "run, copy")


def test_answers_are_written_as_a_table_over_one_of_before_and_nothing_else(say, refused, finished, second, here):
    for words, rows in ((["run"], 1), (["run", second], 3)):
        said = say("evaluate", *words, "--predictions", "answers.csv")
        assert said.code == 0
        images = json.loads(say("evaluate", "run", "--json").out)["images"]
        assert len((here / "answers.csv").read_text().splitlines()) == 1 + rows * images
    (here / "mine.csv").write_text("file,truth\n")
    refused(2, ["evaluate", "run", "--predictions", "mine.csv"], "something else", "mine.csv")
    assert (here / "mine.csv").read_text() == "file,truth\n"
    refused(2, ["evaluate", "--from-predictions", "answers.csv"], "answers.csv", ".npz")


def test_refusals(refused, finished, second, here):
    refused(2, ["evaluate", "run", "run"], "named twice")
    refused(2, ["evaluate", "run", second, "--protocol", "12-crop"], "12-crop")
    refused(2, ["evaluate", "run", "--predictions", "a.txt"], "a.txt", ".npz", ".csv")
    refused(2, ["evaluate", "run", "--from-predictions", "a.npz"], "a run cannot change", "--from-predictions")
    refused(2, ["evaluate", "--from-predictions", "a.npz", "--split", "test", "--calibrate"], "--split and --calibrate")
    refused(3, ["evaluate", "--from-predictions", "a.npz"], "no such file", "a.npz")
    refused(2, ["evaluate", "run", "--calibrate", "--split", "validation"], "never judged", "--calibrate")
    refused(2, ["evaluate", "run", "--figures", "run/run.json"], "not a folder")
    (here / "a.npz").write_bytes(b"PK\x03\x04")
    refused(3, ["evaluate", "--from-predictions", "a.npz"], "not a file of predictions")
    refused(2, ["evaluate", "run", "nosuch"], "nosuch", "residual runs")
