"""A folder that has grown is divided anew: what is judged now may have trained the weights a run begins from."""

from __future__ import annotations

import shutil

import pytest

from residual.errors import DataError
from residual.evaluation.use import load
from residual.export.card import card
from residual.runs.folder import RunFolder, find_run
from residual.training.extending import extend
from residual.training.train import train
from tests.data.photographs import fill, photographs

SMALL = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "steps": 1, "batch_size": 8}
SHARES = {"data.validation": 0.2, "data.test": 0.2}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder of photographs and a run on it."""
    place = tmp_path_factory.mktemp("grown")
    root = photographs(place / "photos", ["cat", "dog"], 20)
    return train("photos", set={**SMALL, **SHARES, "data.path": str(root)}, out=place / "one").path, root


def seen(run, other):
    """How many of the images that a run judges another was trained on, counted by their files."""
    trained = set(RunFolder(other).split()["files"]["training"])
    files = RunFolder(run).split()["files"]
    return {part: len(trained & set(files[part])) for part in ("validation", "test")}


def test_images_that_have_trained_the_weights_are_told(first, tmp_path, caplog):
    one, root = first
    grown = shutil.copytree(root, tmp_path / "photos")
    for colour, name in enumerate(("cat", "dog")):
        fill(grown / name, 10, colour, 100)
    settings = {"steps": 1, "batch_size": 8, **SHARES, "data.path": str(grown), "start.weights": str(one)}
    run = train("photos", set=settings, out=tmp_path / "two")
    counts = seen(run.path, one)
    assert min(counts.values()) > 0
    facts = run.facts()
    assert facts["start"]["seen"] == counts
    lines = [message for message in caplog.messages if "have trained the weights that the run begins from" in message]
    told = [f"{counts[part]} of the {count} {part}" for part, count in (("validation", 10), ("test", 12))]
    assert [line.split(" images")[0] for line in lines] == told
    text = card(load(run.path), "two", run.result())
    assert f"- {counts['test']} of the test images have trained the weights that it began from" in text


def test_the_same_folder_is_divided_as_before_and_nothing_is_told(first, tmp_path, caplog):
    one, root = first
    settings = {"steps": 1, "batch_size": 8, **SHARES, "data.path": str(root), "start.weights": str(one / "model")}
    run = train("photos", set=settings, out=tmp_path / "two")
    assert seen(run.path, one) == {"validation": 0, "test": 0}
    assert "seen" not in run.facts()["start"]
    assert "have trained the weights" not in caplog.text


def test_a_run_whose_folder_has_changed_is_not_extended_and_none_is_begun(first, tmp_path, monkeypatch):
    _, root = first
    grown = shutil.copytree(root, tmp_path / "photos")
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    train("photos", set={**SMALL, "data.path": str(grown)}, out=tmp_path / "runs" / "short")
    fill(grown / "cat", 1, 0, 100)
    with pytest.raises(DataError, match=r"not the one the run began with: 'cat/100.jpg' new"):
        extend(tmp_path / "runs" / "short", "9steps")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["short"]
    assert find_run("last").name == "short"
