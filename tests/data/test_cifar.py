"""CIFAR-10 is read from the official layout, and only if every byte is the published one."""

import gzip
import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from residual.data import published
from residual.data.cifar import ARCHIVE, CLASS_NAMES, FOLDER, TEST, locate, read_cifar10
from residual.data.published import stamps
from residual.data.source import everything
from residual.errors import DataError, ResidualError, UsageError
from tests.data.official_layout import FILES, checksums, member, official_members, write_archive, write_files

FIRST = "data_batch_1.bin"
LIMIT = 60  # seconds; refusals take a fraction of one


def refused(place, message, sums=None):
    """The one line with which `place` is refused; it names the place and what to do."""
    with pytest.raises(DataError, match=message) as caught:
        read_cifar10(place, sums or checksums())
    line = str(caught.value)
    assert str(place)[:200] in line
    assert ": " in line
    assert len(line.splitlines()) == 1
    return line


def arrangements(folder):
    """Every way in which the data set may lie in a folder."""
    yield write_files(folder / "plain")
    yield write_files(folder / "nested" / FOLDER).parent
    yield write_archive(folder / "any name.tgz", official_members())
    yield write_archive(folder / "flat.tar.gz", official_members(""))
    (folder / "holds").mkdir()
    yield write_archive(folder / "holds" / ARCHIVE, official_members("./deep/er/")).parent


def test_every_arrangement_gives_the_same_images(tmp_path):
    pixels = {name: np.frombuffer(data, np.uint8).reshape(-1, 3073) for name, data in FILES.items()}
    training = np.concatenate([records for name, records in pixels.items() if name != TEST])
    for place in arrangements(tmp_path):
        dataset = read_cifar10(place, checksums())
        assert (dataset.name, dataset.channels, dataset.image_size) == ("cifar-10", 3, (32, 32))
        assert dataset.class_names == CLASS_NAMES
        assert dataset.checksums == checksums()
        assert Path(dataset.origin) == locate(place)
        for source, expected in ((dataset.train, training), (dataset.test, pixels[TEST])):
            images = source.read(everything(source))
            assert images.dtype == torch.uint8
            assert np.array_equal(images.numpy(), expected[:, 1:].reshape(-1, 3, 32, 32))
            assert source.labels.dtype == torch.int64
            assert source.labels.tolist() == expected[:, 0].tolist()


DAMAGE = {
    "cut": lambda data: data[:-1],
    "a record short": lambda data: data[:-3073],
    "empty": lambda data: b"",
    "lengthened": lambda data: data + b"\0",
    "a record more": lambda data: data + data[:3073],
    "a bit flipped": lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
    "another label": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "the last bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "a web page": lambda data: b"<!DOCTYPE html><html>404</html>",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", [FIRST, TEST])
def test_an_altered_file_is_named(tmp_path, name, damage):
    files = FILES | {name: damage(FILES[name])}
    refused(write_files(tmp_path / "folder", files), f"{name} .* does not match its published SHA-256")
    members = [member(f"{FOLDER}/{key}", data) for key, data in files.items()]
    refused(write_archive(tmp_path / ARCHIVE, members), f"{name} .* does not match its published SHA-256")


def test_two_files_that_changed_places_are_found(tmp_path):
    files = FILES | {FIRST: FILES[TEST], TEST: FILES[FIRST]}
    refused(write_files(tmp_path / "folder", files), f"{FIRST} .* does not match")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    folder = write_files(tmp_path / "folder")
    (folder / name).unlink()
    refused(folder, f"a CIFAR-10 file is missing .*{name}")
    members = [entry for entry in official_members() if not entry[0].name.endswith(name)]
    refused(write_archive(tmp_path / ARCHIVE, members), f"the archive lacks {name}")


def test_a_label_out_of_range_is_refused_even_where_the_checksum_fits(tmp_path):
    files = FILES | {FIRST: bytes([200]) + FILES[FIRST][1:]}
    refused(write_files(tmp_path / "folder", files), f"{FIRST} holds label 200", checksums(files))


