"""`residual train PHOTOS/`: from a folder to a classifier, and what is said of folders that will not do."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

import residual
from residual.data import checking
from residual.data import encoded as encoded_files
from residual.errors import DataError, Interrupted, NonFiniteError
from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from residual.training import session
from residual.training.progress import Silent
from residual.training.recipes import find_recipe
from tests.cli.conftest import only_error, photograph
from tests.cli.test_output import shell
from tests.conftest import shared_folder
from tests.data.photographs import divided, encoded, fill, photographs, picture

SMALL: dict[str, Any] = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "compute.precision": "float32",
    "compute.threads": 1,
    "checkpoint.every_steps": 2,
    "checkpoint.keep": 100,
}
PLAIN = ("--log", "plain", *(t for path, v in SMALL.items() for t in ("--set", f"{path}={v}")))


@pytest.fixture
def photos(here: Path) -> Path:
    return photographs(here / "PHOTOS", count=14)


def model_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "model").glob("*.safetensors")}


def result_of(run: Path) -> dict[str, Any]:
    result = RunFolder(run).result()
    assert result is not None
    return result


def records_of(run: Path) -> list[Any]:
    return timeless(RunFolder(run).records())


# From a folder to a classifier


def test_one_command_makes_a_classifier(say, here, photos):
    shutil.rmtree(photos / "owl")
    said = say("train", "PHOTOS/", "--epochs", 6, *PLAIN, "--out", "run")
    assert (said.code, len(said.err.splitlines())) == (0, 1), said.err
    assert "info: 25 images of 2 classes are few" in said.err
    assert f"residual train {photos} --from torchvision:resnet18" in said.err
    for words in (
        "recipe   photos",
        "25 training, 3 validation, no test images",
        "data.image_size 32 (the shorter sides of the images have the median 36)",
        "data.channels 3 (none of the images is stored as grey)",
        "batch_size 8 (25 training images are fewer than a batch of 32)",
        "there are no test images",
    ):
        assert words in said.out, said.out
    facts, result = RunFolder(here / "run").facts(), result_of(here / "run")
    assert facts["settled"] == {
        "data.image_size": 32,
        "data.channels": 3,
        "batch_size": 8,
    }
    assert facts["settled"].keys() <= facts["reasons"].keys()
    assert facts["chosen"]["batch_size"] == 8
    assert list(result["final"]) == ["validation"]
    assert result["final"]["validation"]["images"] == 3
    assert result["protocol"]["training"] == "tune (validation held out)"
    split = RunFolder(here / "run").split()
    assert (len(split["files"]["training"]), len(split["files"]["validation"]), split["files"]["test"]) == (25, 3, [])
    assert all((photos / name).is_file() for name in split["files"]["training"] + split["files"]["validation"])


def test_the_name_may_be_given_in_several_ways(say, photos):
    for name in ("PHOTOS", "PHOTOS/", str(photos), f"{photos}/", "./PHOTOS"):
        recipe = find_recipe(name)
        assert (recipe.name, recipe.data.path) == ("photos", name)
    photographs(Path("digits"), ["a", "b"], 1)
    assert find_recipe("digits").data.dataset == "digits"  # the name of a recipe is one
    assert find_recipe("digits/").data.dataset == "folder"
    for number, command in enumerate([["PHOTOS"], ["photos", "--data", photos]]):
        assert say("train", *command, "--set", "steps=1", *PLAIN, "--out", f"run{number}").code == 0
    assert say("train", "run0/recipe.toml", "--log", "plain", "--out", "again").code == 0
    assert model_of(Path("again")) == model_of(Path("run0")) == model_of(Path("run1"))


def test_evaluation_and_prediction_see_the_same_pixels(say, photos):
    assert say("train", "PHOTOS", "--epochs", 4, *PLAIN, "--out", "run").code == 0
    report = json.loads(say("evaluate", "run", "--json").out)
    assert (report["split"], report["images"], report["origin"]) == ("validation", 4, str(photos))
    files = RunFolder(Path("run")).split()["files"]["validation"]
    said = say("predict", "run", *(photos / name for name in files), "--format", "csv", "--top-k", 1)
    rows = list(csv.DictReader(io.StringIO(said.out)))
    right = sum(row["class"] == Path(row["file"]).parent.name for row in rows)
    assert right == round(report["top1"] * 4)
    loss = -sum(_log_share(say, photos / name) for name in files) / 4
    assert loss == pytest.approx(report["loss"], rel=1e-4)


def _log_share(say, file: Path) -> float:
    from math import log

    rows = csv.DictReader(io.StringIO(say("predict", "run", file, "--format", "csv").out))
    return next(log(float(row["probability"])) for row in rows if row["class"] == file.parent.name)


def test_parts_give_a_test_figure(say, here):
    divided(here / "parts")
    said = say("train", "parts/", "--epochs", 2, *PLAIN, "--out", "run")
    assert said.code == 0
    assert "36 training, 15 validation, 15 test images" in said.out
    result = result_of(Path("run"))
    assert {split: scores["images"] for split, scores in result["final"].items()} == {"validation": 15, "test": 15}
    assert result["protocol"]["training"] == "tune (validation held out)"
    for split, count in (("test", 15), ("validation", 15), ("training", 36)):
        report = json.loads(say("evaluate", "run", "--split", split, "--json").out)
        assert (report["split"], report["images"]) == (split, count)
    assert json.loads(say("evaluate", "run", "--json").out)["split"] == "test"
    shutil.move(here / "run" / "model", here / "model")  # the parts are known without the run
    assert json.loads(say("evaluate", "model", "--split", "validation", "--json").out)["images"] == 15


def test_another_folder_is_judged_by_the_names_of_its_classes(say, refused, photos, here):
    assert say("train", "PHOTOS", "--epochs", 2, *PLAIN, "--out", "run").code == 0
    other = photographs(here / "other", ["owl", "cat"], 9)  # owl has the colour of cat there
    report = json.loads((said := say("evaluate", "run", "--data", "other/", "--json")).out)
    assert (report["split"], report["images"]) == ("test", 18)
    assert [sum(row) for row in report["confusion"]] == [9, 0, 9]
    assert report["classes"]["dog"] is None
    assert "'dog'" in said.err
    fill(other / "emu", 1, 0)
    refused(3, ["evaluate", "run", "--data", "other"], "'emu'", "lacks 'dog'")
    shutil.rmtree(other / "emu")
    (other / "cat" / "000.jpg").write_bytes(b"")
    refused(3, ["evaluate", "run", "--data", "other"], "1 of 18 images", "cat/000.jpg")
    refused(2, ["evaluate", "run", "--split", "test"], "no test images", "validation")
    moved = photos.rename(here / "moved")
    refused(3, ["evaluate", "run"], "no such folder", "--data")
    assert json.loads(say("evaluate", "run", "--data", moved, "--json").out)["split"] == "validation"


# A run that was stopped


def test_a_run_that_was_killed_goes_on_bit_for_bit(start, say, here, photos):
    length = ("--set", "steps=20", "--set", "batch_size=8")
    assert say("train", "PHOTOS", *length, *PLAIN, "--out", "whole").code == 0
    process = start("train", "PHOTOS", *length, *PLAIN, "--out", "cut")
    process.wait_for((here / "cut" / "checkpoints" / "step-00000004").exists)
    process.process.kill()
    process.end()
    assert not (here / "cut" / "result.json").exists()
    said = say("train", "--resume", "cut", "--set", "data.threads=3", "--log", "plain")
    assert said.code == 0, said
    assert records_of(here / "cut") == records_of(here / "whole")
    assert model_of(here / "cut") == model_of(here / "whole")


def test_decoding_ahead_changes_nothing(photos, monkeypatch, here):
    for name, ahead in (("some", session.AHEAD), ("none", 0), ("much", 5)):
        monkeypatch.setattr(session, "AHEAD", ahead)
        residual.train("PHOTOS/", set=SMALL | {"steps": 7, "batch_size": 8}, out=name)
    assert records_of(here / "some") == records_of(here / "none") == records_of(here / "much")
    assert model_of(here / "some") == model_of(here / "none") == model_of(here / "much")


class Away(Silent):
    """Takes a file away before step 3, so that a batch that is decoded ahead misses it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def stepped(self, step: int, images: int) -> None:
        if step == 3:
            self.file.rename(self.file.with_suffix(".away"))


