"""A folder of photographs as a data set: its parts, its geometry, what is left out and what stops."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from residual.data.concerns import concerns
from residual.data.datasets import DataSettings, divide, open_dataset
from residual.data.folder import Wishes, open_folder, open_to_judge
from residual.data.places import scan
from residual.data.source import everything, names
from residual.data.splits import stratified
from residual.errors import DataError
from tests.data.photographs import divided, encoded, fill, photographs, picture


@pytest.fixture
def root(tmp_path):
    return photographs(tmp_path / "photos")


def settings(root, **changes):
    return DataSettings(dataset="folder", path=str(root), **changes)


def refusal(root, **wishes):
    with pytest.raises(DataError) as caught:
        open_folder(root, Wishes(**wishes))
    line = str(caught.value)
    assert caught.value.remedy
    assert line.isprintable()
    return line


# Parts and their division


def test_class_folders_alone(root):
    dataset = open_dataset(settings(root))
    assert (dataset.name, dataset.class_names, dataset.origin) == ("folder", ("cat", "dog", "owl"), str(root))
    assert (len(dataset.train), len(dataset.test), dataset.validation) == (36, 0, None)
    assert dataset.test.read(everything(dataset.test)).shape == (0, 3, 32, 32)
    found = divide(dataset, settings(root))
    assert (len(found.training), len(found.validation)) == (32, 4)
    assert sorted([*found.training.tolist(), *found.validation.tolist()]) == list(range(36))


def test_the_division_follows_from_the_folder_alone(root, tmp_path):
    elsewhere = shutil.copytree(root, tmp_path / "elsewhere")
    one, other = (open_dataset(settings(place)) for place in (root, elsewhere))
    assert one.checksums == other.checksums
    assert torch.equal(divide(one, settings(root)).validation, divide(other, settings(elsewhere)).validation)


@pytest.mark.parametrize("valid", ["val", "valid", "validation"])
def test_parts(tmp_path, valid):
    divided(tmp_path, ["train", valid, "test"])
    dataset = open_dataset(settings(tmp_path))
    assert dataset.validation is not None
    assert dataset.held is dataset.validation
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [36, 15, 15]
    found = divide(dataset, settings(tmp_path))
    assert torch.equal(found.training, torch.arange(36))
    assert torch.equal(found.validation, torch.arange(15))
    assert dataset.held.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_without_a_validation_part_a_share_is_held_out(tmp_path):
    divided(tmp_path, ["train", "test"])
    dataset = open_dataset(settings(tmp_path))
    assert dataset.validation is None
    assert [len(part) for part in divide(dataset, settings(tmp_path)).__dict__.values()] == [32, 4]
    assert len(dataset.test) == 15


def test_a_share_is_set_aside_for_the_test(root):
    dataset = open_dataset(settings(root, test=0.25))
    assert (len(dataset.train), len(dataset.test)) == (27, 9)
    assert dataset.test.labels.bincount().tolist() == [3, 3, 3]
    found = [*names(dataset.train, everything(dataset.train)), *names(dataset.test, everything(dataset.test))]
    assert len(set(found)) == 36
    assert dataset.checksums == open_dataset(settings(root)).checksums


def test_a_share_for_the_test_that_is_no_image_is_refused(root):
    with pytest.raises(DataError, match=r"too few images to set a share of 0\.01 of the images aside for the test"):
        divide(open_dataset(settings(root, test=0.01)), settings(root, test=0.01))


def test_a_share_for_the_test_beside_parts_is_refused(tmp_path):
    assert "data.test" in refusal(divided(tmp_path), test=0.1)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=8), st.sampled_from([0.1, 0.3, 0.5]))
def test_every_class_keeps_an_image_to_train_on(counts, share):
    labels = torch.cat([torch.full((count,), number) for number, count in enumerate(counts)])
    kept, held = stratified(labels, share, "some", keep=1)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(len(labels)))
    assert labels[kept].bincount(minlength=len(counts)).min() >= 1
    assert len(held) <= round(share * len(labels))
    plain = stratified(labels, share, "some")
    if labels[plain[0]].bincount(minlength=len(counts)).min() >= 1:
        assert torch.equal(plain[1], held)


# Classes


def test_one_class_is_none(tmp_path):
    fill(tmp_path / "one" / "cat", 3, 0)
    assert "one class only, 'cat'" in refusal(tmp_path / "one")
    photographs(tmp_path / "two" / "inner", ["cat", "dog"], 2)
    line = refusal(tmp_path / "two")
    assert "one class only, 'inner', which holds the folders 'cat', 'dog'" in line
    assert f"name the folder {tmp_path / 'two' / 'inner'}" in line
    divided(tmp_path / "three", ["train", "val"], ["cat"])
    assert "one class only, 'cat'" in refusal(tmp_path / "three")


@pytest.mark.parametrize("part", ["val", "test"])
def test_parts_must_have_the_same_classes(tmp_path, part):
    divided(tmp_path)
    os.rename(tmp_path / part / "cat", tmp_path / part / "Cat!")
    line = refusal(tmp_path)
    assert "lacks 'cat' and has 'Cat!' as well" in line
    shutil.rmtree(tmp_path / part)
    fill(tmp_path / part / "images", 3, 0)
    assert "lacks 'cat', 'dog', 'owl' and has 'images' as well" in refusal(tmp_path)


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_class_that_is_not_judged_on_is_told(tmp_path, part):
    shutil.rmtree(divided(tmp_path) / part / "dog")
    said = f"1 of 3 classes have no {'validation' if part == 'val' else part} images: 'dog'"
    assert told(tmp_path) == [said]


def test_there_must_be_something_to_train_on(tmp_path):
    divided(tmp_path, ["val", "test"])
    assert "there is validation/ and test/ and no train/" in refusal(tmp_path)


# Geometry


@pytest.mark.parametrize(
    ("sizes", "side"), [([(40, 36)], 32), ([(9, 700)], 32), ([(70, 64), (64, 900)], 64), ([(2000, 1500)], 224)]
)
def test_the_side_is_chosen_from_the_images(tmp_path, sizes, side):
    for number, size in enumerate(sizes * 2):
        fill(tmp_path / f"c{number}", 1, number, size=size)
    dataset = open_folder(tmp_path, Wishes())
    assert dataset.image_size == (side, side)
    assert dataset.chosen["data.image_size"] == side
    assert "median" in dataset.reasons["data.image_size"]
    assert dataset.train.read(torch.tensor([0])).shape == (1, 3, side, side)


def test_what_was_asked_for_is_not_chosen(root):
    dataset = open_folder(root, Wishes(image_size=48, channels=1))
    assert (dataset.image_size, dataset.channels, dict(dataset.chosen)) == ((48, 48), 1, {})
    assert dataset.train.read(torch.tensor([0])).shape == (1, 1, 48, 48)


def test_images_that_are_all_grey_have_one_channel(tmp_path):
    for colour, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.png").write_bytes(encoded(picture(number, colour, grey=True)))
    assert open_folder(tmp_path, Wishes()).channels == 1
    fill(tmp_path / "a", 1, 0, first=10)
    dataset = open_folder(tmp_path, Wishes())
    assert dataset.channels == 3
    assert dataset.reasons["data.channels"] == "only 6 of 7 images are stored as grey"


# Files that cannot be used


def spoil(root, count, part="cat"):
    """Make the first files of a class unusable."""
    for path in sorted((root / part).iterdir())[:count]:
        path.write_bytes(b"<html>not found</html>")


def test_a_share_of_bad_training_files_is_left_out_and_listed(tmp_path, caplog):
    root = photographs(tmp_path, ["a", "b"], 50)
    spoil(root, 1, "b")
    dataset = open_folder(root, Wishes())
    assert len(dataset.train) == 99
    assert dict(dataset.left_out) == {"b/000.jpg": "not a PNG, JPEG, WebP, GIF, BMP, TIFF or PPM image"}
    assert ["1 of 100 images cannot be used and are left out" in m and "b/000.jpg" in m for m in caplog.messages] == [
        True
    ]
    (root / "a" / "001.png").write_bytes(b"")
    line = refusal(root)
    assert "2 of 100 images cannot be used, more than the share of 0.01" in line
    assert "a/001.png" in line
    assert "data.quarantine=0.02" in line
    assert len(open_folder(root, Wishes(quarantine=0.02)).train) == 98
    assert "1 of 99" not in refusal(root, quarantine=0.0)


def test_the_share_that_is_advised_suffices(tmp_path):
    """29 of 100 are more than a product of floats has."""
    root = photographs(tmp_path, ["a", "b"], 50)
    spoil(root, 29, "b")
    assert "data.quarantine=0.29" in refusal(root)
    assert len(open_folder(root, Wishes(quarantine=0.29)).train) == 71


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_bad_file_among_those_to_be_judged_on_stops(tmp_path, part):
    divided(tmp_path)
    spoil(tmp_path, 1, f"{part}/dog")
    line = refusal(tmp_path, quarantine=0.5)
    assert "no figure is made of fewer images" in line
    assert f"{part}/dog/" in line


def test_a_class_whose_files_are_all_bad_stops(root):
    spoil(root, 12, "owl")
    assert "no image can be used of 'owl'" in refusal(root, quarantine=0.5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_counts_as_a_bad_file(root):
    os.mkfifo(root / "cat" / "pipe.jpg")
    assert "cat/pipe.jpg: not a regular file" in refusal(root)
    assert len(open_folder(root, Wishes(quarantine=0.1)).train) == 36


def test_a_bomb_is_refused_before_it_is_unpacked(root):
    from tests.data.test_images import png_header  # 50,000 x 50,000 pixels in few bytes

    (root / "cat" / "bomb.png").write_bytes(png_header(50_000, 50_000))
    assert "cat/bomb.png" in refusal(root)


# The identity of the data


def test_the_checksum_tells_other_images(root):
    before = open_folder(root, Wishes()).checksums
    path = root / "cat" / "000.jpg"
    whole, times = path.read_bytes(), path.stat()
    os.utime(path, ns=(1, 1))
    assert open_folder(root, Wishes()).checksums == before  # another time, the same image
    path.write_bytes(encoded(picture(99), "JPEG"))
    other = open_folder(root, Wishes()).checksums
    assert other != before
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert open_folder(root, Wishes()).checksums == before
    path.rename(root / "dog" / "moved.jpg")
    assert open_folder(root, Wishes()).checksums != before


def test_the_checksum_is_what_its_description_says(tmp_path):
    photographs(tmp_path, ["a", "b"], 1)
    lines = []
    for name in ("a", "b"):
        data = (tmp_path / name / "000.jpg").read_bytes()
        lines.append(f"{name}/000.jpg\0{len(data)}\0{hashlib.sha256(data).hexdigest()}\n")
    expected = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert open_folder(tmp_path, Wishes()).checksums == {"images": expected}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_utf8_can_be_told(tmp_path):
    photographs(tmp_path, ["a", "b"], 2)
    path = os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff.png")
    with open(path, "wb") as file:
        file.write(encoded(picture(50)))
    dataset = open_folder(tmp_path, Wishes())
    assert "a/\\udcff.png" in names(dataset.train, everything(dataset.train))
    assert dataset.train.read(everything(dataset.train)).shape[0] == 5
    assert open_folder(tmp_path, Wishes()).checksums == dataset.checksums


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="asks for rights that are kept")
def test_a_folder_that_may_not_be_written_will_do(root):
    for folder in (root / "cat", root):
        folder.chmod(0o500)
    try:
        assert len(open_folder(root, Wishes()).train) == 36
    finally:
        for folder in (root, root / "cat"):
            folder.chmod(0o700)


# What a person should know


def told(root, **changes):
    dataset = open_dataset(settings(root, **changes))
    found = divide(dataset, settings(root, **changes))
    return concerns(dataset, found.training, found.validation)


def test_nothing_is_told_of_a_sound_folder(root):
    assert told(photographs(root, count=14)) == []


def test_images_that_are_trained_and_judged_on_are_counted(tmp_path):
    divided(tmp_path)
    for number in range(10):
        place = ("val", "test")[number % 2]
        source = sorted((tmp_path / "train" / "cat").iterdir())[number]
        shutil.copy(source, tmp_path / place / "cat" / f"copy{number}{source.suffix}")
    said = told(tmp_path)
    assert [line.split(" are trained on")[0] for line in said] == [
        "5 of the 20 validation images",
        "5 of the 20 test images",
    ]


def test_copies_stay_on_one_side_and_those_in_two_classes_are_counted(tmp_path):
    photographs(tmp_path, ["a", "b"], 12)
    for number in range(12):
        path = sorted((tmp_path / "a").glob("0*"))[number]
        shutil.copy(path, tmp_path / "a" / f"1{path.name}")
    assert not any("are trained on as well" in line for line in told(tmp_path, validation=0.3, test=0.3))
    shutil.copy(tmp_path / "a" / "000.jpg", tmp_path / "b" / "999.jpg")
    shutil.copy(tmp_path / "a" / "002.jpg", tmp_path / "b" / "998.jpg")
    said = [line for line in told(tmp_path, validation=0.0) if "lie in another class as well" in line]
    assert [line.split(" training")[0] for line in said] == ["6"]  # each of two is there thrice


def test_small_and_uneven_classes_are_told_with_their_numbers(tmp_path):
    for colour, (name, count) in enumerate({"many": 40, "few": 4}.items()):
        fill(tmp_path / name, count, colour)
    said = told(tmp_path)
    assert any("1 of 2 classes have fewer than 10 training images: 'few 4'" in line for line in said)
    assert any("from 4 training images of 'few' to 36 of 'many'" in line for line in said)
    assert any("1 of 2 classes have no validation images: 'few'" in line for line in said)
    assert any("no figure at all" in line for line in told(tmp_path, validation=0.0))


# Another folder, to be judged on


def test_classes_are_matched_by_name(tmp_path, caplog):
    root = photographs(tmp_path, ["a", "owl", "cat"], 2)
    parts = open_to_judge(scan(root), ("cat", "owl", "a", "yak"), Wishes(image_size=32, channels=3))
    source = parts["all"]
    assert dict(zip(source.names(everything(source)), source.labels.tolist(), strict=True)) == {
        "cat/000.jpg": 0,
        "cat/001.png": 0,
        "owl/000.jpg": 1,
        "owl/001.png": 1,
        "a/000.jpg": 2,
        "a/001.png": 2,
    }
    assert ["1 of 4 classes have no images here" in message and "'yak'" in message for message in caplog.messages] == [
        True
    ]


def test_classes_that_are_not_known_are_listed(tmp_path):
    root = photographs(tmp_path, ["cat", "dog", "emu"], 2)
    with pytest.raises(DataError, match=r"does not know, 'dog', 'emu' and lacks 'owl'"):
        open_to_judge(scan(root), ("cat", "owl"), Wishes())


def test_every_image_of_it_counts(tmp_path):
    root = photographs(tmp_path, ["cat", "dog"], 60)
    spoil(root, 1)
    with pytest.raises(DataError, match="1 of 120 images cannot be used, and no figure is made of fewer"):
        open_to_judge(scan(root), ("cat", "dog"), Wishes(quarantine=0.5))


# Settings


@pytest.mark.parametrize(
    "change", [{"image_size": 64}, {"channels": 1}, {"test": 0.1}, {"quarantine": 0.2}, {"follow_links": True}]
)
def test_settings_of_folders_are_refused_elsewhere(change):
    with pytest.raises(ValidationError, match="only a folder of photographs has it"):
        DataSettings(dataset="digits", **change)
    assert DataSettings(dataset="folder", **change)


def test_another_data_set_in_a_folder_of_photographs_is_answered(root):
    for name in ("cifar-10", "digits"):
        with pytest.raises(DataError, match=f"class folders of photographs, not {name} .* `residual train {root}/`"):
            open_dataset(DataSettings(dataset=name, path=str(root)))
    with pytest.raises(DataError, match="no folder of photographs was named"):
        open_dataset(DataSettings(dataset="folder"))
