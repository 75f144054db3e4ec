"""Both published forms of CIFAR-10 and CIFAR-100 give the same images, by either kind of label."""

import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from residual.data import cifar, datasets
from residual.data.cifar import CIFAR10
from residual.data.cifar100 import CIFAR100, COARSE, FINE
from residual.data.datasets import DataSettings, open_dataset, read_anew, recognise
from residual.data.source import everything
from residual.errors import DataError, UsageError
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from tests.data.official_layout import in_small, labelled, member, pickled, write_archive, write_files
from tests.data.photographs import photographs

SMALL = {"cifar-10": in_small(CIFAR10, 50, 20), "cifar-100": in_small(CIFAR100, 200, 100)}
EVERY = [(name, kind, archive) for name in SMALL for kind in ("binary", "python") for archive in (False, True)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def known(monkeypatch):
    """The program expects the small files in place of the official ones."""
    for name, official in SMALL.items():
        monkeypatch.setitem(datasets.FAMILIES, name, official.family)


def refused(official, place, message):
    with pytest.raises(DataError, match=message) as caught:
        cifar.read(official.family, place)
    line = str(caught.value)
    assert str(place) in line
    assert len(line.splitlines()) == 1
    return line


@pytest.mark.parametrize(("name", "kind", "archive"), EVERY)
@pytest.mark.parametrize("inside", [False, True], ids=["itself", "its folder"])
def test_every_form_gives_the_same_images(tmp_path, name, kind, archive, inside):
    official = SMALL[name]
    place = official.write(tmp_path / "x", kind, archive)
    family = official.family
    for labels, names in family.labels.items():
        dataset = cifar.read(family, place.parent if inside else place, labels)
        assert dataset.class_names == names
        assert dataset.name == (name if labels == "fine" else f"{name}-coarse")
        assert Path(dataset.origin) == place
        assert dataset.checksums == official.form(kind).files
        count = 50 if name == "cifar-10" else 200
        parts = 5 if name == "cifar-10" else 1
        training = np.concatenate([labelled(count // parts, family, number) for number in range(parts)])
        column = list(family.labels).index(labels)
        for source, records in ((dataset.train, training), (dataset.test, labelled(len(dataset.test), family, 99))):
            assert source.labels.tolist() == records[:, column].tolist()
            images = source.read(everything(source))
            assert np.array_equal(images.numpy(), records[:, len(family.labels) :].reshape(-1, 3, 32, 32))


def test_columns_first_are_the_same_images(tmp_path):
    rows, columns = SMALL["cifar-100"], in_small(CIFAR100, 200, 100, fortran=True)
    one, other = (
        cifar.read(official.family, official.write(tmp_path / str(number), "python", False))
        for number, official in enumerate((rows, columns))
    )
    assert one.checksums != other.checksums
    assert torch.equal(one.train.read(torch.arange(200)), other.train.read(torch.arange(200)))


def test_class_names_are_those_of_the_official_meta_files():
    """Written as Python 2 wrote them, they give the published file byte for byte."""
    meta = pickled(
        {b"fine_label_names": [n.encode() for n in FINE], b"coarse_label_names": [n.encode() for n in COARSE]}
    )
    assert hashlib.sha256(meta).hexdigest() == "a5d4786345c961390f865e93b434dbd5c6904ce880667e0cb888c97d449f28b9"
    assert hashlib.md5(meta, usedforsecurity=False).hexdigest() == "7973b15100ade9c7d40fb424638fde48"
    names = [name.encode() for name in cifar.CLASS_NAMES]
    meta = pickled({b"num_cases_per_batch": 10_000, b"label_names": names, b"num_vis": 3072})
    assert hashlib.sha256(meta).hexdigest() == "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"
    assert hashlib.md5(meta, usedforsecurity=False).hexdigest() == "5ff9c542aee3614f3951f8cda6e48888"


DAMAGE = {
    "cut": lambda data: data[:-1],
    "lengthened": lambda data: data + b"\0",
    "a bit flipped": lambda data: data[:4000] + bytes([data[4000] ^ 1]) + data[4001:],
    "a web page": lambda data: b"<!DOCTYPE html><html>404</html>",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in SMALL for kind in ("binary", "python")])
def test_an_altered_file_is_named_and_not_looked_into(tmp_path, monkeypatch, name, kind, damage):
    official = SMALL[name]
    form = official.form(kind)
    for number, altered in enumerate((form.test, next(iter(form.files)))):
        files = official.files[kind] | {altered: damage(official.files[kind][altered])}
        folder = write_files(tmp_path / str(number), files)
        line = refused(official, folder, f"{altered} .* does not match its published SHA-256")
        assert form.fetch in line
        members = [member(f"{form.folder}/{key}", data) for key, data in files.items()]
        refused(official, write_archive(tmp_path / f"{number}.tgz", members), f"{altered} .* does not match")
        (folder / altered).unlink()
        refused(official, folder, f"a CIFAR-10*.* file is missing .*{altered}")


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("name", SMALL)
def test_a_malicious_pickle_is_never_unpickled(tmp_path, name):
    official = SMALL[name]
    form = official.form("python")
    trap = pickle.dumps(Trap(tmp_path / "made"), 2)
    files = official.files["python"] | {form.test: trap}
    folder = write_files(tmp_path / "x", files)
    refused(official, folder, f"{form.test} .* does not match its published SHA-256")
    # Even one whose checksum is expected is only read as data.
    forged = replace(form, files={**form.files, form.test: hashlib.sha256(trap).hexdigest()})
    family = replace(official.family, forms=(forged,))
    with pytest.raises(DataError, match=r"not a plain pickle, it names '.*mkdir', which is not read"):
        cifar.read(family, folder)
    assert not (tmp_path / "made").exists()


TABLES = {
    "no table": ([1, 2], "no table of 3,072 pixels"),
    "no pixels": ({b"data": [1]}, "no table of 3,072 pixels"),
    "narrow": ({b"data": np.zeros((4, 3071), np.uint8)}, "no table of 3,072 pixels"),
    "flat": ({b"data": np.zeros(3072, np.uint8)}, "no table of 3,072 pixels"),
    "no labels": ({b"data": np.zeros((4, 3072), np.uint8)}, "no fine label for each of its 4"),
    "few labels": ({b"data": np.zeros((4, 3072), np.uint8), b"labels": [1, 2, 3]}, "no fine label for each of its 4"),
    "a word": ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [b"cat"]}, "no numbers of classes"),
    "negative": ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [-1]}, "no numbers of classes"),
    "out of range": ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, "label 10; labels end at 9"),
}


