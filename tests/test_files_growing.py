"""A file that is written in parts has its name only when it is whole, whatever stops the writing."""

import os

import pytest

from residual.errors import StorageError
from residual.files import TEMPORARY, growing_file, new_folder, remove_folder, remove_forgotten, replace_file


def test_the_name_appears_with_the_last_byte(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    with growing_file(path) as write:
        for part in (b"one", b"", b"two" * 10_000):
            write(part)
            assert not path.exists()
    assert path.read_bytes() == b"one" + b"two" * 10_000
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("before", [None, b"old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_what_was_there(tmp_path, before, error):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)

    def interrupted():
        with growing_file(path) as write:
            write(b"new")
            raise error

    with pytest.raises(error):
        interrupted()
    expected = {} if before is None else {"file": before}
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_disk_that_refuses_leaves_nothing(tmp_path, monkeypatch, call):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StorageError, match="No space left on device"), growing_file(tmp_path / "file") as write:
        write(b"new")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []


def test_writers_of_one_number_do_not_take_each_others_files(tmp_path, monkeypatch):
    """So it is with processes of two containers that share a folder."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path, folder = tmp_path / "file", tmp_path / "folder"
    with growing_file(path) as write:
        write(b"one ")
        with growing_file(path) as other:
            other(b"two")
            replace_file(path, b"three")
            assert path.read_bytes() == b"three"
            assert len([*tmp_path.glob(f"{TEMPORARY}1-*")]) == 2
        assert path.read_bytes() == b"two"
        write(b"whole")
    assert path.read_bytes() == b"one whole"
    left = tmp_path / f"{TEMPORARY}folder-1"
    left.mkdir()
    new_folder(folder, {"a": b"1"})
    remove_folder(folder)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == [left.name]


def test_what_killed_writers_left_is_found_by_old_and_new_names(tmp_path):
    names = [f"{TEMPORARY}77-archive-a.tar", f"{TEMPORARY}77-0123abcd-archive-a.tar", f"{TEMPORARY}mine-archive-a.tar"]
    for name in (*names, f"{TEMPORARY}78-0123abcd-archive-a.tar"):
        (tmp_path / name).write_bytes(b"half")
    for name in names:
        os.utime(tmp_path / name, (0, 0))
    remove_forgotten(tmp_path, "archive-*")
    assert sorted(os.listdir(tmp_path)) == [f"{TEMPORARY}78-0123abcd-archive-a.tar", f"{TEMPORARY}mine-archive-a.tar"]


def test_an_empty_part_says_that_the_writer_is_at_work(tmp_path):
    path = tmp_path / "file"
    with growing_file(path) as write:
        (half,) = tmp_path.iterdir()
        os.utime(half, (0, 0))
        write(b"")
        remove_forgotten(tmp_path, "file")
        write(b"whole")
    assert path.read_bytes() == b"whole"
