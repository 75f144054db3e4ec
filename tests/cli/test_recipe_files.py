"""Recipe files as people and machines spoil them."""

from __future__ import annotations

import os

import pytest

from residual.training.recipe import read_recipe
from residual.training.recipes import RECIPES, find_recipe
from tests.cli.conftest import SIX, TINY

DIGITS = RECIPES["digits"].to_toml()

BAD = {
    "yaml": (b"epochs: 3\nnetwork:\n  name: resnet-8\n", ["not TOML", "line 1, column 7"]),
    "yaml object": (b'!!python/object/apply:os.system ["touch pwned"]\n', ["not TOML", "line 1, column 1"]),
    "key twice": (b"epochs = 1\nseed = 1\nseed = 2\n", ["not TOML", "line 3"]),
    "table twice": (b"epochs = 1\n[data]\n[data]\n", ["not TOML", "line 3"]),
    "Latin-1": ('epochs = 1\nsource = "é"\n'.encode("latin-1"), ["not UTF-8", "line 2, column 11"]),
    "UTF-16": ("epochs = 1\n".encode("utf-16")[:-1], ["not UTF-16", "line 1, column 11"]),
    "zero bytes": (b"epochs = 1\x00\n", ["not TOML", "line 1"]),
    "zero byte in a path": (b'epochs = 1\n[data]\npath = "a\\u0000b"\ndataset = "cifar-10"\n', []),
    "deep nesting": (b"epochs = " + b"[" * 5000, ["not TOML"]),
    "deep path": (b".".join([b"a"] * 5000) + b" = 1", []),
    "number of 5000 digits": (b"epochs = " + b"9" * 5000, ["not TOML"]),
    "empty": (b"", ["needs a length", "epochs or steps"]),
    "unknown key": (b"epochs = 1\nsede = 3\n", ["sede is 3", "did you mean seed"]),
    "unknown key of a group": (b"epochs = 1\n[network]\nnme = 3\n", ["network.nme", "did you mean name"]),
    "unknown group": (b"epochs = 1\n[optimizer]\nmomentum = 0\n", ["optimizer", "did you mean optimiser?"]),
    "schedule without kind": (b"epochs = 1\n[schedule]\nrate = 1\n", ["schedule.kind", "one-cycle"]),
    "newer format": (b"format = 2\nepochs = 1\n", ["format is 2", "install the release"]),
    "several faults": (b"epochs = 0\nseed = -1\n[loss]\nlabel_smoothing = 2\n", ["epochs", "seed", "label_smoothing"]),
    "infinite": (b"epochs = inf\n", ["epochs is inf", "finite"]),
    "date": (b"epochs = 2024-01-01\n", ["epochs", "number"]),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_a_bad_recipe_file_is_refused_with_the_place(refused, here, content, words):
    (here / "mine.toml").write_bytes(content)
    line = refused(3 if b"u0000" in content else 2, ["train", "mine.toml"], *words)
    assert len(line) < 2000
    if b"u0000" not in content:
        assert "mine.toml" in line or "settings" in line


@pytest.mark.parametrize("name", ["mine.yaml", "mine.yml", "mine.json"])
def test_other_languages_are_refused_unread(refused, here, name):
    (here / name).write_text("a: &a [x, x]\nb: &b [*a, *a]\n")
    refused(2, ["train", name], "recipes are TOML files", name, "residual recipes digits")


def test_a_huge_file_is_refused_unread(refused, here):
    with open(here / "huge.toml", "wb") as file:
        file.truncate(100 << 20)
    refused(2, ["train", "huge.toml"], "104,857,600 bytes", "huge.toml", "at most 1 MiB")


@pytest.mark.parametrize("name", ["/dev/zero.toml", "nosuch.toml", "no/such"])
def test_an_absent_file(refused, name):
    refused(2, ["train", name], "no such recipe file", name, "check the name")


def test_what_is_no_file_is_never_opened(refused, here):
    (here / "folder.toml").mkdir()
    os.mkfifo(here / "pipe.toml")
    os.symlink("/dev/zero", here / "zero.toml")
    for name in ("folder.toml", "pipe.toml", "zero.toml"):
        refused(2, ["train", name], "not a regular file", name)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b" = ", b"\t=\t"),
        lambda data: data.rstrip(b"\n"),
    ],
    ids=["BOM", "CRLF", "tabs", "no last line feed"],
)
def test_what_editors_leave_behind_works(here, change):
    path = here / "mine.toml"
    path.write_bytes(change(DIGITS.encode()))
    assert read_recipe(path) == RECIPES["digits"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_printed_recipe_is_the_recipe(say, here, name):
    said = say("recipes", name)
    assert (said.code, said.err) == (0, "")
    (here / "f.toml").write_text(said.out)
    assert find_recipe("f.toml") == RECIPES[name]


def test_a_run_from_a_printed_recipe_stores_that_recipe(say, here):
    (here / "f.toml").write_text(say("recipes", "digits").out)
    named, from_file = (*SIX, "--out", "a"), ("train", "f.toml", *SIX[2:], "--out", "b")
    assert say(*named).code == say(*from_file).code == 0
    stored = (here / "a" / "recipe.toml").read_bytes()
    assert (here / "b" / "recipe.toml").read_bytes() == stored
    assert say("train", "b/recipe.toml", "--log", "plain", "--out", "c").code == 0
    assert (here / "c" / "recipe.toml").read_bytes() == stored
    assert say("runs", "a", "c", "--json").out.count('"recipe.') == 0  # no setting differs


def test_an_edited_recipe_of_a_run_is_refused_on_resume(refused, unfinished):
    path = unfinished / "recipe.toml"
    path.write_text(path.read_text().replace("seed = 0", "seed = 1"))
    refused(2, ["train", "--resume", "run"], "recipe.toml was changed", "start a new run")


def test_no_run_begins_without_its_data(refused, here):
    line = refused(3, [*TINY, "--data", "nosuch"], "nosuch")
    assert "--data" in line
    refused(3, ["train", "cifar10-fast", "--data", "nosuch"], "no such folder or file", "nosuch", "--data")