@pytest.mark.parametrize(("table", "message"), TABLES.values(), ids=TABLES)
def test_a_pickle_of_another_shape_is_refused_even_where_the_checksum_fits(tmp_path, table, message):
    official = SMALL["cifar-10"]
    data, form = pickled(table), official.form("python")
    files = official.files["python"] | {form.test: data}
    forged = replace(form, files={n: hashlib.sha256(d).hexdigest() for n, d in files.items()}, records={})
    with pytest.raises(DataError, match=message):
        cifar.read(replace(official.family, forms=(forged,)), write_files(tmp_path / "x", files))


def test_other_images_than_those_of_the_binary_version_are_refused(tmp_path):
    official = SMALL["cifar-10"]
    form = official.form("python")
    forged = replace(form, records={**form.records, "data_batch_3": "0" * 64})
    place = official.write(tmp_path / "x", "python", False)
    with pytest.raises(DataError, match="data_batch_3 does not hold the images of the binary version"):
        cifar.read(replace(official.family, forms=(forged,)), place)


def test_other_numbers_than_published_are_refused(tmp_path):
    official = SMALL["cifar-100"]
    place = official.write(tmp_path / "x", "binary", False)
    with pytest.raises(DataError, match="200 training images where 201 were published"):
        cifar.read(replace(official.family, images=(201, 100)), place)
    uneven = in_small(CIFAR100, 199, 100)
    refused(uneven, uneven.write(tmp_path / "y", "binary", True), "the classes have not 1 training images each")


def test_a_coarse_label_out_of_range_is_refused_even_where_the_checksum_fits(tmp_path):
    official = SMALL["cifar-100"]
    form = official.form("binary")
    files = official.files["binary"] | {"test.bin": b"\x14" + official.files["binary"]["test.bin"][1:]}
    forged = replace(form, files={n: hashlib.sha256(d).hexdigest() for n, d in files.items()})
    with pytest.raises(DataError, match=r"test\.bin holds coarse label 20; labels end at 19"):
        cifar.read(replace(official.family, forms=(forged,)), write_files(tmp_path / "x", files))


