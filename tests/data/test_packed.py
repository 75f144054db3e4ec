"""A pack is read as the photographs it was made from; what is not its own bytes is refused."""

from __future__ import annotations

import math
import os
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from residual.data import checking
from residual.data.augment import AugmentSettings
from residual.data.batches import Batches
from residual.data.datasets import DataSettings, divide, open_dataset
from residual.data.encoded import Encoded, opened
from residual.data.folder import Wishes, open_folder
from residual.data.packed import is_pack, open_pack
from residual.data.packing import pack
from residual.data.places import holds_photographs
from residual.data.preprocessing import measure
from residual.data.source import everything, names
from residual.errors import DataError, StorageError, UsageError
from tests.data.photographs import divided, encoded, photographs, picture

WISHES = Wishes(image_size=32)


@pytest.fixture
def photos(tmp_path):
    """Three classes, some of their images grey, with a palette, transparent or turned."""
    root = photographs(tmp_path / "photos", count=6)
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "cat" / "grey.png").write_bytes(encoded(picture(1, 0, (50, 40), grey=True)))
    (root / "cat" / "palette.png").write_bytes(encoded(picture(2, 0, (50, 40)).convert("P")))
    (root / "dog" / "clear.png").write_bytes(encoded(picture(3, 1, (50, 40)).convert("RGBA")))
    (root / "dog" / "turned.jpg").write_bytes(encoded(picture(4, 1, (50, 40)), "JPEG", exif=exif))
    return root


def all_of(path):
    source = open_folder(path, WISHES).train
    return source.read(everything(source))


def refusal(path):
    with pytest.raises(DataError) as caught:
        all_of(path)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_it_gives_the_same_pixels_where_nothing_was_resized(photos, tmp_path, channels, threads):
    made = pack(photos, tmp_path / "p.pack", 64)
    assert (made.images, made.resized, made.left_out) == (22, 0, {})
    wishes = Wishes(image_size=32, channels=channels, threads=threads)
    one, other = (open_folder(place, wishes) for place in (photos, made.path))
    assert one.class_names == other.class_names
    assert names(one.train, everything(one.train)) == names(other.train, everything(other.train))
    assert torch.equal(one.train.read(everything(one.train)), other.train.read(everything(other.train)))
    assert torch.equal(one.train.labels, other.train.labels)
    assert other.facts["layout"] == "pack"


def test_a_run_sees_the_same_batches(photos, tmp_path):
    made = pack(photos, tmp_path / "p.pack", 0)
    found = []
    for place in (photos, made.path):
        settings = DataSettings(dataset="folder", path=str(place), image_size=32)
        dataset = open_dataset(settings)
        training = divide(dataset, settings).training
        constants = measure(dataset.train, training, "mean-std")
        augment = AugmentSettings(mirror=True, crop_scale=(0.3, 1))
        found.append([Batches(dataset.train, training, constants, augment, 8, 0).batch_at(s).images for s in range(4)])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_larger_images_are_brought_to_the_shorter_side_and_no_other(tmp_path):
    root = photographs(tmp_path / "photos", ["a", "b"], 2)
    smooth = picture(0, 0, (8, 6)).resize((400, 300), Image.Resampling.BICUBIC)
    (root / "a" / "large.jpg").write_bytes(encoded(smooth, "JPEG", quality=95))
    (root / "b" / "high.png").write_bytes(encoded(smooth.transpose(Image.Transpose.ROTATE_90)))
    made = pack(root, tmp_path / "p.pack", 48)
    assert made.resized == 2
    store = open_pack(made.path)
    held = [file for classes in store.layout().parts["all"].values() for file in classes.files]
    sizes = {file.path: store.picture(file).size for file in held}
    assert sizes["a/large.jpg"] == (64, 48)
    assert sizes["b/high.png"] == (48, 64)
    assert sizes["a/000.jpg"] == (40, 36)
    with opened(encoded(smooth), "x") as image:
        exact = Encoded(image).array(3)
    large = store.picture(next(file for file in held if file.path == "a/large.jpg")).pixels
    reduced = Image.fromarray(exact).resize((64, 48), Image.Resampling.BILINEAR)
    difference = torch.tensor(large.astype(int) - np.asarray(reduced).astype(int)).abs().float()
    assert difference.mean() < 3


