"""Which folders of photographs are accepted, and in what words the others are refused."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tarfile
import unicodedata

import pytest

from residual.data.places import holds_photographs, scan
from residual.errors import DataError
from tests.data.photographs import divided, encoded, fill, photographs, picture

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="names and links as POSIX has them")
IMAGE = encoded(picture(0))


def found(root, **options):
    """part -> class -> paths"""
    layout = scan(root, **options)
    return {p: {c: [f.path for f in held.files] for c, held in classes.items()} for p, classes in layout.parts.items()}


def refusal(root, **options):
    with pytest.raises(DataError) as caught:
        scan(root, **options)
    line = str(caught.value)
    assert line.isprintable()
    assert caught.value.remedy
    return line


def test_class_folders_alone(tmp_path):
    photographs(tmp_path, ["b", "a"], 2)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    assert found(tmp_path) == {"all": {"a": ["a/000.jpg", "a/001.png"], "b": ["b/000.jpg", "b/001.png"]}}


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "VALIDATION"), ("train", "valid")])
def test_parts(tmp_path, names):
    divided(tmp_path, names)
    parts = found(tmp_path)
    assert list(parts) == ["train", "validation", "test"][: len(names)]
    assert {len(files) for files in parts["validation"].values()} == {5}
    assert parts["train"]["owl"][0] == f"{names[0]}/owl/000.jpg"


def test_folders_in_a_class_folder_count_to_it(tmp_path):
    photographs(tmp_path, ["a", "b"], 1)
    fill(tmp_path / "a" / "2024" / "may", 1, 0)
    fill(tmp_path / "a" / "images.png", 1, 0)  # a folder, whatever its name
    assert found(tmp_path)["all"]["a"] == ["a/000.jpg", "a/2024/may/000.jpg", "a/images.png/000.jpg"]


def test_a_class_may_be_called_train(tmp_path):
    photographs(tmp_path, ["train", "plane"], 2)
    assert sorted(found(tmp_path)["all"]) == ["plane", "train"]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    photographs(tmp_path, ["a", "b"], 1)
    fill(tmp_path / ".thumbnails", 2, 0)
    (tmp_path / "a" / "._000.jpg").write_bytes(b"of another system")
    assert found(tmp_path) == {"all": {"a": ["a/000.jpg"], "b": ["b/000.jpg"]}}


# Refusals: what was found, and the nearest accepted layout


def test_no_folder(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")
    (tmp_path / "a.jpg").write_bytes(IMAGE)
    assert "unpack it" in refusal(tmp_path / "a.zip")
    assert "FOLDER/CLASS/IMAGES" in refusal(tmp_path / "a.jpg")


def make_nothing(root):
    pass


def make_images_alone(root):
    fill(root, 7, 0)


def make_empty_folders(root):
    for name in "abc":
        (root / name).mkdir()


def make_an_archive(root):
    (root / "photos.tar.gz").write_bytes(b"")


def make_other_images(root):
    for name in "ab":
        (root / name).mkdir()
        (root / name / "x.heic").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_nothing, ["the folder is empty"]),
        (make_images_alone, ["found 7 images, no class folders", "FOLDER/train/CLASS/IMAGES"]),
        (make_empty_folders, ["3 folders without images ('a', 'b', 'c')"]),
        (make_an_archive, ["'photos.tar.gz'", "unpack"]),
        (make_other_images, ["2 folders without images", "convert the images to PNG"]),
    ],
)
def test_a_folder_without_classes(tmp_path, make, words):
    make(tmp_path)
    line = refusal(tmp_path)
    assert [word for word in words if word not in line] == []


def test_an_empty_class_folder_is_named(tmp_path):
    photographs(tmp_path, ["a", "b", "c"], 1)
    (tmp_path / "empty one").mkdir()
    assert "'empty one'" in refusal(tmp_path)


def test_an_empty_class_folder_of_what_is_judged_on_is_as_a_missing_one(tmp_path):
    divided(tmp_path)
    for part in ("val", "test"):
        shutil.rmtree(tmp_path / part / "dog")
    missing = found(tmp_path)
    for part in ("val", "test"):
        (tmp_path / part / "dog").mkdir()
    assert found(tmp_path) == missing
    (tmp_path / "train" / "emu").mkdir()
    assert "a class folder holds no image" in refusal(tmp_path)


@POSIX
def test_folders_in_folders_end_somewhere(tmp_path):
    photographs(tmp_path, ["a", "b"], 1)
    fill(tmp_path.joinpath("a", *"x" * 61), 1, 0)
    assert len(found(tmp_path)["all"]["a"]) == 2
    fill(tmp_path.joinpath("b", *"x" * 100), 1, 0)
    line = refusal(tmp_path)
    assert "folders lie more than 64 deep" in line
    assert f"({tmp_path / 'b' / 'x'}" in line


def test_two_folders_for_one_part(tmp_path):
    divided(tmp_path, ["train", "val", "valid"])
    assert "val/ and valid/ mean the same part" in refusal(tmp_path)


def test_a_part_without_class_folders(tmp_path):
    divided(tmp_path, ["train"])
    fill(tmp_path / "test", 3, 0)
    assert "test/ holds images and no class folders" in refusal(tmp_path)


@pytest.mark.parametrize(
    "names", [("train", "test"), ("train", "test1"), ("train_x", "val_x"), ("Training", "val", "plane"), ("train",)]
)
def test_parts_without_class_folders_are_no_classes(tmp_path, names):
    photographs(tmp_path, names, 2)
    line = refusal(tmp_path)
    assert "images and no class folders" in line
    assert f"{names[0]}/" in line
    assert "give a table of paths and labels" in line


@pytest.mark.parametrize(
    "names",
    [
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("images_train", "images_val", "images_test"),
        ("train2017", "val2017"),
        ("Train images", "Test images"),
        ("train2017",),
    ],
)
def test_parts_whose_names_have_a_word_in_common(tmp_path, names, caplog):
    divided(tmp_path, names)
    with caplog.at_level("INFO", "residual"):
        parts = found(tmp_path)
    assert sorted(parts) == sorted(
        "train" if "rain" in name else "test" if "est" in name else "validation" for name in names
    )
    assert all(sorted(classes) == ["cat", "dog", "owl"] for classes in parts.values())
    assert f"{names[0]}/ is taken for the train part" in caplog.text


@pytest.mark.parametrize("names", [("train_station", "test_tube"), ("training_set", "sets"), ("seg_test", "seg_val")])
def test_words_of_parts_in_the_names_of_classes(tmp_path, names):
    photographs(tmp_path, names, 2)
    assert sorted(found(tmp_path)["all"]) == sorted(names)


def test_parts_that_lie_in_folders_of_their_own_name(tmp_path):
    """As the archive of Intel's scenes does."""
    for name in ("seg_train", "seg_test"):
        photographs(tmp_path / name / name, ["sea", "street"], 2)
    parts = found(tmp_path)
    assert list(parts) == ["train", "test"]
    assert parts["train"]["sea"][0] == "seg_train/seg_train/sea/000.jpg"


