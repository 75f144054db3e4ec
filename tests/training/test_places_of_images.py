"""Where the images of a run are: the same from any folder, and never others than it was trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from residual.cli.main import run as command
from residual.errors import UsageError
from residual.studies.seeds import study_seeds, usual_place
from residual.training.recipes import find_recipe
from residual.training.train import resume, train
from tests.data.photographs import photographs

SMALL = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.image_size": 16,
    "epochs": 1,
    "batch_size": 8,
    "compute.threads": 1,
    "compute.precision": "float32",
}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two folders of photographs, named from the folder above."""
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "one", ("cats", "dogs"))
    photographs(tmp_path / "two", ("cups", "jugs"))
    return tmp_path


def test_the_recipe_of_a_run_repeats_it_from_any_folder(folders, monkeypatch):
    run = train("one/", set=SMALL, out="runs/a")
    facts = run.facts()
    assert facts["recipe"]["data"]["path"] == str(folders / "one")
    (folders / "elsewhere").mkdir()
    monkeypatch.chdir(folders / "elsewhere")
    again = train(folders / "runs" / "a" / "recipe.toml", out="b")
    assert again.facts()["data"]["checksums"] == facts["data"]["checksums"]


def test_a_study_of_other_images_is_not_that_of_the_first(folders):
    first = study_seeds("one/", [0], set=SMALL)
    second = study_seeds("two/", [0], set=SMALL)
    assert (first.folder.name, second.folder.name) == ("seeds-photos-one", "seeds-photos-two")
    with pytest.raises(UsageError, match="trained on other images than"):
        study_seeds("two/", [0], set=SMALL, out=first.folder)
    assert second.runs[0].facts()["data"]["class_names"] == ["cups", "jugs"]


def test_images_that_have_moved_are_the_same(folders):
    run = train("one/", set=SMALL, out="runs/a")
    shutil.move(folders / "one", folders / "moved")
    assert resume(run.path, set={"data.path": "moved"}).name == run.name
    with pytest.raises(UsageError, match="trained on other images than"):
        resume(run.path, set={"data.path": "two"})


def test_a_finished_run_that_is_to_be_longer_names_the_way(folders):
    run = train("one/", set=SMALL, out="runs/a")
    with pytest.raises(UsageError, match="--extend-to"):
        resume(run.path, set={"epochs": 3})


def test_the_place_of_a_study_without_photographs_is_named_after_the_recipe():
    assert usual_place("seeds", find_recipe("digits"), []).name == "seeds-digits"
    assert usual_place("units", find_recipe("cifar10-paper"), [("data.path", "x")]).name == "units-cifar10-paper"
    assert Path(usual_place("seeds", find_recipe("digits"), [])).parent.name == "runs"


def test_a_finished_run_says_that_nothing_was_trained(folders, capsys):
    train("digits", set=SMALL | {"data.image_size": None, "data.limit": 60}, out="runs/a")
    assert command(["train", "--resume", "runs/a"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].endswith("nothing was trained; longer: residual train --resume runs/a --extend-to EPOCHS")