def test_a_part_of_a_record_is_refused_even_where_the_checksum_fits(tmp_path):
    files = FILES | {FIRST: FILES[FIRST][:-1]}
    refused(write_files(tmp_path / "folder", files), f"{FIRST} holds .* not a multiple of 3073", checksums(files))


def test_a_file_far_too_large_is_not_read(tmp_path):
    folder = write_files(tmp_path / "folder")
    os.truncate(folder / FIRST, 1 << 37)
    refused(folder, f"137,438,953,472 bytes where at most .*{FIRST}")


@pytest.mark.timeout(LIMIT)
@pytest.mark.skipif(os.name != "posix", reason="devices and pipes among files are POSIX")
def test_what_is_no_file_is_never_opened(tmp_path):
    folder = write_files(tmp_path / "folder")
    (folder / FIRST).unlink()
    (folder / FIRST).symlink_to("/dev/zero")
    refused(folder, f"not a regular file .*{FIRST}")
    (folder / FIRST).unlink()
    os.mkfifo(folder / FIRST)
    refused(folder, f"not a regular file .*{FIRST}")
    refused(folder / FIRST, "neither a file nor a folder")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: None, "no such file or folder"),
        (lambda place: place.mkdir(), "an empty folder"),
        (lambda place: write_files(place, {"cat.png": b"x"}), "another folder"),
        (lambda place: write_files(place, {"data_batch_1.txt": b"x"}), "another folder"),
    ],
    ids=["absent", "empty", "foreign", "other ending"],
)
def test_a_place_without_the_data_says_what_is_expected(tmp_path, make, message):
    make(tmp_path / "place")
    line = refused(tmp_path / "place", f"no CIFAR-10 here: {message}")
    assert FOLDER in line
    assert ARCHIVE in line


def test_a_name_no_system_accepts_is_one_line():
    refused(Path("x" * 5000), "cannot read: File name too long")


def test_checksums_without_test_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no training or no test file"):
        read_cifar10(tmp_path, {FIRST: ""})


def test_stamps_change_with_every_file(tmp_path):
    folder = write_files(tmp_path / "folder")
    before = stamps(folder, checksums())
    assert set(before) == set(FILES)
    os.utime(folder / TEST, ns=(1, 1))
    (folder / FIRST).unlink()
    after = stamps(folder, checksums())
    assert {name for name in before if before[name] != after[name]} == {TEST, FIRST}


# Archives