def test_a_file_that_goes_stops_the_run_at_its_step(photos, here):
    settings = SMALL | {"steps": 12, "batch_size": 9, "checkpoint.every_steps": 1}
    whole = residual.train("PHOTOS/", set=settings, out="whole")
    file = photos / whole.split()["files"]["training"][20]
    with pytest.raises(DataError) as caught:
        residual.train("PHOTOS/", set=settings, out="cut", listener=Away(file))
    assert str(file.relative_to(here)) in str(caught.value)
    assert "gone since the folder was scanned" in str(caught.value)
    assert 3 <= RunFolder(here / "cut").steps()[0] < 12
    shutil.copy(file.with_suffix(".away"), photos / "cat" / "new.png")
    with pytest.raises(DataError, match=rf"began with: '\w+/{file.name}' missing, and 'cat/new\.png' new"):
        residual.resume("cut")
    (photos / "cat" / "new.png").unlink()
    file.with_suffix(".away").rename(file)
    residual.resume("cut")
    assert records_of(here / "cut") == records_of(here / "whole")


def test_other_images_are_refused_on_resume(say, refused, photos, here):
    assert say("train", "PHOTOS", "--set", "steps=4", *PLAIN, "--out", "run").code == 0
    (here / "run" / "result.json").unlink()
    shutil.rmtree(here / "run" / "model")
    shutil.rmtree(here / "run" / "checkpoints" / "step-00000004")
    path = photos / "cat" / "000.jpg"
    whole = path.read_bytes()
    path.write_bytes(encoded(picture(500), "JPEG"))
    for more in ([], ["--data", "PHOTOS"], ["--set", "data.threads=1", "--override"]):
        refused(3, ["train", "--resume", "run", *more], "not the one the run began with: the content of files")
    refused(2, ["train", "--resume", "run", "--set", "data.quarantine=0.5", "--override"], "data.quarantine")
    path.write_bytes(whole)
    moved = photos.rename(here / "moved")
    refused(3, ["train", "--resume", "run"], "no such folder")
    assert say("train", "--resume", "run", "--data", moved, "--log", "plain").code == 0


