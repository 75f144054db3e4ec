"""A shortage of memory passes and says nothing of an image: it is told as what it is, and never remembered."""

from __future__ import annotations

import json

import pytest
from PIL import ImageFile

from residual.cli.main import run
from residual.data import checking
from residual.data.checking import check
from residual.data.encoded import NoRoom, inspect
from residual.data.examiner import examine
from residual.data.places import scan
from residual.data.stores import FolderStore
from residual.errors import DataError, lacks_memory
from tests.data.photographs import encoded, photographs, picture

SHORTAGES = [MemoryError(), OSError("out of memory error when reading image file")]


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    return photographs(tmp_path / "photos", ["a", "b"], 3)


@pytest.fixture
def shortage(monkeypatch):
    """`shortage(error)`: from now on decoding raises it."""

    def begin(error):
        def load(self):
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", load)

    yield begin
    monkeypatch.undo()


def checked(root):
    files = [file for held in scan(root).parts["all"].values() for file in held.files]
    return {path: verdict.fault for path, verdict in check(FolderStore(root), files, 1).items()}


@pytest.mark.parametrize("error", SHORTAGES, ids=["raised", "told"])
def test_a_shortage_is_told_and_not_kept(root, shortage, monkeypatch, error):
    shortage(error)
    with pytest.raises(
        NoRoom, match=r"out of memory while an image was decoded .*photos.a.000\.jpg\): close"
    ) as caught:
        checked(root)
    assert lacks_memory(caught.value)
    monkeypatch.undo()
    monkeypatch.setenv("RESIDUAL_CACHE", str(root.parent / "cache"))
    assert set(checked(root).values()) == {""}


def test_the_command_ends_with_one_line(root, shortage, capsys):
    shortage(MemoryError())
    assert run(["data", "verify", str(root)]) == 6
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of memory while an image was decoded (")


def test_what_an_earlier_release_kept_is_looked_at_anew(root, monkeypatch):
    def refuse(data, where):
        raise DataError("not a PNG, JPEG or WebP image", where)

    with monkeypatch.context() as patch:
        patch.setattr(checking, "LAYOUT", checking.LAYOUT - 1)
        patch.setattr(checking, "inspect", refuse)
        assert "" not in checked(root).values()
    (kept,) = (root.parent / "cache").glob("checked-*.json")
    assert len(json.loads(kept.read_bytes().splitlines()[1])) == 6
    assert set(checked(root).values()) == {""}


def test_a_check_of_photographs_says_too_large(shortage):
    data = encoded(picture(0))
    shortage(MemoryError())
    found = examine("x.png", data)
    assert (found["kind"], found["fault"]) == ("too large", "decoding needs more memory than is allowed")
    assert len(found["sha256"]) == 64
    with pytest.raises(MemoryError):
        inspect(data, "x.png")
