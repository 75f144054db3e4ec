"""Studies are found beside the runs: their kind, how far they are, and the command that goes on with them."""

import json
import sys

import pytest

from residual.files import canonical
from residual.runs.studies import list_studies

BEGUN = {"format": 1, "recipe": {"name": "digits"}}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def put(folder, finished=False, command=None):
    folder.mkdir(parents=True)
    (folder / "run.json").write_bytes(canonical(BEGUN if command is None else BEGUN | {"command": command}))
    if finished:
        (folder / "result.json").write_bytes(b"{}")


def note(path, **facts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(canonical({"format": 1, "recipe": {"name": "digits"}, **facts}))


def shown(root):
    return {row["study"]: (row["kind"], row["finished"], row["runs"], row["command"]) for row in list_studies(root)}


def test_no_study(root):
    assert list_studies(root) == []
    put(root / "digits-1")
    put(root / "earlier" / "digits-1")
    (root / "empty" / "more").mkdir(parents=True)
    (root / "file").write_text("")
    put(root / "mine" / "seed-0", True, "/v/bin/python -m residual train digits --out runs/mine/seed-0")
    put(root / "more" / "arm" / "seed-0", True, "residual train digits --out runs/mine/seed-0")
    put(root / ".tmp-seeds-1-2" / "seed-0")
    assert list_studies(root) == []


def test_seeds(root):
    asked = "/v/bin/python /v/bin/residual study seeds digits --seeds 3 --set 'data.path=my data'"
    put(root / "seeds-digits" / "seed-0", True, asked)
    put(root / "seeds-digits" / "seed-1", False, asked)
    put(root / "mine" / "seed-7")
    command = "residual study seeds digits --seeds 3 --set 'data.path=my data'"
    assert shown(root) == {
        "seeds-digits": ("seeds", 1, 2, command),
        "mine": ("seeds", 0, 1, f"residual study seeds digits --out {root / 'mine'}"),
    }
    note(root / "seeds-digits" / "study.json", kind="seeds", recipe="digits")
    assert shown(root)["seeds-digits"] == ("seeds", 1, 2, command)


def test_on_windows_a_stored_command_is_shown_as_its_shell_takes_it(root, monkeypatch):
    put(root / "seeds-digits" / "seed-0", True, "residual study seeds digits --set 'data.path=my data'")
    monkeypatch.setattr(sys, "platform", "win32")
    assert shown(root)["seeds-digits"][3] == 'residual study seeds digits --set "data.path=my data"'


@pytest.mark.parametrize(
    ("stored", "command"),
    {
        "python -m residual study units --depth 20": "residual study units --depth 20",
        "residual study units": "residual study units",
        "python units.py": "python units.py",
        "python 'it": "python 'it",
    }.items(),
)
def test_arms(root, stored, command):
    for arm in ("plain-20", "resnet-20"):
        for seed in (0, 1):
            put(root / "units-digits" / arm / f"seed-{seed}", arm == "plain-20", stored)
        note(root / "units-digits" / arm / "study.json", kind="seeds", recipe="digits")
    assert shown(root) == {"units-digits": ("arms", 2, 4, command)}


def test_a_folder_of_seeds_is_no_study_of_arms(root, tmp_path):
    put(root / "seeds-digits" / "seed-0", True, "residual study seeds digits")
    assert list_studies(tmp_path) == []


def test_searches_and_comparisons(root):
    note(root / "a" / "study.json", name="a b", algorithm={"name": "ga"}, space={})
    (root / "a" / "study.sqlite3").write_bytes(b"")
    put(root / "a" / "trial-0000", True)
    note(root / "b" / "study.json", name="b", algorithm={"name": "ga"}, space={})
    note(root / "c" / "comparison.json", name="c", kind="comparison")
    put(root / "c" / "default-0-0")
    assert shown(root) == {
        "a b": ("search", 1, 1, "residual study show 'a b'"),
        "b": ("search", 0, 0, "residual study show b --storage ADDRESS"),
        "c": ("comparison", 0, 1, "residual study compare --study c"),
    }
    assert list_studies(root)[0]["path"] == str(root / "a")


def test_studies_of_another_folder_are_reached_from_here(root, tmp_path):
    note(tmp_path / "old" / "c" / "comparison.json", name="c")
    command = f"RESIDUAL_RUNS={tmp_path / 'old'} residual study compare --study c"
    assert shown(tmp_path / "old")["c"][3] == command


@pytest.mark.parametrize("text", ["{", "[]", '{"name": 3}', json.dumps({"name": "x", "recipe": "digits"})])
def test_a_damaged_study_is_named_and_hides_no_other(root, text):
    note(root / "a" / "comparison.json", name="a")
    (root / "b").mkdir()
    (root / "b" / "study.json").write_text(text)
    put(root / "c" / "seed-0")
    (root / "c" / "seed-0" / "run.json").write_text("{")
    rows = {row["study"]: row for row in list_studies(root)}
    assert rows["a"]["kind"] == "comparison"
    assert set(rows["b"]) == set(rows["c"]) == {"study", "damaged"}
