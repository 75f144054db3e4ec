"""`residual data check` and `pack`, and training on archives, tables and packs by name."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
import torch

import residual
from residual.data.datasets import open_dataset
from residual.data.source import everything
from residual.runs.folder import RunFolder
from residual.training.recipes import RECIPES, find_recipe
from tests.cli.conftest import only_error, photograph
from tests.cli.test_photographs import PLAIN, SMALL, model_of, result_of
from tests.data.photographs import divided, encoded, fill, photographs, picture


@pytest.fixture
def photos(here: Path) -> Path:
    return photographs(here / "PHOTOS", ["cat", "dog"], 14)


def archive(folder: Path, path: Path, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # the mode is one of tarfile's
        tar.add(folder, folder.name)
    return path


def test_check_prints_tables_and_writes_a_row_for_each_file(say, here, photos):
    (photos / "cat" / "bad.jpg").write_bytes(b"<html>")
    (photos / "dog" / "same.png").write_bytes((photos / "cat" / "001.png").read_bytes())
    before = photograph(photos)
    said = say("data", "check", "PHOTOS/", "--csv", "files.csv", "--processes", 1)
    assert photograph(photos) == before
    assert said.code == 3
    assert said.err == ""
    for words in ("30 images, 29 usable", "wrong format", "cat/bad.jpg", "HTML page", "duplicates across classes"):
        assert words in said.out, said.out
    rows = list(csv.DictReader((here / "files.csv").read_text().splitlines()))
    assert len(rows) == 30
    assert {row["path"] for row in rows if row["fault"]} == {"cat/bad.jpg"}
    (photos / "cat" / "bad.jpg").unlink()
    (photos / "dog" / "same.png").unlink()
    said = say("data", "check", archive(photos, here / "p.tar.gz"), "--json", "--processes", 1)
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert (found["images"], found["unusable"], found["findings"]) == (28, 0, [])
    assert found["classes"] == {"all": {"cat": 14, "dog": 14}}


def test_what_cannot_be_written_is_said_before_anything_is_decoded(say, here, photos, monkeypatch):
    monkeypatch.setattr("residual.data.inspection.examine_all", lambda *_: pytest.fail("the images were decoded"))
    (here / "file").touch()
    for arguments in (("check", "PHOTOS", "--csv", "file/x.csv"), ("pack", "PHOTOS", "file/x.pack")):
        said = say("data", *arguments)
        line = only_error(said)
        assert (said.code, "--out" in line, "name a file elsewhere" in line) == (5, False, True), line
    assert (here / "file").read_bytes() == b""


def test_check_writes_nothing_among_the_images(say, here, photos):
    before = photograph(here)
    for options in (["--csv", "PHOTOS/files.csv"], ["--csv", "."], ["--processes", "-1"]):
        said = say("data", "check", "PHOTOS", *options)
        assert said.code == 2
        only_error(said)
    said = say("data", "check", "nowhere/")
    assert (said.code, "no such folder" in only_error(said)) == (3, True)
    said = say("data", "pack", "PHOTOS", "PHOTOS/x.pack")
    assert (said.code, "among the images" in only_error(said)) == (2, True)
    assert photograph(here) == before


def test_check_replaces_its_own_rows_and_nothing_else(say, refused, here, photos):
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    lines = [f"{p.relative_to(here).as_posix()},{p.parent.name}" for p in paths]
    (here / "p.csv").write_text("\n".join(["path,label", *lines]))
    (here / "notes.csv").write_text("path,part,class\n")
    (here / "link.csv").symlink_to("files.csv")
    for place in (paths[1], here / "notes.csv", here / "link.csv"):
        refused(2, ["data", "check", "p.csv", "--csv", place], "stands there already", "--csv")
    assert say("data", "check", "p.csv", "--csv", "files.csv", "--processes", 1).code == 0
    first = (here / "files.csv").read_text()
    refused(2, ["data", "check", "p.csv", "--csv", "link.csv"], "stands there already", "--csv")
    (here / "files.csv").write_text(first[: len(first) // 2])
    said = say("data", "check", "p.csv", "--csv", "files.csv", "--processes", 1)
    assert (said.code, "files.csv of an earlier call will be replaced" in said.err) == (0, True), said.err
    assert (here / "files.csv").read_text() == first


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no name is without an encoding")
def test_a_class_whose_name_is_not_utf8_has_rows(say, here, photos):
    os.rename(photos / "dog", os.fsencode(photos) + b"/\xff")
    said = say("data", "check", "PHOTOS", "--csv", "files.csv", "--processes", 1)
    assert (said.code, said.err) == (3, "")
    assert "the name of a class folder is not UTF-8" in said.out
    rows = list(csv.DictReader((here / "files.csv").read_text().splitlines()))
    assert {row["class"] for row in rows} == {"cat", r"\udcff"}
    assert {row["path"].split("/")[0] for row in rows} == {"cat", r"\udcff"}
    found = say("data", "check", "PHOTOS", "--json", "--processes", 1).out
    assert json.loads(found)["classes"] == {"all": {"cat": 14, r"\udcff": 14}}


STEPS = ("--set", "steps=5", "--set", "batch_size=8", *PLAIN)


def test_the_same_run_from_a_folder_an_archive_a_table_and_a_pack(say, here, photos):
    archive(photos, here / "p.tar.gz")
    archive(photos, here / "p.tar", "w")
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    lines = ["path,label", *(f"PHOTOS/{path.parent.name}/{path.name},{path.parent.name}" for path in paths)]
    (here / "p.csv").write_text("\n".join(lines))
    assert say("data", "pack", "PHOTOS", "p.pack").code == 0
    for name in ("PHOTOS", "p.tar.gz", "p.tar", "p.csv", "p.pack"):
        said = say("train", name, *STEPS, "--out", f"run-{name}")
        assert said.code == 0, said.err
        assert "recipe   photos" in said.out
        facts = RunFolder(here / f"run-{name}").facts()
        assert facts["data"]["origin"] == str(here / name)
        assert model_of(here / f"run-{name}") == model_of(here / "run-PHOTOS")
    report = json.loads(say("evaluate", "run-p.pack", "--json").out)
    assert (report["split"], report["images"]) == ("validation", 3)
    for place in ("p.tar", "p.csv", "PHOTOS"):
        other = json.loads(say("evaluate", "run-p.pack", "--data", place, "--json").out)
        assert (other["split"], other["images"]) == ("test", 28)


def test_a_run_on_an_archive_goes_on_bit_for_bit_with_any_threads(say, here, photos):
    place = archive(photos, here / "p.tar.gz")
    length = ("--set", "steps=8", "--set", "batch_size=8", "--set", "data.augment.short_side=[32, 48]",
              "--set", "data.augment.crop_scale=none", "--set", "data.augment.colour_noise=0.1", *PLAIN)  # fmt: skip
    assert say("train", place, *length, "--out", "whole").code == 0
    assert say("train", place, *length, "--set", "data.threads=8", "--out", "cut").code == 0
    assert model_of(here / "cut") == model_of(here / "whole")
    folder = RunFolder(here / "cut")
    for step in folder.steps():
        if step > 2:
            shutil.rmtree(folder.checkpoint_path(step))
    shutil.rmtree(here / "cut" / "model")
    (here / "cut" / "result.json").unlink()
    assert say("train", "--resume", "cut", "--set", "data.threads=1", "--override").code == 0
    assert model_of(here / "cut") == model_of(here / "whole")


def test_groups_are_kept_together_and_remembered(say, here, photos):
    paths = sorted(path for path in photos.rglob("*") if path.is_file())
    lines = ["path,label,patient"]
    lines += [f"{p.relative_to(here).as_posix()},{p.parent.name},{n % 7}" for n, p in enumerate(paths)]
    (here / "p.csv").write_text("\n".join(lines))
    said = say("train", "p.csv", "--set", "data.group=patient", "--set", "data.test=0.2", *STEPS, "--out", "run")
    assert said.code == 0, said.err
    group = {line.split(",")[0]: line.split(",")[2] for line in lines[1:]}
    files = RunFolder(here / "run").split()["files"]
    sides = [{group[name] for name in files[part]} for part in ("training", "validation", "test")]
    assert all(sides)
    assert len(sides[0] | sides[1] | sides[2]) == sum(map(len, sides))
    assert say("evaluate", "run").code == 0
    (here / "p.csv").write_text("\n".join(lines).replace(",6", ",5"))
    said = say("train", "p.csv", "--set", "data.group=patent", *STEPS)
    assert (said.code, "no column is named 'patent'" in only_error(said)) == (3, True)


def test_what_is_judged_on_stops_for_a_bad_image_in_an_archive_and_a_table(say, here):
    root = divided(here / "PHOTOS", ["train", "val"], ["cat", "dog"])
    (root / "val" / "cat" / "bad.png").write_bytes(encoded(picture(0))[:500])
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [f"PHOTOS/{p.relative_to(root).as_posix()},{p.parent.name},{p.parts[-3]}" for p in paths]
    (here / "p.csv").write_text("\n".join(["path,label,split", *lines]))
    for place in (archive(root, here / "p.tar", "w"), here / "p.csv"):
        said = say("train", place, *STEPS, "--set", "data.quarantine=0.5")
        assert said.code == 3
        assert "no figure is made of fewer images" in only_error(said)


def test_the_names_of_files_that_are_photographs(say, here, photos):
    for name in (archive(photos, here / "p.tar"), archive(photos, here / "p.tgz")):
        assert find_recipe(str(name)).name == "photos"
    (here / "x.csv").write_text("a\n")
    assert find_recipe("x.csv").data.path == "x.csv"
    said = say("train", "nowhere.tar.gz")
    assert (said.code, "check the name" in only_error(said)) == (2, True)


def test_crops_are_refused_where_there_are_no_photographs(say, here):
    said = say("train", "digits", "--set", "data.augment.crop_scale=[0.5, 1.0]", *PLAIN, "--out", "run")
    assert (said.code, "crop_scale" in only_error(said)) == (2, True)
    assert not (here / "run").exists()


def test_photos_crops_at_random_scales(here):
    photographs(here / "PHOTOS", ["a", "b"], 6)
    assert RECIPES["photos"].data.augment.crop_scale == (0.35, 1.0)
    run = residual.train("PHOTOS", set=SMALL | {"steps": 2, "batch_size": 4}, out="run")
    assert run.facts()["recipe"]["data"]["augment"]["crop_scale"] == [0.35, 1.0]
    assert result_of(here / "run")["steps"] == 2
    dataset = open_dataset(find_recipe("PHOTOS").data)
    assert torch.equal(dataset.train.read(everything(dataset.train)), dataset.train.read(everything(dataset.train)))
    assert fill(here / "more", 1, 0).is_dir()