def test_parts_in_every_class_folder_are_not_mixed(tmp_path):
    for name in ("cat", "dog"):
        photographs(tmp_path / name, ["train", "test"], 2)
    line = refusal(tmp_path)
    assert "every class folder has parts of its own, as 'cat/test', 'cat/train'" in line
    assert "a table of paths, labels and parts" in line
    fill(tmp_path / "dog", 1, 0)
    assert sorted(found(tmp_path)["all"]) == ["cat", "dog"]


def test_folders_that_may_be_meant_for_classes_are_told(tmp_path):
    photographs(tmp_path / "animals", ["cat", "dog"], 2)
    photographs(tmp_path / "vehicles", ["car", "van"], 2)
    layout = scan(tmp_path)
    assert sorted(layout.parts["all"]) == ["animals", "vehicles"]
    (remark,) = layout.remarks
    assert "the classes are the folders at the top" in remark
    assert "'animals' holds 'cat', 'dog'" in remark


def test_what_is_not_used_is_said(tmp_path):
    divided(tmp_path, ["train", "val"])
    fill(tmp_path / "spare", 1, 0)
    (tmp_path / "train" / "loose.jpg").write_bytes(IMAGE)
    (tmp_path / "train" / "cat" / "old.avif").write_bytes(IMAGE)
    (tmp_path / "train" / "cat" / "notes.txt").write_bytes(b"cats")
    remarks = scan(tmp_path).remarks
    said = "\n".join(remarks)
    assert len(remarks) == 3
    assert "the folders 'spare' beside train, val" in said
    assert "1 images that lie in no class folder" in said
    assert "1 .avif" in said
    assert "1 .txt" in said