def test_an_archive_is_never_written_to_disk(tmp_path):
    """Names that climb out, links, devices and a member that is no file are passed over; nothing is unpacked."""
    official = SMALL["cifar-100"]
    form = official.form("python")
    hostile = [
        member("../outside", b"x"),
        member(str(tmp_path / "absolute"), b"x"),
        member("a/../../b", b"x"),
        member(f"{form.folder}/train", type=tarfile.SYMTYPE, linkname="/dev/zero"),
        member(f"{form.folder}/test", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        member("device", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        member("setuid", b"x", mode=0o4777),
    ]
    with tarfile.open(fileobj=io.BytesIO(official.archives["python"])) as tar:
        right = [
            (info, file.read()) for info in tar if (file := tar.extractfile(info) if info.isreg() else None) is not None
        ]
    place = write_archive(tmp_path / form.archive, [*hostile, *right])
    assert len(cifar.read(official.family, place).train) == 200
    assert [entry.name for entry in tmp_path.iterdir()] == [form.archive]


# By name


def test_settings_know_where_there_are_coarse_labels():
    assert DataSettings(dataset="cifar-100", labels="coarse").labels == "coarse"
    recorded = DataSettings.model_validate({"dataset": "cifar-100-coarse", "labels": "fine"})
    assert (recorded.dataset, recorded.labels) == ("cifar-100", "coarse")
    with pytest.raises(UsageError, match=r"data\.labels is 'coarse': only cifar-100 has coarse labels"):
        override(RECIPES["cifar10-fast"], [("data.labels", "coarse")])
    changed = override(RECIPES["cifar10-fast"], [("data.dataset", "cifar-100"), ("data.labels", "coarse")])
    assert (changed.data.dataset, changed.data.labels) == ("cifar-100", "coarse")


@pytest.mark.parametrize(("name", "kind", "archive"), EVERY)
def test_the_cache_serves_every_form_and_label(tmp_path, monkeypatch, cache, known, name, kind, archive):
    official = SMALL[name]
    place = official.write(tmp_path / "x", kind, archive)
    for labels in official.family.labels:
        settings = DataSettings.model_validate({"dataset": name, "path": str(place), "labels": labels})
        first = open_dataset(settings)
        with monkeypatch.context() as patch:
            patch.setattr(cifar, "read", None)
            second = open_dataset(settings)
        assert (first.name, first.class_names, first.checksums) == (second.name, second.class_names, second.checksums)
        assert torch.equal(first.train.labels, second.train.labels)
        assert torch.equal(first.test.read(torch.arange(9)), second.test.read(torch.arange(9)))
        assert torch.equal(read_anew(settings).train.labels, first.train.labels)
    assert len(list(cache.iterdir())) == len(official.family.labels)


@pytest.mark.parametrize(("name", "kind", "archive"), EVERY)
def test_it_is_found_where_it_was_fetched_to(tmp_path, monkeypatch, cache, known, name, kind, archive):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESIDUAL_DATA", raising=False)
    place = SMALL[name].write(tmp_path / "data", kind, archive)
    assert Path(open_dataset(DataSettings.model_validate({"dataset": name})).origin) == place
    for meant in (place, place.parent):
        assert recognise(meant).dataset == name


@pytest.mark.parametrize(("name", "file"), [("cifar-100", "train"), ("cifar-100", "test"), ("cifar-10", "test_batch")])
def test_a_file_of_such_a_name_makes_no_data_set(tmp_path, known, name, file):
    photographs(tmp_path, ["cat", "dog"], 1)
    (tmp_path / file).write_text("a list of names")
    assert recognise(tmp_path).dataset == "folder"
    (tmp_path / file).write_bytes(SMALL[name].files["python"][file])
    assert recognise(tmp_path).dataset == name


def test_what_is_no_known_data_set_is_refused(tmp_path, known):
    for name in ("other.zip", "other.tar.gz"):
        (tmp_path / name).write_bytes(SMALL["cifar-10"].archives["binary"])
    with pytest.raises(DataError, match=r"no data set is recognised here .*other\.zip.*cifar-10-binary\.tar\.gz"):
        recognise(tmp_path / "other.zip")
    with pytest.raises(DataError, match=r"no classes here: .*other\.tar\.gz"):
        open_dataset(recognise(tmp_path / "other.tar.gz"))


# The real one


def test_the_python_version_of_the_real_images(cifar, tmp_path):
    """A pickle made of official records is compared with the published checksum of these records."""
    from residual.data import cifar as module

    records = np.frombuffer((cifar / "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    table = {b"labels": records[:, 0].tolist(), b"data": records[:, 1:]}
    for wrong in (False, True):
        if wrong:
            table[b"labels"][77] ^= 1
        data = pickled(table)
        form = replace(module.PYTHON, files={"test_batch": hashlib.sha256(data).hexdigest()})
        if wrong:
            with pytest.raises(DataError, match="does not hold the images of the binary version"):
                module._decode(form, "test_batch", data, CIFAR10, tmp_path)
        else:
            assert np.array_equal(module._decode(form, "test_batch", data, CIFAR10, tmp_path), records)