def test_a_value_that_is_not_finite_is_told_with_the_files(photos):
    settings = SMALL | {"steps": 40, "batch_size": 8, "schedule.peak": 1000.0, "optimiser.weight_decay": 1.0}
    with pytest.raises(NonFiniteError, match="not finite at step") as caught:
        residual.train("PHOTOS/", set=settings | {"evaluation.every_epochs": 100.0}, out="run")
    named = str(caught.value).split("training images ")[1].split(", ...")[0].split(", ")
    assert len(named) == 5
    assert all((photos / name).is_file() for name in named)


@pytest.mark.skipif(os.name == "nt", reason="sends a signal as POSIX does")
def test_a_stop_while_the_images_are_checked_leaves_nothing_half_done(photos, monkeypatch, here):
    seen, look = [], checking.look

    def interrupted(root, file):
        seen.append(file.path)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return look(root, file)

    monkeypatch.setattr(checking, "look", interrupted)
    monkeypatch.setattr(checking, "_CHUNK", 5)
    with pytest.raises(Interrupted, match="stopped by SIGTERM while the images were checked") as caught:
        residual.train("PHOTOS/", set=SMALL | {"steps": 1}, out="run")
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert not (here / "run").exists()
    assert len(seen) < 42
    residual.train("PHOTOS/", set=SMALL | {"steps": 1}, out="run")
    assert len(seen) == 42  # none was read twice


