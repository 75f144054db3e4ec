"""A file that is written in parts has its name only when it is whole, whatever stops the writing."""

import os

import pytest

from residual.errors import StorageError
from residual.files import growing_file


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
