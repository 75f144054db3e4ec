"""ImageNet and Tiny ImageNet in small, in the layouts in which they are given out."""

from __future__ import annotations

import contextlib
import io
import tarfile

import numpy as np
import pytest
import torch

from residual.data.folder import Wishes, open_folder, open_to_judge
from residual.data.matlab import read_matlab
from residual.data.official import DEVKIT, SOLUTION, TRAIN, VAL, called
from residual.data.places import holds_photographs, scan
from residual.data.source import everything, names
from residual.errors import DataError
from tests.data.photographs import encoded, fill, picture

WNIDS = ("n01443537", "n02012849", "n03126707")
WORDS = ("goldfish, Carassius auratus", "crane", "crane")
CALLED = ("goldfish", "crane (n02012849)", "crane (n03126707)")
WISHES = Wishes(image_size=32)


def tiny(root):
    for colour, name in enumerate(WNIDS):
        fill(root / "train" / name / "images", 6, colour)
        (root / "train" / name / f"{name}_boxes.txt").write_text("x\t0\t0\t1\t1\n")
    (root / "val" / "images").mkdir(parents=True)
    (root / "test" / "images").mkdir(parents=True)
    lines = []
    for number in range(9):
        (root / "val" / "images" / f"val_{number}.JPEG").write_bytes(encoded(picture(number + 50, number % 3), "JPEG"))
        lines.append(f"val_{number}.JPEG\t{WNIDS[number % 3]}\t0\t0\t9\t9\n")
    (root / "test" / "images" / "test_0.JPEG").write_bytes(encoded(picture(99), "JPEG"))
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "words.txt").write_text("".join(f"{w}\t{t}\n" for w, t in zip(WNIDS, WORDS, strict=True)))
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    return root


def refusal(place):
    with pytest.raises(DataError) as caught:
        open_folder(place, WISHES)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("archived", [False, True])
def test_tiny_imagenet_as_it_is(tmp_path, archived):
    place = tiny(tmp_path / "tiny-imagenet-200")
    if archived:
        with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as tar:
            tar.add(place, "tiny-imagenet-200")
        place = tmp_path / "t.tar.gz"
    assert holds_photographs(place)
    dataset = open_folder(place, WISHES)
    assert dataset.class_names == CALLED
    assert dataset.validation is not None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (18, 9, 0)
    assert dataset.validation.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert names(dataset.validation, torch.tensor([0, 3]))[0].endswith("val/images/val_0.JPEG")
    assert dataset.facts["layout"] == "Tiny ImageNet's native layout"
    assert "labels" in dataset.checksums
    parts = open_to_judge(scan(place), CALLED, WISHES)
    assert torch.equal(parts["validation"].labels, dataset.validation.labels)
    assert torch.equal(open_to_judge(scan(place), WNIDS, WISHES)["train"].labels, dataset.train.labels)


def test_its_labels_must_fit_its_images(tmp_path):
    root = tiny(tmp_path)
    path = root / "val" / "val_annotations.txt"
    right = path.read_text()
    before = open_folder(root, WISHES).checksums
    path.write_text(right.replace("val_8.JPEG\tn03126707", "val_8.JPEG\tn01443537"))
    assert open_folder(root, WISHES).checksums["labels"] != before["labels"]
    path.write_text(right.replace("val_8.JPEG\tn03126707", "val_8.JPEG\tn00000000"))
    assert "line 9: no class of train/ is named 'n00000000'" in refusal(root)
    path.write_text("\n".join(right.splitlines()[:-1]))
    assert "1 images of val/ have no label, as val_8.JPEG" in refusal(root)
    path.write_text(right + "val_9.JPEG\tn03126707\n")
    assert "line 10: there is no val/images/val_9.JPEG" in refusal(root)
    path.write_text(right + "val_8.JPEG\tn03126707\n")
    assert "line 10: 'val_8.JPEG' stands in line 9" in refusal(root)
    path.write_text(right + "what\n")
    assert "line 10: not IMAGE" in refusal(root)


def test_what_classes_are_called():
    assert tuple(called(list(WNIDS), dict(zip(WNIDS, WORDS, strict=True))).values()) == CALLED
    assert called(["a", "b"], {"a": "x, y"}) == {"a": "x", "b": "b"}


# ImageNet


def archive(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def meta(numbers):
    """meta.mat as MATLAB writes it, by scipy."""
    scipy_io = pytest.importorskip("scipy.io")
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("children", "O")]
    rows = [(float(n), w, t, np.zeros((1, 2))) for n, w, t in zip(numbers, WNIDS, WORDS, strict=True)]
    table = np.array([[row] for row in [*rows, (1001.0, "n00001740", "entity", np.zeros((1, 1)))]], dtype=fields)
    stream = io.BytesIO()
    scipy_io.savemat(stream, {"synsets": table}, do_compression=True)
    return stream.getvalue()


