"""Where a run may be written, and what names it may have."""

from __future__ import annotations

import os
import shlex

import pytest

from residual.analysis.style import is_ours
from residual.cli.drawing import draw_run
from residual.runs.folder import RunFolder
from tests.cli.conftest import SIX, TINY, only_error, photograph

THREE = (*TINY, "--set", "steps=3")


def test_a_run_is_never_overwritten(refused, finished):
    refused(2, [*SIX, "--out", finished], "a run stands there already", "run", "--resume", "another --out")


def test_no_other_folder_or_file_is_overwritten(refused, here):
    (here / "folder").mkdir()
    (here / "folder" / "thesis.tex").write_text("three years of work")
    (here / "file").write_text("the same")
    os.symlink("nowhere", here / "link")
    for name in ("folder", "file", "link", "/dev/null", "", "."):
        refused(2, [*SIX, "--out", name], "the output folder is not empty or not a folder", "name another --out")


def test_an_empty_folder_is_taken(say, here):
    (here / "empty").mkdir()
    assert say(*THREE, "--out", "empty").code == 0
    assert RunFolder(here / "empty").result() is not None


@pytest.mark.parametrize("place", ["file/x", "file/x/y", "/dev/null/x", "/proc/x", "/proc/self/x/y", "x" * 4096])
def test_a_place_where_nothing_can_be_written(refused, here, place):
    (here / "file").write_text("a file")
    unmade = "/proc" not in place
    said = refused(2 if unmade else 5, [*SIX, "--out", place], "cannot" if not unmade else "can be made", "--out")
    assert place[:50] in said
    assert len(said) < 500


def test_a_deep_name_of_4096_letters(refused):
    refused(2, [*SIX, "--out", "/".join(["abcdefg"] * 512)], "file name too long", "4095 characters", "--out")


def test_a_place_that_may_not_be_written(refused, here):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (here / "closed").mkdir(mode=0o500)
    refused(5, [*SIX, "--out", "closed/run"], "closed/run", "you may not write there", "--out")


def test_no_run_lies_inside_the_data(refused, say, cifar, here):
    (here / "data").mkdir()
    os.symlink(cifar, here / "data" / cifar.name)
    tiny = ["train", "cifar10-fast", *THREE[2:], "--data", "data"]
    before = sorted(os.listdir(cifar))
    refused(2, [*tiny, "--out", f"data/{cifar.name}/run"], "inside the data", "--out")
    refused(2, [*tiny, "--out", cifar / "deep" / "run"], "inside the data", "--out")
    assert sorted(os.listdir(cifar)) == before
    assert say(*tiny, "--out", "data/run").code == 0  # beside the images, not among them


NAMES = ["two words", 'it\'s "$HOME;ls" *', "é☃", "a\nb", "esc\x1b[31m", "-x", "--debug", "x" * 200, "[red]"]


@pytest.mark.parametrize("name", ['it\'s "$HOME;ls" *', "a\nb", "esc\x1b[31m", os.fsdecode(b"\xff\xfe")], ids=ascii)
def test_a_run_of_any_name_is_drawn(finished, here, name, pictures):
    folder = RunFolder(finished.rename(name))
    assert draw_run(folder) == folder.curves_path
    assert is_ours(folder.curves_path)


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"\xff\xfe")], ids=ascii)
def test_any_name_will_do(say, here, name):
    said = say(*THREE, f"--out={name}")
    assert (said.code, said.err) == (0, "")
    assert RunFolder(here / name).result() is not None
    assert all(character.isprintable() or character == "\n" for character in said.out)
    assert say("evaluate", "--", name).code == 0
    assert say("runs", ".").code == 0
    assert say("train", f"--resume={name}", "--log", "json").code == 0


@pytest.mark.parametrize("name", ["it's two $HOME", "-x"])
def test_the_next_commands_can_be_pasted_into_a_shell(say, name):
    said = say(*THREE, f"--out={name}")
    command = said.out.split("next     residual ")[1].split("\n")[0]
    assert say(*shlex.split(command)).code == 0


LONG = "n" * 4096


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", LONG],
        ["train", f"{LONG}.toml"],
        ["train", "--resume", LONG],
        ["train", "cifar10-fast", "--data", LONG],
        ["evaluate", LONG],
        ["predict", "run", LONG],
        ["predict", "run", "nosuch.png"],
        ["predict", LONG, "x.png"],
        ["runs", LONG],
        ["runs", LONG, LONG],
        ["curves", LONG],
        ["curves", "run", "--out", f"{LONG}.png"],
        ["samples", LONG],
        ["models", LONG],
        ["recipes", LONG],
        ["train", "--set", f"{LONG}=1"],
        ["train", "--set", f"source={LONG}", "--set", f"source={LONG}x"],
        ["train", "--network", LONG],
        ["train", f"--{LONG}"],
    ],
    ids=lambda arguments: " ".join(arguments).replace(LONG, "LONG"),
)
def test_a_name_of_4096_letters_is_one_line(say, finished, here, arguments):
    before = photograph(here)
    said = say(*arguments)
    assert said.code in (2, 3, 5)
    only_error(said)
    assert photograph(here) == before


def test_nobodys_home(say):
    said = say(*THREE, "--out", "~nosuchuser/run")
    assert said.code == 2
    assert "no home folder" in only_error(said)


def test_two_runs_without_a_name_take_two_numbers(say, here, monkeypatch):
    """Another process takes the number between the look and the creation."""
    from residual.training import places

    numbers = iter(["runs/digits-1", "runs/digits-1", "runs/digits-2"])
    monkeypatch.setattr(places, "create_numbered", lambda _: here / next(numbers))
    assert say(*THREE).code == say(*THREE).code == 0
    assert {entry.name for entry in (here / "runs").iterdir()} == {"digits-1", "digits-2"}


ENVIRONMENTS = {
    "no home, no temporary folder": {"HOME": None, "TMPDIR": "/nonexistent", "XDG_CACHE_HOME": None},
    "home is a file, no PATH": {"HOME": "/dev/null", "RESIDUAL_CACHE": None, "PATH": ""},
}


@pytest.mark.parametrize("env", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_a_poor_environment_is_no_obstacle(residual_cli, here, env):
    done = residual_cli(*THREE, "--out", "run", env={"OMP_NUM_THREADS": "1", **env})
    assert (done.returncode, done.stderr) == (0, "")
    assert RunFolder(here / "run").result() is not None


def test_a_narrow_umask_is_kept(say, here):
    before = os.umask(0o077)
    try:
        assert say(*THREE, "--out", "run").code == 0
    finally:
        os.umask(before)
    made = [here / "run", *(here / "run").rglob("*")]
    assert [str(path) for path in made if path.stat().st_mode & 0o077] == []
