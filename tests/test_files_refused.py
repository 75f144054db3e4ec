"""Every call by which a file reaches the disk is made to fail in turn: what stays is the former, or whole."""

import errno
import os
import sys
import time

import pytest

from residual.errors import StorageError
from residual.files import Appender, read_lines, remove_folder, replace_file
from residual.sealed import read_folder, write_folder

CALLS = ["open", "write", "fsync", "close", "replace", "rename"]
AFTER_RENAME = ["open", "fsync", "close"]  # making a rename durable is the last thing done
CONTENTS = {"weights": bytes(range(256)) * 20, "note.json": b"{}\n", "empty": b""}
FACTS = {"step": 7}


def fail_at(patch, name, number, code):
    """The `number`-th call of os.<name> fails; the number of calls made is counted."""
    real, counted = getattr(os, name), [0]

    def failing(*arguments, **options):
        counted[0] += 1
        if counted[0] != number:
            return real(*arguments, **options)
        if name == "close":
            real(*arguments, **options)
        raise OSError(code, os.strerror(code))

    patch.setattr(os, name, failing)
    return counted


def refuse_each_call(action, look):
    """Do `action` with each call refused in turn, until it runs through; `look(told)` judges what is left.

    The answer is how often each call was refused.
    """
    met = dict.fromkeys(CALLS, 0)
    for name in CALLS:
        for code in (errno.EIO, errno.ENOSPC):
            for number in range(1, 100):
                told = False
                with pytest.MonkeyPatch.context() as patch:
                    counted = fail_at(patch, name, number, code)
                    try:
                        action()
                    except StorageError:
                        told = True
                assert told == (counted[0] >= number), f"call {number} of os.{name}"
                look(told, name)
                if not told:
                    met[name] = number - 1
                    break
    return met


def test_replacing_a_file_is_all_or_nothing(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b"former")
    found = []

    def look(told, name):
        assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
        assert path.read_bytes() in (b"former", b"latter")
        if path.read_bytes() == b"latter" and told:
            found.append(name)
        assert told or path.read_bytes() == b"latter"
        path.write_bytes(b"former")

    met = refuse_each_call(lambda: replace_file(path, b"latter"), look)
    assert met == {"open": 2, "write": 1, "fsync": 2, "close": 2, "replace": 1, "rename": 0}
    assert found == [name for name in AFTER_RENAME for _ in range(2)]


def test_writing_a_folder_is_all_or_nothing(tmp_path):
    folder = tmp_path / "step-7"
    found = []

    def look(told, name):
        assert [entry.name for entry in tmp_path.iterdir()] == ([folder.name] if folder.exists() else [])
        if folder.exists():
            assert read_folder(folder, "checkpoint") == (FACTS, CONTENTS)
            found.extend([name] if told else [])
        assert told or folder.exists()
        remove_folder(folder)

    met = refuse_each_call(lambda: write_folder(folder, CONTENTS, "checkpoint", FACTS), look)
    files, folders = len(CONTENTS) + 1, 2  # the manifest is a file too; the folder and its parent are synced
    assert met["open"] >= files + folders
    assert (met["fsync"], met["write"], met["rename"]) == (files + folders, files - 1, 1)
    assert found == [name for name in AFTER_RENAME for _ in range(2)]


@pytest.mark.parametrize("write", [replace_file, lambda path, _: write_folder(path, CONTENTS, "checkpoint", FACTS)])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch, write):
    fail_at(monkeypatch, "mkdir", 1, errno.ENOSPC)
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path / "absent" / "name", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_short_write_is_completed(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    replace_file(tmp_path / "file", CONTENTS["weights"])
    assert (tmp_path / "file").read_bytes() == CONTENTS["weights"]


def test_records_before_a_refused_line_stay(tmp_path, monkeypatch):
    book = Appender(tmp_path / "records.jsonl")
    book.append({"step": 1})
    before = book.length, book.sha256
    fail_at(monkeypatch, "write", 1, errno.ENOSPC)
    with pytest.raises(StorageError, match="No space left"):
        book.append({"step": 2})
    fail_at(monkeypatch, "fsync", 1, errno.EIO)
    with pytest.raises(StorageError, match="Input/output"):
        book.sync()
    book.close()
    assert (book.length, book.sha256) == before
    assert read_lines(tmp_path / "records.jsonl") == [{"step": 1}]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only; name another folder with --out"),
        (errno.EACCES, "you may not write there"),
        (errno.EPERM, "you may not write there"),
        (errno.ENAMETOOLONG, "the name is too long"),
        (errno.EIO, "check the disk"),
    ],
)
def test_a_refusal_comes_with_advice(tmp_path, monkeypatch, code, advice):
    fail_at(monkeypatch, "write", 1, code)
    with pytest.raises(StorageError, match=advice) as caught:
        replace_file(tmp_path / "file", b"x")
    assert str(caught.value).startswith(f"cannot write: {os.strerror(code)} ({tmp_path / 'file'})")
    assert caught.value.exit_code == 5


def test_on_windows_who_holds_a_folder_is_waited_for_half_a_minute_where_it_must_go(tmp_path, monkeypatch):
    waited: list[float] = []

    def held(old, new):
        raise PermissionError(13, "in use")

    write_folder(tmp_path / "a", CONTENTS, "checkpoint", FACTS)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "rename", held)
    monkeypatch.setattr(time, "sleep", waited.append)
    with pytest.raises(StorageError, match="in use"):
        remove_folder(tmp_path / "a", patient=False)
    assert waited == []
    with pytest.raises(StorageError, match="in use"):
        remove_folder(tmp_path / "a")
    assert 25 < sum(waited) < 60