def imagenet(root):
    """Three classes with the archives' own names; the validation images 1 to 6 are of the classes 2, 0, 1, 2, 0, 1."""
    root.mkdir()
    members = []
    for colour, name in enumerate(WNIDS):
        inner = [(f"{name}_{n}.JPEG", encoded(picture(n, colour), "JPEG")) for n in range(4)]
        members.append((f"{name}.tar", archive(root / "inner.tar", inner).read_bytes()))
    (root / "inner.tar").unlink()
    archive(root / TRAIN, members)
    judged = [(f"ILSVRC2012_val_{n:08}.JPEG", encoded(picture(70 + n, (n + 1) % 3), "JPEG")) for n in range(1, 7)]
    archive(root / VAL, judged)
    return root


def kit(numbers=(7, 8, 9), labels=(9, 7, 8, 9, 7, 8)):
    truth = "".join(f"{n}\n" for n in labels).encode()
    return {"meta.mat": meta(numbers), "ILSVRC2012_validation_ground_truth.txt": truth}


@pytest.mark.parametrize("form", ["archive", "folder"])
def test_imagenet_as_it_is(tmp_path, form):
    root = imagenet(tmp_path / "imagenet")
    if form == "folder":
        (root / DEVKIT / "data").mkdir(parents=True)
        for name, data in kit().items():
            (root / DEVKIT / "data" / name).write_bytes(data)
    else:
        path = archive(root / "kit.tar", [(f"{DEVKIT}/data/{name}", data) for name, data in kit().items()])
        with tarfile.open(root / f"{DEVKIT}.tar.gz", "w:gz") as tar, tarfile.open(path) as plain:
            for member in plain:
                tar.addfile(member, plain.extractfile(member))
        path.unlink()
    for place in (root, root / TRAIN):
        dataset = open_folder(place, WISHES)
        assert dataset.class_names == CALLED
        assert dataset.validation is not None
        assert (len(dataset.train), len(dataset.validation)) == (12, 6)
        paths = names(dataset.validation, everything(dataset.validation))
        assert paths == [f"val/ILSVRC2012_val_{n:08}.JPEG" for n in (2, 5, 3, 6, 1, 4)]
        assert names(dataset.train, torch.tensor([5])) == ["train/n02012849/n02012849_1.JPEG"]
    # Every class has a colour of its own: labels and pixels belong together.
    middle: dict[int, torch.Tensor] = {}
    assert dataset.validation is not None
    for source in (dataset.train, dataset.validation):
        for label, image in zip(source.labels.tolist(), source.read(everything(source)).float(), strict=True):
            colour = image.mean((1, 2))
            assert (colour - middle.setdefault(label, colour)).abs().max() < 5


def test_imagenets_labels_may_come_from_kaggle(tmp_path):
    root = imagenet(tmp_path / "imagenet")
    assert "labels of the validation images are not here" in refusal(root)
    lines = ["ImageId,PredictionString"]
    lines += [f"ILSVRC2012_val_{n:08},{WNIDS[(n + 1) % 3]} 1 2 3 4" for n in range(1, 7)]
    (root / SOLUTION).write_text("\n".join(lines))
    dataset = open_folder(root, WISHES)
    assert dataset.class_names == WNIDS
    assert dataset.validation is not None
    assert dataset.validation.labels.tolist() == [0, 0, 1, 1, 2, 2]
    (root / SOLUTION).write_text("\n".join([*lines, "ILSVRC2012_val_00000007,n01443537 1 2 3 4"]))
    assert "1 validation images are missing, as ILSVRC2012_val_00000007.JPEG" in refusal(root)
    (root / VAL).unlink()
    assert open_folder(root, WISHES).validation is None


def test_a_development_kit_that_does_not_fit(tmp_path):
    root = imagenet(tmp_path / "imagenet")
    for name, data in kit(labels=(9, 7, 8, 9, 7, 1001)).items():
        (root / name).write_bytes(data)
    assert "line 6: no class has such a number" in refusal(root)
    (root / "meta.mat").write_bytes(b"MATLAB" + bytes(200))
    assert "not a little-endian MATLAB file" in refusal(root)


def test_matlab_files_are_read_or_refused_wherever_they_are_cut():
    whole = meta((1, 2, 3))
    found = read_matlab(whole, "meta.mat")["synsets"]
    assert [(r["ILSVRC2012_ID"], r["WNID"], r["words"]) for r in found[:3]] == [
        (float(n), w, t) for n, w, t in zip((1, 2, 3), WNIDS, WORDS, strict=True)
    ]
    for length in range(0, len(whole), 7):
        with contextlib.suppress(DataError):
            assert read_matlab(whole[:length], "x") == {}
    chance = np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(whole)
        data[chance.integers(128, len(data))] ^= 1 << chance.integers(8)
        with contextlib.suppress(DataError):
            read_matlab(bytes(data), "x")
