"""A verified copy serves the second start; whatever is wrong with it, the data set is still the right one."""

import os
import sys
from pathlib import Path

import pytest
import torch

from residual.data.cache import cache_folder, cached
from residual.data.cifar import read_cifar10
from residual.data.published import stamps
from residual.data.source import everything
from residual.errors import DataError, StorageError
from tests.data.official_layout import FILES, checksums, write_files


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path / "files")


class Reader:
    """The data set in small as `open_dataset` asks for it; counts how often the files themselves are read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.times = folder, 0

    def read(self):
        self.times += 1
        return read_cifar10(self.folder, checksums())

    def open(self):
        return cached("small", {"files": stamps(self.folder, checksums())}, self.read)


def same(one, other):
    pairs = [(one.train, other.train), (one.test, other.test)]
    tensors = all(
        torch.equal(a.read(everything(a)), b.read(everything(b))) and torch.equal(a.labels, b.labels) for a, b in pairs
    )
    names = ("name", "class_names", "channels", "image_size", "checksums", "origin")
    return tensors and all(getattr(one, name) == getattr(other, name) for name in names)


def test_the_second_start_reads_the_copy(cache, files, caplog):
    reader = Reader(files)
    first, second = reader.open(), reader.open()
    assert reader.times == 1
    assert same(first, second)
    assert caplog.messages == []
    assert len(list(cache.iterdir())) == 1


def test_a_damaged_copy_is_made_again_with_one_warning(cache, files, caplog):
    reader = Reader(files)
    right = reader.open()
    (copy,) = cache.iterdir()
    for path in sorted(copy.iterdir()):
        caplog.clear()
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4]) + data[len(data) // 2 + 1 :])
        before = reader.times
        assert same(reader.open(), right)
        assert same(reader.open(), right)
        assert reader.times == before + 1
        assert len(caplog.messages) == 1
        assert caplog.messages[0].startswith("the cached copy is set aside and made again: ")
        assert list(cache.iterdir()) == [copy]


def test_a_source_file_that_was_replaced_is_read_again(cache, files):
    reader = Reader(files)
    reader.open()
    path = files / "data_batch_2.bin"
    os.utime(path, ns=(1, 1))
    reader.open()
    assert reader.times == 2
    path.write_bytes(FILES["data_batch_3.bin"])
    with pytest.raises(DataError, match=r"data_batch_2\.bin .* does not match"):
        reader.open()
    path.unlink()
    with pytest.raises(DataError, match=r"missing .*data_batch_2\.bin"):
        reader.open()


def test_without_a_place_for_the_copy_there_is_one_warning(tmp_path, files, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "file" / "cache"))
    reader = Reader(files)
    assert same(reader.open(), reader.read())
    assert len(caplog.messages) == 1
    assert "the data set is not cached: cannot write: Not a directory" in caplog.messages[0]
    assert caplog.messages[0].endswith("set RESIDUAL_CACHE")


def test_a_file_in_place_of_the_copy_stays(cache, files, caplog):
    reader = Reader(files)
    right = reader.open()
    (copy,) = cache.iterdir()
    for path in copy.iterdir():
        path.unlink()
    copy.rmdir()
    copy.write_text("mine")
    assert same(reader.open(), right)
    assert copy.read_text() == "mine"
    assert len(caplog.messages) == 1


def test_the_copy_of_another_data_set_is_not_taken(cache, files, tmp_path):
    reader, other = Reader(files), Reader(write_files(tmp_path / "other"))
    os.utime(other.folder / "data_batch_1.bin", ns=(1, 1))
    reader.open()
    other.open()
    assert other.times == 1
    assert len(list(cache.iterdir())) == 2


# Where the copy is kept


def test_the_place_that_was_named_is_taken(monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", "some/where")
    assert cache_folder() == Path("some/where")


@pytest.mark.skipif(sys.platform != "linux", reason="the places of Linux")
def test_the_places_of_the_system(monkeypatch):
    monkeypatch.delenv("RESIDUAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/residual")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/residual")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the password file")
def test_a_user_without_a_home_is_told_the_way_out(monkeypatch, files, caplog):
    import pwd

    def unknown(number):
        raise KeyError(number)

    for name in ("RESIDUAL_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache_folder() == Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache" / "residual"
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(StorageError, match="set RESIDUAL_CACHE to a folder you may write"):
        cache_folder()
    reader = Reader(files)
    assert len(reader.open().train) == 20
    assert len(caplog.messages) == 1
