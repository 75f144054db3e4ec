"""`residual models` and `residual predict --embeddings`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from residual.models import NETWORKS, NetworkSpec, find, matching

SHORTCUTS = ["none", "A", "A-both", "B", "C", "avgpool"]


def test_every_row_of_the_list_and_its_wildcards(say):
    rows = json.loads(say("models", "resnet-3*", "--json").out)
    assert [(row["name"], row["shortcut"]) for row in rows] == [
        (entry.name, shortcut) for entry in matching("resnet-3*") for shortcut in entry.shortcuts
    ]
    errors = {(row["name"], row["shortcut"]): row["error"] for row in rows}
    assert errors["resnet-34", "C"].startswith("24.19/7.40 (")
    assert errors["resnet-32", "B"] is None
    table = say("models", "resnet-3*").out
    assert table.count("resnet-34") == 3
    assert "25.03/7.76" in table
    assert "resnet-20" not in table


def test_any_combination_is_printed_back_in_full_and_builds_again(say):
    parts = ["shortcut=A-both", "stride=3x3", "unit=bottleneck", "order=full-pre-activation", "gate=exclusive"]
    arguments = [text for part in parts for text in ("--set", part)]
    said = json.loads(say("models", "resnet20", *arguments, "--json", "--classes", 200).out)
    spec = NetworkSpec.model_validate(said["network"])
    assert spec.model_dump(mode="json") == said["network"]
    assert all(said["network"][name] == value for name, value in (part.split("=") for part in parts))
    assert (spec.classes, spec.projection_norm) == (200, False)
    assert said["error"] is None
    shown = say("models", "resnet20", *arguments).out
    assert 'gate = "exclusive"' in shown
    assert "MB an image" in shown


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_none_is_a_kind_and_not_an_absence(say, shortcut):
    said = json.loads(say("models", "resnet-8", "--set", f"shortcut={shortcut}", "--json").out)
    assert said["shortcut"] == shortcut


def test_an_image_size_chooses_the_stem(say):
    stems = {}
    for size in (32, 64, 224):
        said = json.loads(say("models", "resnet-18", "--json", "--image-size", size).out)
        stems[size] = (said["stem"], said["error"] is None)
    assert stems == {32: ("3x3", True), 64: ("3x3/2", True), 224: ("7x7", False)}
    chosen = ("models", "resnet-18", "--json", "--image-size", 64, "--set", "stem=7x7")
    assert json.loads(say(*chosen).out)["stem"] == "7x7"
    assert json.loads(say("models", "resnet-20", "--json", "--image-size", 64).out)["error"] is None


def test_all_faults_at_once_each_with_the_nearest_value(refused):
    parts = ["stm=7x7", "unit=bottlneck", "order=full", "dropout=true", "shortcut=a", "widths=[0]", "depths=[1,2]", "x"]
    parts += ["conv_bias=flase", "stride_unit=lst"]
    arguments = ["models", "resnet-20", *(text for part in parts for text in ("--set", part))]
    refused(
        2,
        arguments,
        "did you mean stem?",
        "did you mean bottleneck?",
        "conv_bias is 'flase': no such kind; did you mean false?",
        "did you mean last?",
        "did you mean full-pre-activation?",
        "dropout is True: must be a number",
        "shortcut is 'a': no such kind; did you mean A?",
        "widths.0 is 0: must be greater than or equal to 1",
        "depths has 2 stages, widths 3",
        "'x' has no form part=value",
    )


def test_what_makes_no_sense_together_is_refused(refused):
    refused(2, ["models", "resnet-20", "--set", "shortcut=none", "--set", "gate=exclusive"], "without shortcuts")
    refused(2, ["models", "resnet-20", "--set", "stride=3x3"], "no 1x1")
    refused(2, ["models", "resnet-*", "--explain"], "--explain needs the name of a network")
    refused(2, ["models", "resnet-2*", "--set", "shortcut=B"], "--set needs the name of a network")
    refused(2, ["models", "alexnet*"], "no network is named like")


def test_explain(say):
    said = say("models", "resnet-50-v1.5", "--explain", "--set", "zero_last_scale=true").out
    assert "departs from the paper's resnet-50 ([1] table 1):" in said
    assert '  stride: "1x1" there, "3x3" here; ' in said
    assert "  zero_last_scale: false there, true here; each unit starts as the identity" in said
    facts = json.loads(say("models", "resnet-110", "--explain", "--json").out)["explanation"]
    assert facts["departures"] == []
    assert any("until the training error is below 80 %" in line for line in facts["known"])
    assert facts["error"].startswith("6.43")


def test_training_says_the_stem_and_the_multiply_adds(say, here):
    said = say("train", "digits", "--set", "network.name=resnet-18", "--set", "network.widths=[2,2,2,2]", "--set",
               "steps=1", "--out", "run", "--set", "compute.threads=1")  # fmt: skip
    assert said.code == 0
    counted = json.loads((here / "run" / "run.json").read_text(encoding="utf-8"))["counted"]
    line = f"3x3 stem, stride 1, no pooling for images of 32 x 32 pixels: {counted['multiply_adds']:,} multiply-adds"
    assert line in said.out
    assert counted["image_size"] == [32, 32]


def test_predict_writes_what_the_network_embeds(say, refused, finished: Path, here: Path):
    for number in range(3):
        Image.fromarray(np.full((8, 8), 80 * number, np.uint8)).save(here / f"{number}.png")
    (here / "bad.png").write_bytes(b"no image")
    said = say("predict", finished, "0.png", "1.png", "2.png", "--embeddings", "e.npz")
    assert said.code == 0
    with np.load(here / "e.npz") as file:
        assert file["files"].tolist() == ["0.png", "1.png", "2.png"]
        assert file["features"].shape == (3, 4)
        assert len(np.unique(file["features"], axis=0)) == 3
        first = file["features"][0]
    said = say("predict", finished, "bad.png", "0.png", "--embeddings", "some.npz")
    assert said.code == 3
    with np.load(here / "some.npz") as file:
        assert file["files"].tolist() == ["0.png"]
        np.testing.assert_allclose(file["features"][0], first, rtol=1e-4, atol=1e-5)
    refused(2, ["predict", finished, "0.png", "--embeddings", "e.txt"], ".safetensors or .npz")


def test_the_list_is_complete(say):
    rows = json.loads(say("models", "--json").out)
    assert {row["name"] for row in rows} == set(NETWORKS)
    sizes = {row["name"]: row["image_size"] for row in rows}
    assert all(size == find(name).image_size for name, size in sizes.items())


def test_a_recipe_may_take_the_shortcuts_away(say, here):
    said = say("train", "digits", "--set", "network.shortcut=none", "--set", "network.name=resnet-8", "--set",
               "network.widths=[2,2,2]", "--set", "steps=1", "--out", "run", "--set", "compute.threads=1")  # fmt: skip
    assert said.code == 0
    facts = json.loads((here / "run" / "run.json").read_text(encoding="utf-8"))
    assert facts["network"]["shortcut"] == facts["recipe"]["network"]["shortcut"] == "none"
