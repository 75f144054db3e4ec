"""What the cache keeps is listed by kind and removed on demand; nothing else is."""

from __future__ import annotations

import json
import os
import time

import pytest

from residual.cli.main import run
from residual.data.cache import cached
from residual.data.digits import read_digits
from residual.data.folder import open_folder
from residual.data.kept import KINDS, clear, kept
from residual.errors import StorageError
from tests.data.photographs import photographs
from tests.data.test_archives import WISHES, packed

OTHERS = ("mine.txt", "archive-of-mine.tar", "digits-notes", ".tmp-old")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with something of every kind, made by the program itself but for the weights, and things of others."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RESIDUAL_CACHE", str(folder))
    open_folder(packed(photographs(tmp_path / "photos", count=3), tmp_path / "x.tar.gz", "w:gz"), WISHES)
    cached("digits", {"n": 1}, read_digits)
    (folder / "weights").mkdir()
    (folder / "weights" / "resnet18-f37072fd.pth").write_bytes(bytes(500))
    for name in OTHERS:
        (folder / name).write_text("mine")
    return folder


def test_everything_of_ours_is_listed_by_kind(cache):
    found = kept()
    assert {one.kind for one in found} >= {"data sets", "archives", "findings", "weights"}
    assert {one.path.name for one in found}.isdisjoint(OTHERS)
    copy = next(one for one in found if one.path.suffix == ".tar")
    assert copy.size == copy.path.stat().st_size
    digits = next(one for one in found if one.kind == "data sets")
    assert digits.size == sum(file.stat().st_size for file in digits.path.iterdir()) > 100_000
    ours = {path.name for path in cache.iterdir()} - {*OTHERS, "weights"}
    assert {one.path.name for one in found if one.kind != "weights"} == ours


def test_what_was_removed_is_made_again(cache, tmp_path):
    before = open_folder(tmp_path / "x.tar.gz", WISHES).checksums
    assert clear(kept()) != []
    assert {path.name for path in cache.iterdir()} == {*OTHERS, "weights"}
    assert kept() == []
    assert open_folder(tmp_path / "x.tar.gz", WISHES).checksums == before
    assert kept() != []


def test_only_what_lay_unused(cache):
    old = time.time() - 40 * 86_400
    file = next(one for one in kept() if one.kind == "weights").path
    os.utime(file, (old, old))
    assert [one.path for one in kept(unused=30)] == [file]
    assert kept(unused=50) == []
    assert [one.path for one in clear(kept(unused=30))] == [file]
    assert not file.exists()


def test_weights_of_a_persons_own_stay(cache):
    mine = {"best.pth", "resnet18.safetensors", "notes.txt", "resnet18-f37072fd.pth.bak", "my-0123abcd.bin"}
    for name in mine:
        (cache / "weights" / name).write_bytes(b"mine")
    assert [one.path.name for one in kept() if one.kind == "weights"] == ["resnet18-f37072fd.pth"]
    clear(kept())
    assert {path.name for path in (cache / "weights").iterdir()} == mine


def test_what_killed_writers_left_is_listed_and_removed(cache):
    files = {
        "archive-0123456789abcdef.tar": "archives",
        "checked-0123456789abcdef.json": "findings",
        "weights/resnet18-f37072fd.pth": "weights",
    }
    folders = ("cifar-10-0123456789abcdef-77", "old-digits-0123456789abcdef-77-0123abcd", "digits-0123456789abcdef-7")
    halves, others = {}, []
    for name, kind in files.items():
        for start in ("77", "77-0123abcd", "78"):
            path = cache / name
            halves[path.with_name(f".tmp-{start}-{path.name}")] = kind
    for name in folders:
        halves[cache / f".tmp-{name}"] = "data sets"
    for path, kind in halves.items():
        if kind == "data sets":
            path.mkdir()
            (path / "half").write_bytes(bytes(700))
        else:
            path.write_bytes(bytes(700))
        if path.name.startswith(".tmp-78"):
            others.append(path)  # whose writer is at work
        else:
            os.utime(path, (0, 0))
    for name in (".tmp-77-mine.tar", ".tmp-mine-archive-0123456789abcdef.tar"):
        others.append(cache / name)
        others[-1].write_bytes(b"mine")
        os.utime(others[-1], (0, 0))
    found = {one.path: one.kind for one in kept() if one.path in halves}
    assert found == {path: kind for path, kind in halves.items() if path not in others}
    clear(kept())
    assert {path for path in (*halves, *others) if path.exists()} == {*others}


def test_the_command_lists_and_clears(cache, capsys):
    assert run(["data", "cache", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["folder"] == str(cache)
    assert len(table["kept"]) == len(kept())
    assert run(["data", "cache"]) == 0
    out = capsys.readouterr().out
    assert all(kind in out for kind in KINDS)
    assert run(["data", "cache", "--clear", "archives"]) == 0
    assert "removed  2 of" in capsys.readouterr().out
    assert not list(cache.glob("archive-????????????????.*"))
    assert (cache / "archive-of-mine.tar").exists()
    assert run(["data", "cache", "--clear", "all", "--unused", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["removed"] == []
    assert run(["data", "cache", "--unused", "-1"]) == 2
    assert "--unused" in capsys.readouterr().err


def test_an_empty_cache_is_empty(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "nowhere"))
    assert kept() == []
    assert run(["data", "cache", "--clear", "all"]) == 0
    assert "removed  0 of 0" in capsys.readouterr().out


def test_what_cannot_be_removed_is_told(cache, monkeypatch):
    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(StorageError, match="it stays: permission denied"):
        clear([one for one in kept() if one.kind == "weights"])