def test_parts_titles_and_groups_are_kept(tmp_path):
    one = open_folder(divided(tmp_path / "photos"), WISHES)
    other = open_folder(pack(tmp_path / "photos", tmp_path / "p.pack").path, WISHES)
    assert other.validation is not None
    assert [len(part) for part in (other.train, other.validation, other.test)] == [36, 15, 15]
    assert one.class_names == other.class_names
    lines = ["path,label,group"]
    for number, path in enumerate(sorted((tmp_path / "photos" / "train").rglob("*.*"))):
        lines.append(f"{path.relative_to(tmp_path / 'photos').as_posix()},{path.parent.name},g{number % 5}")
    table = tmp_path / "photos" / "t.csv"
    table.write_text("\n".join(lines))
    one, other = open_folder(table, WISHES), open_folder(pack(table, tmp_path / "q.pack").path, WISHES)
    assert one.groups is not None
    assert other.groups is not None
    assert torch.equal(one.groups, other.groups)


def test_bad_images_are_left_out_and_listed_or_stop(photos, tmp_path):
    (photos / "cat" / "000.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"more than the share .* allow it with --quarantine 0\.0"):
        pack(photos, tmp_path / "p.pack")
    assert not (tmp_path / "p.pack").exists()
    made = pack(photos, tmp_path / "p.pack", wishes=Wishes(quarantine=0.1))
    assert list(made.left_out) == ["cat/000.jpg"]
    assert open_pack(made.path).facts["left_out"] == made.left_out
    assert sorted(os.listdir(tmp_path)) == ["p.pack", "photos"]


def test_nothing_is_overwritten_and_nothing_half_done_stays(photos, tmp_path, monkeypatch):
    (tmp_path / "p.pack").write_bytes(b"mine")
    with pytest.raises(UsageError, match="something stands there"):
        pack(photos, tmp_path / "p.pack")
    assert (tmp_path / "p.pack").read_bytes() == b"mine"
    with pytest.raises(KeyboardInterrupt):
        pack(photos, tmp_path / "q.pack", told=lambda done, total: exec("raise KeyboardInterrupt"))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        pack(photos, tmp_path / "file" / "q.pack")
    assert sorted(os.listdir(tmp_path)) == ["file", "p.pack", "photos"]
    made = pack(photos, tmp_path / "r.pack")
    with pytest.raises(UsageError, match="a pack already"):
        pack(made.path, tmp_path / "s.pack")


def test_what_cannot_be_written_is_refused_before_the_images_are_read(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "look", lambda store, file: pytest.fail("the images were read"))
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        pack(photos, tmp_path / "file" / "q.pack")
    assert caught.value.remedy == "make room, or name a file elsewhere"


@pytest.mark.parametrize("short_side", [24, 0])
def test_a_pack_that_has_no_room_is_not_begun(photos, tmp_path, monkeypatch, short_side):
    made = pack(photos, tmp_path / "p.pack", short_side)
    store = open_pack(made.path)
    pixels = sum(
        math.prod(store.picture(f).pixels.shape) for c in store.layout().parts["all"].values() for f in c.files
    )
    for free, fits in ((pixels, True), (pixels - 1, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda place, free=free: SimpleNamespace(free=free))
        if fits:
            (tmp_path / "q.pack").unlink(missing_ok=True)
            pack(photos, tmp_path / "q.pack", short_side)
            continue
        with pytest.raises(StorageError, match=f"needs about {pixels:,} bytes, and {free:,} are free"):
            pack(photos, tmp_path / "r.pack", short_side)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.pack", "photos", "q.pack"]


def test_a_damaged_pack_is_refused_wherever_it_is_damaged(tmp_path):
    path = pack(photographs(tmp_path / "photos", ["a", "b"], 2), tmp_path / "p.pack").path
    assert is_pack(path)
    assert holds_photographs(path)
    whole = path.read_bytes()
    start, length = struct.unpack_from("<QQ", whole, len(whole) - 56)
    for place in (8, 9000, start - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "not those that were packed" in refusal(path)
    for place in (*range(start, start + length, 97), len(whole) - 40, len(whole) - 9):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert "index of the pack is damaged" in refusal(path)
    for length in (8, 30, 5000, start, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "cut or lengthened" in refusal(path)
    path.write_bytes(whole + b"x")
    assert "cut or lengthened" in refusal(path)
    path.write_bytes(whole)
    assert len(open_folder(path, WISHES).train) == 4
