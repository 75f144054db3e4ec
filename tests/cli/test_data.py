"""`residual data`: what is there is found, fetched, verified and shown, and training goes on from it."""

import inspect
import json
import os
import sys
import tarfile

import pytest
import torch
from PIL import Image

from residual.cli import batch_shown
from residual.cli import data as verbs
from residual.cli.main import app
from residual.data import datasets
from residual.data.batches import Batches
from residual.data.preprocessing import measure
from tests.cli.conftest import only_error
from tests.data.lying_server import ARCHIVES, SMALL, offline, page, serving, whole
from tests.data.photographs import encoded, photographs, picture

TINY = "network.name=resnet-8 network.widths=[4,4,4] batch_size=30 steps=2 compute.threads=1 compute.precision=float32"
SETTINGS = [text for change in TINY.split() for text in ("--set", change)]


@pytest.fixture(autouse=True)
def _small(monkeypatch, tmp_path):
    """The program expects small files in place of the official ones, and only the mirrors named exist."""
    offline(monkeypatch)
    monkeypatch.delenv("RESIDUAL_DATA", raising=False)
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    for name, official in SMALL.items():
        monkeypatch.setitem(datasets.FAMILIES, name, official.family)


@pytest.fixture
def server():
    with serving(good=lambda request: whole(ARCHIVES[request.path.split("/")[-1]][1])(request), bad=page(404)) as found:
        yield found


def test_the_list_says_what_is_needed_and_what_is_here(say, here):
    rows = {row["name"]: row for row in json.loads(say("data", "list", "--json").out)}
    assert list(rows) == ["digits", "cifar-10", "cifar-100", "folder"]
    assert [rows[name]["found"] for name in rows] == ["embedded", None, None, None]
    assert {form["url"].rsplit("/", 1)[-1] for row in rows.values() for form in row["forms"]} == set(ARCHIVES)
    place = SMALL["cifar-100"].write(here / "data", "python", archive=False)
    rows = {row["name"]: row for row in json.loads(say("data", "list", "--json").out)}
    assert rows["cifar-100"]["found"] == os.path.relpath(place)
    table = say("data", "list").out
    assert os.path.relpath(place) in table
    assert "residual data fetch cifar-10 " in table


@pytest.mark.parametrize(("name", "form"), [("cifar-10", "binary"), ("cifar-100", "python")])
def test_what_was_fetched_can_be_trained_on_at_once(say, here, server, name, form):
    said = say(
        "data", "fetch", name, "--form", form, "--mirror", server.address("bad"), "--mirror", server.address("good")
    )
    archive = SMALL[name].form(form).archive
    assert (said.code, said.err) == (0, "")
    facts, data = ARCHIVES[archive]
    assert said.out == f"{os.path.join('data', archive)} ({len(data):,} bytes, SHA-256 {facts.sha256})\n"
    assert os.listdir(here / "data") == [archive]
    said = say("train", "cifar10-fast", "--set", f"data.dataset={name}", *SETTINGS, "--out", "run", "--log", "plain")
    assert (said.code, said.err) == (0, "")
    assert f"data     {name} (" in said.out
    said = say("evaluate", "run")
    assert (said.code, said.err) == (0, "")


def test_coarse_labels_are_trained_and_judged_as_such(say, here, server):
    assert say("data", "fetch", "cifar-100", "--mirror", server.address("good")).code == 0
    changes = ["--set", "data.dataset=cifar-100", "--set", "data.labels=coarse", *SETTINGS]
    said = say("train", "cifar10-fast", *changes, "--out", "run", "--log", "plain")
    assert (said.code, said.err) == (0, "")
    assert "20 classes" in said.out
    assert "data     cifar-100-coarse (" in said.out
    report = json.loads(say("evaluate", "run", "--json").out)
    assert list(report["classes"])[:2] == ["aquatic_mammals", "fish"]
    assert say("train", "--resume", "run").code == 0


def test_the_place_is_the_one_that_was_named(say, here, server, monkeypatch):
    monkeypatch.setenv("RESIDUAL_MIRRORS", server.address("good"))
    monkeypatch.setenv("RESIDUAL_DATA", str(here / "mine"))
    assert say("data", "fetch", "cifar-10").code == 0
    assert say("data", "fetch", "cifar-10", "--to", here / "other").code == 0
    for folder in ("mine", "other"):
        assert os.listdir(here / folder) == ["cifar-10-binary.tar.gz"]
    assert json.loads(say("data", "list", "--json").out)[1]["found"] == str(here / "mine" / "cifar-10-binary.tar.gz")
    assert say("data", "fetch", "digits").out == "digits needs no download\n"