# Files that cannot be used, and folders that will not do


def test_what_is_left_out_is_listed(say, refused, photos):
    (photos / "dog" / "003.png").write_bytes(b"<html>")
    refused(3, ["train", "PHOTOS/", *PLAIN], "dog/003.png", "--set data.quarantine=0.0239")
    said = say("train", "PHOTOS/", "--set", "steps=2", "--set", "data.quarantine=0.03", *PLAIN, "--out", "run")
    assert said.code == 0
    assert "warning: 1 of 42 images cannot be used and are left out" in said.err
    assert RunFolder(Path("run")).split()["left_out"] == {"dog/003.png": encoded_files.OTHER}
    assert json.loads(say("evaluate", "run", "--json").out)["images"] == 4


def test_what_is_not_used_is_said_when_a_run_begins_and_not_again(say, photos):
    (photos / "cat" / "moving.heic").write_bytes(b"....ftypheic")
    (photos / "cat" / "labels.txt").write_text("cat")
    (photos / "cat" / "000.jpg").rename(photos / "cat" / "nameless")
    words = "not used: images of kinds not read here, 1 .heic and 1 other files (1 .txt)"
    said = say("train", "PHOTOS/", "--set", "steps=1", *PLAIN, "--out", "run")
    assert (said.code, said.err.count(words)) == (0, 1), said.err
    assert len(RunFolder(Path("run")).facts()["data"]["unused"]) == 1
    assert say("evaluate", "run").err == ""
    assert say("report", "run", "--out", "report.html").err == ""
    assert words in say("data", "check", "PHOTOS/").err
    assert words in say("data", "pack", "PHOTOS/", "pack").err
    said = say("predict", "run", "PHOTOS/cat", "--format", "csv", "--top-k", 1)
    assert (said.code, len(said.out.splitlines()), words in said.err) == (0, 15, True)


def test_copies_are_told_where_they_were_put_on_both_sides(say, here):
    divided(here / "parts", ["train", "val"])
    shutil.copy(sorted((here / "parts/train/cat").iterdir())[0], here / "parts/val/cat/copy.jpg")
    said = say("train", "parts/", "--set", "steps=1", *PLAIN, "--out", "run")
    assert said.code == 0
    assert "1 of the 16 validation images are trained on as well, bit for bit" in said.err


def test_a_batch_that_was_asked_for_is_not_made_smaller(refused, photos):
    refused(2, ["train", "PHOTOS/", "--batch-size", 64, *PLAIN], "38 training images", "64")


def test_places_that_are_no_photographs(refused, say, here, photos):
    (here / "empty").mkdir()
    (here / "one").mkdir()
    fill(here / "one" / "cat", 3, 0)
    (here / "photos.zip").write_bytes(b"PK")
    refused(3, ["train", "empty"], "the folder is empty", "FOLDER/CLASS/IMAGES")
    refused(3, ["train", "nowhere/"], "no such folder", "nowhere")
    refused(3, ["train", "one"], "one class only, 'cat'")
    refused(3, ["train", "PHOTOS/cat"], "14 images, no class folders")
    refused(3, ["train", "photos"], "no folder of photographs was named")
    refused(3, ["train", "photos", "--data", "photos.zip"], "not an archive that is read here", "unpack")
    refused(2, ["train", "photos.zip"], "read from a folder, a .tar", "unpack")
    refused(2, ["train", "PHOTO"], "no recipe is named 'PHOTO', and no folder")
    refused(3, ["train", "cifar10-fast", "--data", "PHOTOS"], "not cifar-10", "residual train ", "PHOTOS/`")
    refused(3, ["train", "digits", "--data", "PHOTOS"], "not digits", "residual train ", "PHOTOS/`")
    refused(2, ["train", "PHOTOS", "--out", "PHOTOS/run"], "inside the data", "--out")
    refused(2, ["train", "digits", "--set", "data.image_size=64"], "only a folder of photographs has it")