@pytest.mark.timeout(LIMIT)
def test_an_archive_cut_anywhere_is_refused(tmp_path):
    path = write_archive(tmp_path / ARCHIVE, official_members())
    whole = path.read_bytes()
    for length in [0, 1, 5, 10, 20, *range(100, len(whole), len(whole) // 12), len(whole) - 9, len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(path, "archive|SHA-256")


@pytest.mark.timeout(LIMIT)
def test_an_archive_with_a_flipped_bit_is_refused(tmp_path):
    path = write_archive(tmp_path / ARCHIVE, official_members())
    whole = path.read_bytes()
    unpacked = gzip.decompress(whole)
    refusals = 0
    for place in [*range(20), *range(20, len(whole), len(whole) // 60), *range(len(whole) - 9, len(whole))]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            read_cifar10(path, checksums())
        except DataError:
            refusals += 1
        else:  # a bit without meaning, as in the time and the name in the head of the gzip format
            assert gzip.decompress(path.read_bytes()) == unpacked
    assert refusals >= 60


def test_an_archive_with_bytes_behind_its_end_is_refused(tmp_path):
    path = write_archive(tmp_path / ARCHIVE, official_members())
    path.write_bytes(path.read_bytes() + b"more")
    refused(path, "the archive is damaged")


@pytest.mark.parametrize(
    "text", [b"", b"PK\x03\x04 a zip", b"<html>", gzip.compress(b"<html>" * 500), gzip.compress(b"")], ids=range(5)
)
def test_what_is_no_archive_is_refused(tmp_path, text):
    (tmp_path / ARCHIVE).write_bytes(text)
    refused(tmp_path / ARCHIVE, "archive is damaged|archive lacks")


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize(
    "fields",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/dev/zero"},
        {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
        {"type": tarfile.DIRTYPE},
    ],
    ids=["symlink", "hard link", "device", "disk", "pipe", "folder"],
)
def test_a_member_that_is_no_file_does_not_count(tmp_path, fields):
    members = [entry for entry in official_members() if not entry[0].name.endswith(FIRST)]
    path = write_archive(tmp_path / ARCHIVE, [member(f"{FOLDER}/{FIRST}", **fields), *members])
    refused(path, f"the archive lacks {FIRST}")


def test_nothing_of_an_archive_reaches_the_disk(tmp_path):
    foreign = [member("../outside", b"x"), member(str(tmp_path / "absolute"), b"x"), member("a/../../b", b"x")]
    read_cifar10(write_archive(tmp_path / ARCHIVE, [*foreign, *official_members()]), checksums())
    assert [entry.name for entry in tmp_path.iterdir()] == [ARCHIVE]


ZEROS = 300 << 20


class Zeros:
    """A file of zeros that takes no memory."""

    def read(self, size: int) -> bytes:
        return bytes(size)


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """Small archives that unpack to 300 MiB: a foreign member, a wanted one, a long name, and no archive at all."""
    folder = tmp_path_factory.mktemp("bombs")
    block = gzip.compress(bytes(1 << 20), 1) * (ZEROS >> 20)  # members of the gzip format may be joined
    for name, kind in {"foreign": b"0", FIRST: b"0", "long name": b"L", "pax": b"x"}.items():
        head = tarfile.TarInfo("x" if kind != b"0" else name)
        head.type, head.size = kind, ZEROS
        (folder / f"{name}.tgz").write_bytes(gzip.compress(head.tobuf(tarfile.GNU_FORMAT), 1) + block)
    (folder / "zeros.tgz").write_bytes(block)
    entry = tarfile.TarInfo("x").tobuf()
    (folder / "entries.tgz").write_bytes(gzip.compress(entry * 2048, 1) * 300)
    return folder


@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("name", ["foreign", FIRST, "long name", "pax", "zeros", "entries"])
def test_a_bomb_is_refused_early(bombs, name):
    path = bombs / f"{name}.tgz"
    assert path.stat().st_size < 4 << 20
    began = time.process_time()
    refused(path, "larger than CIFAR-10|too large|the archive lacks|damaged")
    assert time.process_time() - began < 5


def test_the_limit_of_an_archive_is_kept_however_it_is_filled(bombs, monkeypatch):
    monkeypatch.setattr(published, "ARCHIVE_LIMIT", 1 << 20)
    refused(bombs / "pax.tgz", "larger than CIFAR-10")


# The real one


def test_the_official_data_set(cifar):
    dataset = read_cifar10(cifar)
    assert (len(dataset.train), len(dataset.test)) == (50_000, 10_000)
    assert dataset.train.labels.bincount().tolist() == [5000] * 10
    assert dataset.test.labels.bincount().tolist() == [1000] * 10
    assert dataset.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert dataset.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert dataset.train.read(torch.tensor([0]))[0, :, 0, 0].tolist() == [59, 62, 63]
    assert dataset.train.read(torch.tensor([49_999])).shape == (1, 3, 32, 32)


def test_the_official_data_set_with_one_byte_altered(cifar, tmp_path):
    for name in cifar.iterdir():
        (tmp_path / name.name).symlink_to(name)
    (tmp_path / "data_batch_3.bin").unlink()
    altered = bytearray((cifar / "data_batch_3.bin").read_bytes())
    altered[12_345_678] ^= 1
    (tmp_path / "data_batch_3.bin").write_bytes(altered)
    with pytest.raises(ResidualError, match=r"data_batch_3\.bin \(30,730,000 bytes\) does not match"):
        read_cifar10(tmp_path)