def test_a_file_without_a_suffix_is_what_its_first_bytes_say(tmp_path):
    photographs(tmp_path / "photos", ["cat", "dog"], 2)
    cat = tmp_path / "photos" / "cat"
    for form in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"):
        (cat / form).write_bytes(encoded(picture(7), form))
    (cat / "README").write_text("cats")
    (cat / "sub.folder").mkdir()
    if os.name == "posix":
        os.mkfifo(cat / "pipe")  # never opened: that would wait
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        tar.add(tmp_path / "photos", "photos", filter=lambda info: None if info.isfifo() else info)
    for place in (tmp_path / "photos", tmp_path / "photos.tar"):
        layout = scan(place)
        names = sorted(file.path.split("/")[-1] for file in layout.parts["all"]["cat"].files)
        assert names == ["000.jpg", "001.png", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"]
        assert "other files" in layout.remarks[0]


# Names


@POSIX
@pytest.mark.parametrize(
    "name", ["two words", "-x", "é", "🦉‍", "<b>&amp;", 'it\'s "$HOME"', "ü" * 127, "%s", "a" * 255, "CON"]
)
def test_any_printable_name_is_a_class(tmp_path, name):
    try:
        photographs(tmp_path, [name, "other"], 1)
    except OSError:
        pytest.skip("this system has no such names")
    assert found(tmp_path)["all"].keys() == {unicodedata.normalize("NFC", name), "other"}


@POSIX
@pytest.mark.parametrize(("name", "word"), [("a\nb", "line break"), ("\x1b[31m", "control"), (b"\xff\xfe", "UTF-8")])
def test_a_name_that_cannot_be_shown_is_refused(tmp_path, name, word):
    photographs(tmp_path, ["a", "b"], 1)
    try:
        (tmp_path / os.fsdecode(name)).mkdir()
    except OSError:
        pytest.skip("this system has no such names")
    assert word in refusal(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take them for one folder")
def test_one_name_in_two_spellings_is_refused(tmp_path):
    photographs(tmp_path, [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")], 1)
    assert "two folders are named 'café'" in refusal(tmp_path)


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.skipif(sys.platform != "linux", reason="other systems take them for one folder")
def test_names_that_differ_only_in_case_are_told(tmp_path, caplog, monkeypatch, platform):
    photographs(tmp_path, ["Cat", "cat", "dog"], 1)
    monkeypatch.setattr(sys, "platform", platform)  # whose disk, or an archive, may tell them apart
    assert list(found(tmp_path)["all"]) == ["Cat", "cat", "dog"]
    assert ["'Cat', 'cat'" in message for message in caplog.messages] == [True]


# Links, and files that are none


@POSIX
def test_a_link_that_leads_back_is_refused(tmp_path):
    photographs(tmp_path, ["a", "b"], 1)
    os.symlink(tmp_path, tmp_path / "a" / "round")
    assert "leads back" in refusal(tmp_path)
    assert "leads back" in refusal(tmp_path, follow_links=True)
    os.unlink(tmp_path / "a" / "round")
    os.symlink("itself", tmp_path / "a" / "itself")
    assert "itself" in refusal(tmp_path)


@POSIX
def test_two_folders_that_lead_to_each_other_are_refused(tmp_path):
    photographs(tmp_path, ["a", "b"], 1)
    os.symlink(tmp_path / "b", tmp_path / "a" / "to-b")
    os.symlink(tmp_path / "a", tmp_path / "b" / "to-a")
    assert "leads back" in refusal(tmp_path)


@POSIX
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_link_that_leads_out_needs_a_word(tmp_path, kind):
    root = photographs(tmp_path / "root", ["a", "b"], 1)
    outside = fill(tmp_path / "outside", 1, 0)
    target = outside if kind == "folder" else outside / "000.jpg"
    os.symlink(target, root / "a" / "link.jpg")
    line = refusal(root)
    assert "--follow-links" in line
    assert "a/link.jpg" in line
    assert len(found(root, follow_links=True)["all"]["a"]) == 2


@POSIX
def test_a_link_inside_the_folder_is_followed(tmp_path):
    photographs(tmp_path, ["a", "b"], 1)
    os.symlink("000.jpg", tmp_path / "a" / "again.jpg")
    os.symlink(tmp_path / "a", tmp_path / "c")
    assert found(tmp_path)["all"] == {
        "a": ["a/000.jpg", "a/again.jpg"],
        "b": ["b/000.jpg"],
        "c": ["c/000.jpg", "c/again.jpg"],
    }


@POSIX
def test_what_is_no_regular_file_is_listed_and_not_opened(tmp_path, monkeypatch):
    photographs(tmp_path, ["a", "b"], 1)
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    os.symlink("nowhere", tmp_path / "a" / "broken.jpg")
    os.symlink("/dev/zero", tmp_path / "a" / "zero.png")
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("a/socket.png")
        held = scan(tmp_path, follow_links=True).parts["all"]["a"]
    assert [file.path for file in held.files] == ["a/000.jpg"]
    assert {bad.path: bad.why for bad in held.bad} == {
        "a/broken.jpg": "a link that leads nowhere",
        "a/pipe.jpg": "not a regular file",
        "a/socket.png": "not a regular file",
        "a/zero.png": "not a regular file",
    }


@POSIX
def test_a_folder_that_may_not_be_read_is_named(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    photographs(tmp_path, ["a", "b"], 1)
    (tmp_path / "b").chmod(0)
    assert "b" in refusal(tmp_path)
    (tmp_path / "b").chmod(0o700)


def test_what_looks_like_photographs(tmp_path):
    assert not holds_photographs(tmp_path)
    assert not holds_photographs(tmp_path / "nowhere")
    (tmp_path / "x.jpg").write_bytes(IMAGE)
    assert not holds_photographs(tmp_path)
    fill(tmp_path / "train" / "cat", 1, 0)
    assert holds_photographs(tmp_path)