def test_no_run_is_written_among_the_images(say, photos, monkeypatch):
    monkeypatch.chdir(photos)
    before = photograph(photos)
    said = say("train", ".", *PLAIN)
    assert (said.code, "inside the data" in only_error(said)) == (2, True)
    assert photograph(photos) == before


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need rights here")
def test_links_that_lead_out_need_a_flag(say, refused, photos, here):
    outside = fill(here / "outside", 3, 0, first=50)
    for number, path in enumerate(sorted(outside.iterdir())):
        os.symlink(path, photos / "cat" / f"link{number}{path.suffix}")
    refused(3, ["train", "PHOTOS", *PLAIN], "leads out of the folder", "--follow-links")
    said = say("train", "PHOTOS", "--follow-links", "--set", "steps=1", *PLAIN, "--out", "run")
    assert said.code == 0
    assert RunFolder(Path("run")).facts()["data"]["training"] == 41
    assert say("evaluate", "run").code == 0


# Photographs as they are


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred photographs each of goldfish, black widows and jellyfish, from Tiny ImageNet."""
    shared = shared_folder()
    archive = shared / "data" / "tiny-imagenet" / "tiny-imagenet-200-subset.tar.gz" if shared else None
    if archive is None or not archive.is_file():
        pytest.skip("the research data is not here: set RESIDUAL_SHARED")
    names = {"n01443537": "goldfish", "n01774384": "black widow", "n01910747": "jellyfish"}
    root = tmp_path_factory.mktemp("real")
    missing = 300
    with tarfile.open(archive, "r|gz") as tar:
        for member in tar:
            parts = member.name.split("/")
            name = next((names[part] for part in parts if part in names and "train" in parts), None)
            if name is not None and member.isreg() and member.name.endswith(".JPEG"):
                (root / name).mkdir(exist_ok=True)
                file = tar.extractfile(member)
                assert file is not None
                (root / name / parts[-1]).write_bytes(file.read())
                missing -= 1
                if not missing:
                    break
    return root


@pytest.mark.shared
def test_photographs_are_learnt(say, real, here):
    settings = ["--set", "compute.precision=float32", "--set", "compute.threads=1", "--set", "network.widths=[8,16,32]"]
    command = ["train", real, "--network", "resnet-8", "--epochs", 8, "--batch-size", 30, *settings, "--log", "plain"]
    said = say(*command, "--set", "data.image_size=32", "--out", "run")
    assert (said.code, len(said.err.splitlines())) == (0, 1), said.err  # that they are few
    report = json.loads(say("evaluate", "run", "--json").out)
    assert report["images"] == 30
    assert report["top1"] >= 0.6  # a third by chance
    held = [real / name for name in RunFolder(here / "run").split()["files"]["validation"]]
    rows = json.loads(say("predict", "run", *held, "--format", "json").out)
    right = sum(row["predictions"][0]["class"] == Path(row["file"]).parent.name for row in rows)
    assert right == round(30 * report["top1"])


def test_processes_need_no_shared_memory_and_few_open_files(say, photos, here):
    """/dev/shm of 64 KiB, as containers have it, where a file system may be mounted; 64 open files."""
    common = ("--set", "steps=2", "--set", "data.threads=1", *PLAIN)
    assert say("train", "PHOTOS", *common, "--out", "threads").code == 0
    small = 'mount -t tmpfs -o size=64k none /dev/shm || exit 99; ulimit -n 64; exec "$@"'
    unshare = shutil.which("unshare")
    tried = unshare and subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode == 0
    line = f"""{unshare} -m bash -c '{small}' bash "$@" """ if tried else 'ulimit -n 64; "$@"'
    said = shell(line, "train", "PHOTOS", *common, "--set", "data.workers=processes", "--out", "processes")
    if said.code == 99:
        pytest.skip("this machine lets no file system be mounted")
    assert (said.code, len(said.err.splitlines())) == (0, 1), said.err  # that the images are few
    assert model_of(here / "processes") == model_of(here / "threads")
