"""Photographs inside archives: read as from the folder they were made from, and no archive is trusted."""

from __future__ import annotations

import gzip
import io
import os
import tarfile

import pytest
import torch

from residual.data import archives
from residual.data.datasets import open_dataset, recognise
from residual.data.folder import Wishes, open_folder
from residual.data.places import holds_photographs, scan
from residual.data.source import FileSource, everything
from residual.errors import DataError, StorageError
from tests.data.photographs import divided, encoded, photographs, picture

IMAGE = encoded(picture(0))
WISHES = Wishes(image_size=32)


def written(path, members, mode="w"):
    """An archive of (name, bytes) or (name, TarInfo fields)."""
    with tarfile.open(path, mode, format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                for field, value in content.items():
                    setattr(info, field, value)
                tar.addfile(info, io.BytesIO(bytes(info.size)))
    return path


def sound(count=3):
    return [(f"{c}/{n}.png", encoded(picture(n, k))) for k, c in enumerate("ab") for n in range(count)]


def packed(folder, path, mode="w", name=""):
    with tarfile.open(path, mode) as tar:
        tar.add(folder, name or folder.name)
    return path


def refusal(path):
    before = sorted(os.listdir(path.parent))
    with pytest.raises(DataError) as caught:
        open_folder(path, WISHES)
    assert sorted(os.listdir(path.parent)) == before
    assert str(caught.value).isprintable()
    assert caught.value.remedy
    return str(caught.value)


def pixels(dataset):
    parts = (dataset.train, dataset.validation, dataset.test)
    return [None if part is None else part.read(everything(part)) for part in parts]


@pytest.mark.parametrize(
    ("make", "suffix", "mode", "name"),
    [
        (photographs, "tar", "w", "photos"),
        (photographs, "tgz", "w:gz", "."),
        (divided, "tar", "w", "."),
        (divided, "tar.gz", "w:gz", "photos"),
    ],
)
def test_an_archive_is_read_as_the_folder_it_was_made_from(tmp_path, suffix, mode, make, name):
    folder = make(tmp_path / "photos")
    archive = packed(folder, tmp_path / f"x.{suffix}", mode, name)
    assert holds_photographs(archive)
    one, other = open_folder(folder, WISHES), open_folder(archive, WISHES)
    assert other.class_names == one.class_names
    for mine, theirs in zip(pixels(one), pixels(other), strict=True):
        assert (mine is None) == (theirs is None)
        assert mine is None or torch.equal(mine, theirs)
    again = torch.tensor([5, 0, 5, 17])
    assert torch.equal(one.train.read(again), other.train.read(again))
    assert isinstance(one.train, FileSource)
    assert isinstance(other.train, FileSource)
    assert one.train.digests(again) == other.train.digests(again)
    assert not list(tmp_path.glob("*.jpg"))


def test_an_archive_is_recognised_wherever_its_images_lie_in_it(tmp_path):
    texts = [(f"a/{number:03}.txt", b"x") for number in range(300)]
    nameless = [(path.removesuffix(".png"), data) for path, data in sound()]
    for name, members in (("texts.tar", [*texts, *sound()]), ("nameless.tar", nameless)):
        assert len(open_dataset(recognise(written(tmp_path / name, members))).train) == 6


@pytest.mark.parametrize("name", ["README.txt", "__MACOSX/photos/._x.png", "@eaDir/a/b/c.jpg", ".DS_Store"])
def test_what_lies_beside_the_one_folder_is_no_second_one(tmp_path, name):
    members = [(f"photos/{path}", data) for path, data in sound()]
    dataset = open_folder(written(tmp_path / "x.tar", [(name, b"x"), *members]), WISHES)
    assert dataset.class_names == ("a", "b")
    assert dataset.checksums == open_folder(written(tmp_path / "y.tar", members), WISHES).checksums


def test_images_or_folders_beside_the_one_folder_are_told(tmp_path):
    deep = [(f"photos/{path}", data) for path, data in sound()]
    line = refusal(written(tmp_path / "x.tar", [("loose.png", IMAGE), *deep]))
    assert "one class only, 'photos', which holds the folders 'a', 'b'" in line
    assert "if these are meant, make an archive of its folder photos/ alone" in line
    line = refusal(written(tmp_path / "y.tar", [("up/loose.png", IMAGE), *((f"up/{n}", data) for n, data in deep)]))
    assert "make an archive of its folder up/photos/ alone" in line
    assert "a class folder holds no image" in refusal(written(tmp_path / "z.tar", [("docs/a.txt", b"x"), *deep]))


def test_a_compressed_archive_is_decompressed_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    archive = packed(photographs(tmp_path / "photos", count=3), tmp_path / "x.tar.gz", "w:gz")
    right = pixels(open_folder(archive, WISHES))[0]
    (copy,) = (tmp_path / "cache").glob("archive-*.tar")
    made = copy.stat().st_mtime_ns
    assert torch.equal(pixels(open_folder(archive, WISHES))[0], right)
    assert copy.stat().st_mtime_ns == made
    data = bytearray(copy.read_bytes())
    data[700] ^= 1
    copy.write_bytes(data)
    assert torch.equal(pixels(open_folder(archive, WISHES))[0], right)
    assert "made again" in caplog.text
    assert bytes(copy.read_bytes()) != bytes(data)


def test_an_archive_that_changes_has_one_copy_and_nothing_of_killed_writers_stays(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("RESIDUAL_CACHE", str(cache))
    path = written(tmp_path / "a.tar.gz", sound(), "w:gz")
    other = written(tmp_path / "b.tar.gz", sound(), "w:gz")
    for name in ("old", "new"):
        (cache / f".tmp-77-archive-{name}.tar").write_bytes(b"half")
    os.utime(cache / ".tmp-77-archive-old.tar", (0, 0))
    open_folder(other, WISHES)
    open_folder(path, WISHES)
    (note,) = (note for note in cache.glob("archive-*.json") if b"a.tar.gz" in note.read_bytes())
    for kind in (".json", ".tar"):  # an earlier release had the time in the name
        (cache / f"archive-0{kind}").write_bytes(note.with_suffix(kind).read_bytes())
    for count in (4, 5):
        written(path, sound(count), "w:gz")
        os.utime(path, ns=(count, count))
        assert len(open_folder(path, WISHES).train) == 2 * count
        assert len(list(cache.glob("archive-*.tar"))) == len(list(cache.glob("archive-*.json"))) == 2
    assert [path.name for path in cache.glob(".tmp-*")] == [".tmp-77-archive-new.tar"]
    assert len(open_folder(other, WISHES).train) == 6


def test_without_room_for_the_copy_it_says_so(tmp_path, monkeypatch):
    archive = packed(photographs(tmp_path / "photos", count=3), tmp_path / "x.tar.gz", "w:gz")
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="RESIDUAL_CACHE"):
        open_folder(archive, WISHES)


HOSTILE = {
    "up": (("../x.png", IMAGE), "leads out"),
    "further up": (("a/../../x.png", IMAGE), "leads out"),
    "absolute": (("/etc/x.png", IMAGE), "leads out"),
    "drive": (("C:x.png", IMAGE), "leads out"),
    "backslash": (("..\\x.png", IMAGE), "leads out"),
    "link": (("a/x.png", {"type": tarfile.SYMTYPE, "linkname": "/etc"}), "is a link"),
    "hard link": (("a/x.png", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}), "is a link"),
    "device": (("a/x.png", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5}), "neither a plain file"),
    "pipe": (("a/x.png", {"type": tarfile.FIFOTYPE}), "neither a plain file"),
    "set-user-id": (("a/x.png", {"mode": 0o4755}), "set-user-id"),
    "twice": (("a/0.png", IMAGE), "two entries"),
    "twice otherwise spelt": (("./a//0.png", IMAGE), "two entries"),
    "deep": (("/".join("d" * 80) + "/x.png", IMAGE), "no file can be named"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_archive_of_photographs_holds_is_refused(tmp_path, name):
    member, words = HOSTILE[name]
    assert words in refusal(written(tmp_path / "x.tar", [*sound(), member]))


def test_an_archive_that_is_cut_anywhere_is_refused(tmp_path):
    whole = written(tmp_path / "x.tar", sound(2)).read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in [*range(0, end, 1024), end]:
        (tmp_path / "x.tar").write_bytes(whole[:length])
        with pytest.raises(DataError):
            scan(tmp_path / "x.tar")


def test_a_header_that_cannot_be_read_does_not_end_the_archive_early(tmp_path):
    path = written(tmp_path / "x.tar", sound(4))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        place = tar.getmembers()[5].offset
    data[place + 148] ^= 7  # its checksum
    path.write_bytes(data)
    assert "damaged" in refusal(path)


def test_a_compressed_archive_that_is_cut_or_grows_without_measure_is_refused(tmp_path, monkeypatch):
    whole = gzip.compress(written(tmp_path / "x.tar", sound()).read_bytes())
    os.unlink(tmp_path / "x.tar")
    path = tmp_path / "x.tar.gz"
    path.write_bytes(whole[:-9])
    assert "damaged" in refusal(path)
    path.write_bytes(whole[:-6] + b"\0" + whole[-5:])
    assert "damaged" in refusal(path)
    path.write_bytes(b"<html>")
    assert "damaged" in refusal(path)
    monkeypatch.setattr(archives, "_FREE", 1 << 20)
    path.write_bytes(gzip.compress(bytes(8 << 20)))
    assert "grows more than 100 times" in refusal(path)


def test_huge_headers_and_many_entries_are_refused(tmp_path, monkeypatch):
    long = {"type": tarfile.GNUTYPE_LONGNAME, "size": 3 << 20}
    path = written(tmp_path / "x.tar", [("a", long), *sound()])
    assert "a header of 3,14" in refusal(path)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 5)
    assert "more than 5 entries" in refusal(written(tmp_path / "y.tar", sound()))