def test_what_cannot_be_fetched_is_one_line(refused, server, here):
    (here / "data").mkdir()
    refused(2, ["data", "fetch", "cifar"], "no data set is named 'cifar'", "cifar-10")
    refused(2, ["data", "fetch", "cifar-10", "--form", "matlab"], "matlab", "binary", "python")
    refused(2, ["data", "fetch", "cifar-10", "--mirror", "http://example.org"], "no mirror", "https")
    line = refused(3, ["data", "fetch", "cifar-10", "--mirror", server.address("bad")], "HTTP 404", "no connection")
    form = SMALL["cifar-10"].form("binary")
    assert f"({form.size:,} bytes, SHA-256 {form.sha256}) and put it there" in line
    refused(2, ["data", "shw"], "show")
    refused(3, ["train", "cifar10-fast"], "cifar-10 was not found", "`residual data fetch cifar-10`")


def test_progress_is_told_in_plain_lines(monkeypatch, capsys):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("residual.cli.data.time.monotonic", lambda: next(clock))
    form = SMALL["cifar-10"].form("binary")
    with verbs._progress(form) as tell:
        for part in range(0, 11):
            tell(part * form.size // 10)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"{form.archive}: ") and line.endswith(" s left") and "MB/s" in line for line in lines)


@pytest.mark.parametrize("verb", ["list", "fetch", "verify", "show"])
def test_help_describes_every_option(say, verb):
    said = say("data", verb, "--help")
    assert (said.code, said.err) == (0, "")
    text = " ".join(said.out.replace("│", " ").split())
    function = app["data"][verb].default_command
    assert function is not None
    described = inspect.getdoc(function) or ""
    for name in inspect.signature(function).parameters:
        assert f"\n{name}\n" in described
        assert name.upper() in text or f"--{name.replace('_', '-')}" in text


# verify


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("kind", ["binary", "python"])
def test_verify_counts_every_class(say, here, name, kind):
    official = SMALL[name]
    place = official.write(here / "data", kind, archive=kind == "binary")
    for target in (name, place, place.parent):
        found = json.loads(say("data", "verify", target, "--json").out)
        assert found["name"] == name
        assert found["checksums"] == official.form(kind).files
        assert (found["training"], found["test"]) == official.family.images
        names = official.family.labels["fine"]
        training, test = (count // len(names) for count in official.family.images)
        assert found["classes"] == [{"class": word, "training": training, "test": test} for word in names]
    said = say("data", "verify", name)
    assert f"{len(names)} classes" in said.out
    assert all(f"{value}  {file}\n" in said.out for file, value in official.form(kind).files.items())


def test_verify_reads_the_files_and_not_a_copy(say, refused, here):
    place = SMALL["cifar-10"].write(here / "data", "binary", archive=False)
    assert say("train", "cifar10-fast", *SETTINGS, "--out", "run").code == 0
    file = place / "data_batch_4.bin"
    times = file.stat()
    data = bytearray(file.read_bytes())
    data[77] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    refused(3, ["data", "verify", "cifar-10"], "data_batch_4.bin", "does not match", "`residual data fetch cifar-10`")


def altered(path, place=-20):
    """One byte of a file changed, its size and time kept."""
    times, data = path.stat(), bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_verify_looks_at_photographs_anew_and_remembers_what_it_finds(say, refused, here):
    root = photographs(here / "PHOTOS", ["cat", "dog"], 20)
    train = ("train", "PHOTOS/", *SETTINGS, "--log", "plain")
    assert say("data", "verify", "PHOTOS/").code == 0
    (root / "dog" / "003.png").write_bytes(encoded(picture(99, 1)))
    os.utime(root / "dog" / "003.png", ns=(5, 5))
    assert say(*train, "--out", "run").code == 0
    altered(root / "dog" / "003.png", 60)  # in the pixels, which the checksums of a PNG cover
    said = say(*train, "--out", "half")
    line = only_error(said)
    assert (said.code, "dog/003.png" in line, "though size and time of change are" in line) == (3, True, True)
    assert f"`residual data verify {root}`" in line
    said = say("data", "verify", "PHOTOS/")
    assert said.code == 3
    assert "1 of 40 images cannot be used and are left out" in said.err
    assert "dog/003.png" in said.out
    assert "--set" not in said.out + said.err
    refused(3, [*train, "--out", "other"], "dog/003.png", "more than the share")  # it is remembered
    (root / "dog" / "003.png").write_bytes(encoded(picture(98, 1)))
    os.utime(root / "dog" / "003.png", ns=(5, 5))
    said = say("data", "verify", "PHOTOS/", "--json")
    assert said.code == 0
    assert json.loads(said.out)["training"] == 40
    assert say(*train, "--out", "other").code == 0


def test_verify_does_not_call_right_what_cannot_be_used(say, here):
    root = photographs(here / "PHOTOS", ["cat", "dog"], 60)
    assert "every file is right" in say("data", "verify", "PHOTOS/").out
    altered(root / "dog" / "003.png", 60)
    said = say("data", "verify", "PHOTOS/")
    assert said.code == 3
    assert "1 files are not what was found of them before" in said.err
    assert "1 files cannot be used" in said.out
    assert "every file is right" not in said.out
    said = say("data", "verify", "PHOTOS/", "--json")
    assert (said.code, [*json.loads(said.out)["left_out"]]) == (3, ["dog/003.png"])


def test_verify_reads_the_pixels_of_a_pack_and_a_compressed_archive(say, refused, here):
    photographs(here / "PHOTOS", ["cat", "dog"], 4)
    assert say("data", "pack", "PHOTOS", "p.pack").code == 0
    assert say("data", "verify", "p.pack").code == 0
    altered(here / "p.pack", 5000)
    refused(3, ["data", "verify", "p.pack"], "p.pack: cat/", "not those that were packed", "`residual data pack`")
    with tarfile.open(here / "p.tar.gz", "w:gz") as tar:
        tar.add(here / "PHOTOS", "PHOTOS")
    assert say("data", "verify", "p.tar.gz").code == 0
    altered(here / "p.tar.gz", 5000)
    refused(3, ["data", "verify", "p.tar.gz"], "p.tar.gz", "take it again from its source")


def test_verify_of_what_is_not_there(refused, here):
    refused(3, ["data", "verify", "cifar-100"], "cifar-100 was not found")
    refused(2, ["data", "verify", "cifar100"], "did you mean cifar-10")
    refused(3, ["data", "verify", "./nowhere"], "no such folder or file")
    (here / "file.zip").write_bytes(b"PK")
    refused(3, ["data", "verify", "file.zip"], "no data set is recognised here", "unpack the archive")
    refused(3, ["data", "check", "file.zip"], "not an archive that is read here", "unpack it")


def test_verify_the_embedded_digits(say):
    found = json.loads(say("data", "verify", "digits", "--json").out)
    assert (found["training"], found["test"], len(found["classes"])) == (1438, 359, 10)


# show


@pytest.mark.parametrize("target", ["digits", "cifar-10", "cifar-100", "photographs/", "data/cifar-10-batches-py"])
def test_every_data_set_is_shown(say, here, target):
    SMALL["cifar-10"].write(here / "data", "python", archive=False)
    SMALL["cifar-100"].write(here / "data", "binary", archive=True)
    photographs(here / "photographs")
    said = say("data", "show", target, "--set", "batch_size=9", "--out", "batch.png")
    assert (said.code, said.out) == (0, "batch.png\n"), said.err
    with Image.open(here / "batch.png") as picture:
        assert picture.width > 300
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 20
    if target == "digits":
        again = say("data", "show", target, "--set", "batch_size=9", "--out", "batch.png")
        assert again.out == "batch.png\n"
        assert again.err == "info: batch.png of an earlier call will be replaced\n"


def test_a_batch_is_drawn_by_recipe_seed_and_step(say, here):
    def drawn(*arguments):
        assert say("data", "show", "digits", "--set", "batch_size=4", "--out", "x.svg", *arguments).code == 0
        return (here / "x.svg").read_bytes()

    first = drawn()
    assert drawn() == first
    assert drawn("--step", 0, "--seed", 0, "--recipe", "digits") == first
    others = [
        drawn("--step", 1),
        drawn("--seed", 1),
        drawn("--set", "data.augment.shift=0"),
        drawn("--recipe", "cifar10-fast"),
    ]
    assert len({first, *others}) == 5


def test_what_is_shown_is_what_the_network_gets(say, here, monkeypatch):
    """The pixels in the picture are those of the batch at that step of that run, and nothing else is drawn."""
    seen = []

    def spy(images, labels, title, path):
        seen.append((images, labels, title))

    monkeypatch.setattr("residual.cli.batch_shown.draw_sheet", spy)
    assert say("data", "show", "digits", "--step", 5, "--seed", 3, "--set", "batch_size=8").code == 0
    recipe = batch_shown.recipe_shown(verbs.meant("digits"), None, [("batch_size", 8)], 3)
    dataset = datasets.open_dataset(recipe.data)
    division = datasets.divide(dataset, recipe.data)
    constants = measure(dataset.train, division.training, "mean-std")
    batch = Batches(dataset.train, division.training, constants, recipe.data.augment, 8, 3).batch_at(5)
    ((images, labels, title),) = seen
    again = constants.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert torch.allclose(again, batch.images, atol=1e-2)
    assert labels == [str(label) for label in batch.labels.tolist()]
    assert title == "digits, recipe digits, seed 3, step 5"


def test_early_steps_are_shown_at_the_size_that_they_have_in_a_run(say, here, monkeypatch):
    sides = []
    monkeypatch.setattr("residual.cli.batch_shown.draw_sheet", lambda images, *_: sides.append(images.shape[1]))
    SMALL["cifar-10"].write(here / "data", "binary", archive=False)
    changes = ["--set", "data.augment.sizes=[[0.5, 16]]", "--set", "batch_size=8"]
    for length in (["--set", "steps=1000"], ["--recipe", "cifar10-fast", "--set", "epochs=2000"]):
        for step in (1, 499, 10**8):
            assert say("data", "show", "cifar-10", *length, *changes, "--step", step).code == 0
    assert sides == [16, 16, 32] * 2


def test_a_folder_that_a_run_takes_is_shown_with_its_batch_size(say, here):
    photographs(here / "photographs", ["a", "b"], 12)
    said = say("data", "show", "photographs/", "--out", "batch.png")
    assert (said.code, said.out) == (0, "batch.png\n"), said.err
    recipe = batch_shown.recipe_shown(verbs.meant("photographs"), None, [], None)
    assert batch_shown._batches(recipe, [])[1].batch_size == 8


def test_what_cannot_be_shown_is_one_line(refused):
    refused(2, ["data", "show", "digits", "--out", "x.gif"], ".png or .svg")
    refused(2, ["data", "show", "digits", "--step", -1], "--step")
    refused(2, ["data", "show", "digits", "--seed", -1], "seed")
    refused(2, ["data", "show", "digits", "--recipe", "digit"], "digits")
    refused(2, ["data", "show", "digits", "--set", "data.augment.shft=1"], "did you mean shift")
    refused(3, ["data", "show", "cifar-100"], "cifar-100 was not found")
    refused(2, ["data", "show", "folder"], "name its path", "residual data show PHOTOS/")
    refused(2, ["data", "fetch", "folder"], "nobody's to give")
    refused(2, ["data", "show", "digits", "--set", "batch_size=5000"], "fewer than one batch")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_that_lead_out_are_followed_where_that_is_allowed(say, refused, here):
    photographs(here / "elsewhere")
    photographs(here / "photos", ["cat", "dog"])
    (here / "photos" / "owl").symlink_to(here / "elsewhere" / "owl")
    small = ("--set", "network.name=resnet-8", "--set", "network.widths=[4,4,4]", "--set", "data.image_size=16")
    for words in (("data", "verify"), ("data", "show"), ("find-lr",)):
        refused(3, [*words, "photos/"], "--follow-links")
    assert "owl" in say("data", "verify", "photos", "--follow-links").out
    assert say("data", "show", "photos", "--follow-links", "--out", "a.png").code == 0
    said = say("find-lr", "photos/", "--follow-links", *small, "--steps", 10, "--batch-size", 4, "--out", "b.png")
    assert said.code == 0, said.err
