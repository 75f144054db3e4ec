"""Which images a network is judged on, and what is said where images of its training are among them."""

from __future__ import annotations

import shutil

import pytest
import torch

import residual
from residual.errors import UsageError
from residual.evaluation import judged as judged_
from residual.evaluation.judged import select
from residual.evaluation.use import load
from residual.runs.folder import RunFolder
from residual.training.train import train
from tests.data.photographs import encoded, fill, photographs, picture

SMALL = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "steps": 1, "batch_size": 8, "data.validation": 0.25}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on 24 images, 18 of them trained on; and a table of them."""
    place = tmp_path_factory.mktemp("judged")
    root = photographs(place / "photos", ["cat", "dog"], 12)
    lines = [f"{path.relative_to(root).as_posix()},{path.parent.name}" for path in sorted(root.rglob("*.*"))]
    (root / "all.csv").write_text("\n".join(["path,label", *lines]))
    return train("photos", set={**SMALL, "data.path": str(root)}, out=place / "run").path, root


def told(caplog, run, data):
    caplog.clear()
    judged = select(load(run), run, path=str(data))
    return judged, [message for message in caplog.messages if "of the training" in message]


def test_the_very_images_are_divided_as_they_were(trained, caplog):
    run, root = trained
    judged, said = told(caplog, run, root)
    assert (judged.own, judged.split, len(judged.indices), said) == (True, "validation", 6, [])


def test_images_of_the_training_among_others_are_counted(trained, caplog, tmp_path):
    run, root = trained
    assert len(RunFolder(run).split()["training"]) == 18
    new = root / "cat" / "new.png"
    new.write_bytes(encoded(picture(90)))
    judged, said = told(caplog, run, root)
    assert (judged.own, len(judged.indices)) == (False, 25)
    assert [f"18 of the 25 images lie where images of the training lay, and the figure will flatter ({root})" in s
            for s in said] == [True]  # fmt: skip
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    new.unlink()
    _, said = told(caplog, run, root / "all.csv")
    assert [s.startswith("18 of the 24 images lie where") for s in said] == [True]
    _, said = told(caplog, run, elsewhere)
    assert [s.startswith("18 of the 25 images are images of the training, bit for bit") for s in said] == [True]


def test_copies_of_other_names_are_counted_by_their_content(trained, caplog, tmp_path, monkeypatch):
    run, root = trained
    for number, name in enumerate(RunFolder(run).split()["files"]["training"]):
        path = root / name
        place = tmp_path / "web" / path.parent.name / f"IMG_{number}{path.suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    fill(tmp_path / "web" / "cat", 2, 0, 70)
    _, said = told(caplog, run, tmp_path / "web")
    assert [s.startswith("18 of the 20 images are images of the training, bit for bit") for s in said] == [True]
    monkeypatch.setattr(judged_, "_MOST", 17)  # of so many files names and sizes alone are compared
    assert told(caplog, run, tmp_path / "web")[1] == []
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    fill(elsewhere / "cat", 1, 0, 70)
    _, said = told(caplog, run, elsewhere)
    assert [s.startswith("18 of the 25 images have the names and sizes of") for s in said] == [True]


def test_where_no_run_knows_them_it_is_said_that_there_may_be_some(trained, caplog, tmp_path):
    run, root = trained
    model = shutil.copytree(run / "model", tmp_path / "model")
    _, said = told(caplog, model, root / "all.csv")
    assert [s.startswith("images of the training may be among these") for s in said] == [True]


def test_other_images_of_the_same_names_are_none_of_the_training(trained, caplog, tmp_path):
    run, _ = trained
    for colour, name in enumerate(["cat", "dog"]):
        fill(tmp_path / "other" / name, 12, colour + 5, size=(44, 44))
    judged, said = told(caplog, run, tmp_path / "other")
    assert (judged.own, len(judged.indices), said) == (False, 24, [])


def test_photographs_are_judged_in_another_size(tmp_path, monkeypatch):
    """As a model folder of that size has it; figures say so, and what has one size is refused."""
    monkeypatch.setattr("residual.models.heads._HIDDEN", 16)
    photographs(tmp_path / "photos", count=6)
    network = residual.build("resnet-8", classes=len([*(tmp_path / "photos").iterdir()]), widths=(4, 4, 4), seed=1)
    names = sorted(one.name for one in (tmp_path / "photos").iterdir())
    own = residual.Classifier.of(network, names, image_size=32, mean=[0.5] * 3, std=[0.25] * 3)
    folder = own.at_size(48, 0.75).save(tmp_path / "model")
    other = residual.load(folder)
    assert (other.preprocessing.image_size, other.preprocessing.crop) == ((48, 48), 0.75)
    found = residual.evaluate(own, data=tmp_path / "photos", image_size=48, crop=0.75)
    kept = residual.evaluate(folder, data=tmp_path / "photos")
    assert torch.equal(found.sheet.logits, kept.sheet.logits)
    assert not torch.equal(found.sheet.logits, residual.evaluate(own, data=tmp_path / "photos").sheet.logits)
    assert "images of 48 x 48 pixels, where it was trained on 32 x 32" in found.as_dict()["words"]
    both = residual.evaluate_together([own], data=tmp_path / "photos", image_size=48, crop=0.75)
    assert torch.equal(both.members[0].sheet.logits, found.sheet.logits)
    for size, crop, word in ((48, 2.0, "crop is 2.0"), (0, None, "image_size")):
        with pytest.raises(UsageError, match=word):
            own.at_size(size, crop)
        with pytest.raises(UsageError, match=word):
            residual.evaluate(own, data=tmp_path / "photos", image_size=size, crop=crop)
    hidden = residual.build("resnet-8", classes=2, widths=(2, 2, 2), head="vgg")
    fixed = residual.Classifier.of(hidden, ["a", "b"], image_size=32, mean=[0.5] * 3, std=[0.25] * 3)
    with pytest.raises(UsageError, match="maps of one size"):
        fixed.at_size(64)
    assert fixed.at_size(32, 0.875).preprocessing.crop == 0.875


def test_digits_have_one_size(tmp_path):
    few = {"steps": 2, "data.limit": 60, "batch_size": 20, "network.name": "resnet-8", "compute.threads": 1}
    run = residual.train("digits", set=few, out=tmp_path / "run")
    with pytest.raises(UsageError, match="of one size"):
        residual.evaluate(run, image_size=16)