def test_a_large_archive_is_indexed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(archives, "_MANY", 5)
    path = written(tmp_path / "x.tar", sound())
    right = archives.index(path)
    monkeypatch.setattr(archives, "members", None)
    assert archives.index(path) == right
    assert len(right) == 6
    os.utime(path, ns=(1, 1))
    with pytest.raises(TypeError):
        archives.index(path)


def test_an_archive_that_is_changed_while_it_is_read_is_named(tmp_path):
    path = written(tmp_path / "x.tar", sound())
    source = open_folder(path, WISHES).train
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"changed since it was checked .*x\.tar: a/0\.png"):
        source.read(torch.tensor([0]))
    path.write_bytes(data[:5000])
    with pytest.raises(DataError, match="cut since"):
        source.read(torch.tensor([5]))
    path.unlink()
    with pytest.raises(DataError, match="gone"):
        source.read(torch.tensor([1]))


def test_damaged_images_in_an_archive_are_left_out_of_training_and_stop_what_is_judged_on(tmp_path):
    members = [(f"{c}/{n}.png", encoded(picture(n, k))) for k, c in enumerate("ab") for n in range(50)]
    path = written(tmp_path / "x.tar", [*members[:-1], ("b/49.png", IMAGE[:100])])
    dataset = open_folder(path, WISHES)
    assert len(dataset.train) == 99
    assert list(dataset.left_out) == ["b/49.png"]
    judged = [(f"train/{name}", data) for name, data in members]
    judged += [(f"val/{c}/{n}.png", IMAGE[:100]) for c in "ab" for n in range(2)]
    assert "no figure is made of fewer images" in refusal(written(tmp_path / "y.tar", judged))


def test_another_layout_is_told(tmp_path):
    assert "no classes here: found 2 images" in refusal(
        written(tmp_path / "x.tar", [("1.png", IMAGE), ("2.png", IMAGE)])
    )
    assert not holds_photographs(written(tmp_path / "y.tar", [("batch/data.bin", b"x")]))
    (tmp_path / "z.zip").write_bytes(b"PK")
    assert "unpack it" in refusal(tmp_path / "z.zip")
