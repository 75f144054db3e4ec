"""Every image is read once before a run begins; what was found is remembered, and asked again when a file changes."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from residual.data import checking, stores
from residual.data.checking import check as check_store
from residual.data.encoded import inspect
from residual.data.images import decode
from residual.data.places import scan
from residual.data.stores import File, FolderStore
from residual.errors import DataError
from tests.data.photographs import encoded, photographs, picture
from tests.data.test_images import encoded as encode_array


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path, cache):
    return photographs(tmp_path / "photos", count=4)


@pytest.fixture
def looked(monkeypatch):
    """The paths of all files that were read, in order."""
    paths, look = [], checking.look

    def noted(root, file):
        paths.append(file.path)
        return look(root, file)

    monkeypatch.setattr(checking, "look", noted)
    return paths


def check(root, files, **options):
    return check_store(FolderStore(root), files, **options)


def files_of(root):
    return [file for held in scan(root).parts["all"].values() for file in held.files]


def test_what_is_found_is_remembered(root, looked, cache):
    first = check(root, files_of(root))
    assert len(looked) == 12
    assert check(root, files_of(root)) == first
    assert len(looked) == 12
    assert len(list(cache.iterdir())) == 1
    assert {(v.width, v.height, v.grey, v.fault) for v in first.values()} == {(40, 36, False, "")}
    assert len({v.sha256 for v in first.values()}) == 12
    (kept,) = cache.iterdir()
    assert kept.stat().st_size / 12 * 50e6 < checking._LIMIT  # so that of fifty million it can be read again


def test_a_changed_file_is_read_again(root, looked):
    before = check(root, files_of(root))
    path = root / "cat" / "001.png"
    path.write_bytes(encoded(picture(77)))
    os.utime(path, ns=(5, 5))
    after = check(root, files_of(root))
    assert looked[12:] == ["cat/001.png"]
    assert [p for p in before if before[p] != after[p]] == ["cat/001.png"]
    (root / "dog" / "new.png").write_bytes(encoded(picture(78)))
    check(root, files_of(root))
    assert looked[13:] == ["dog/new.png"]


@pytest.mark.parametrize("damage", [b"", b"{}\n{}\n", b"\xff\n", b"[1]\n[]", None])
def test_a_damaged_memory_is_made_again(root, looked, cache, damage):
    right = check(root, files_of(root))
    (kept,) = cache.iterdir()
    data = kept.read_bytes()
    kept.write_bytes(data.replace(b"36,false", b"37,false") if damage is None else damage)
    assert check(root, files_of(root)) == right
    assert len(looked) == 24
    assert kept.read_bytes() == data


def test_without_a_place_to_remember_there_is_one_warning(root, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "file" / "cache"))
    assert len(check(root, files_of(root))) == 12
    assert len(caplog.messages) == 1
    assert "RESIDUAL_CACHE" in caplog.messages[0]


def test_what_was_found_before_a_stop_is_kept(root, looked, monkeypatch):
    monkeypatch.setattr(checking, "_CHUNK", 5)
    calls = []

    def heed():
        calls.append(len(looked))
        if len(calls) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(root, files_of(root), heed=heed)
    assert len(looked) == 5
    check(root, files_of(root))
    assert len(looked) == 12


def test_what_was_found_is_kept_now_and_then(root, looked, monkeypatch, cache):
    """A process that is killed keeps what its last hours have found."""
    monkeypatch.setattr(checking, "_CHUNK", 5)
    now, copies = [0.0], []
    monkeypatch.setattr(checking, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def heed():
        now[0] += 1000
        copies.append({path.name: path.read_bytes() for path in cache.glob("*")})

    check(root, files_of(root), heed=heed)
    assert len(looked) == 12
    for count, left in zip((0, 5, 10), copies, strict=True):
        for path in cache.iterdir():
            path.unlink()
        for name, data in left.items():
            (cache / name).write_bytes(data)
        looked.clear()
        check(root, files_of(root))
        assert len(looked) == 12 - count


def test_a_place_that_cannot_be_written_now_and_then_is_told_once(root, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(checking, "_CHUNK", 5)
    monkeypatch.setattr(checking, "_KEEP", -1.0)
    assert len(check(root, files_of(root))) == 12
    assert len(caplog.messages) == 1


def test_a_file_that_goes_or_changes_after_the_scan_is_named(root):
    files = files_of(root)
    (root / "cat" / "000.jpg").unlink()
    with pytest.raises(DataError, match=r"gone since the folder was scanned .*cat/000\.jpg"):
        check(root, files)
    (root / "cat" / "000.jpg").write_bytes(encoded(picture(5), "JPEG"))
    with pytest.raises(DataError, match=r"changed since the folder was scanned .*cat/000\.jpg"):
        check(root, files)


BAD = {
    "empty": b"",
    "page": b"<!DOCTYPE html><title>404 Not Found</title>",
    "cut": encoded(picture(0, size=(300, 300)), "JPEG")[:9000],
    "cut png": encoded(picture(0))[:2000],
    "photoshop": b"8BPS\0\1" + bytes(200),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "cut gif": encoded(picture(0), "GIF")[:1500],
    "cut tiff": encoded(picture(0), "TIFF")[:1500],
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_said_as_prediction_says_it(tmp_path, cache, name):
    path = tmp_path / "x.jpg"
    path.write_bytes(BAD[name])
    status = path.stat()
    (verdict,) = check(tmp_path, [File("x.jpg", status.st_size, status.st_mtime_ns)]).values()
    assert verdict.fault
    with pytest.raises(DataError) as caught:
        decode(path, 3)
    assert verdict.fault == caught.value.what


def test_what_may_not_be_read_today_is_asked_for_again_tomorrow(root, monkeypatch, looked):
    def refuse(path):
        raise DataError("cannot read: Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(stores, "read_file", refuse)
        verdicts = check(root, files_of(root))
    assert {v.fault for v in verdicts.values()} == {"cannot read: Permission denied"}
    assert {v.fault for v in check(root, files_of(root)).values()} == {""}


def test_many_new_files_are_announced(root, monkeypatch, caplog):
    monkeypatch.setattr(checking, "_MANY", 12)
    with caplog.at_level("INFO", logger="residual"):
        check(root, files_of(root))
        check(root, files_of(root))
    assert caplog.messages == ["checking 12 new images before the first step; later starts remember them"]


@pytest.mark.parametrize(("mode", "grey"), [("1", True), ("L", True), ("LA", True), ("I;16", True), ("RGB", False)])
def test_what_is_stored_as_grey(mode, grey):
    image = picture(0, grey=True)
    data = encode_array(image.convert(mode) if mode != "I;16" else image.convert("I").convert("I;16"), "PNG")
    assert inspect(data, "x") == (40, 36, grey)
