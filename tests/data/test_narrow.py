"""Images so narrow that they would grow beyond all measure count as files that cannot be used, before a run begins."""

from __future__ import annotations

import os

import pytest

from residual.data.folder import Wishes, open_folder, open_to_judge
from residual.data.images import too_narrow
from residual.data.places import scan
from residual.data.source import everything
from residual.errors import DataError
from tests.data.photographs import divided, encoded, photographs, picture

NARROW = "1 x 3000 pixels are too narrow: they would grow to 224 x 672000"


def add_narrow(folder):
    (folder / "narrow.png").write_bytes(encoded(picture(1, size=(1, 3000))))


def test_a_narrow_image_is_left_out_as_a_damaged_one(tmp_path):
    root = photographs(tmp_path, ["a", "b"], 50)
    fine = open_folder(root, Wishes(image_size=224))
    add_narrow(root / "a")
    dataset = open_folder(root, Wishes(image_size=224))
    assert dataset.left_out == {"a/narrow.png": NARROW}
    assert len(dataset.train) == 100
    assert dataset.checksums == fine.checksums
    with pytest.raises(DataError, match=r"1 of 101 images cannot be used.* a/narrow\.png: 1 x 3000 pixels"):
        open_folder(root, Wishes(image_size=224, quarantine=0))
    (root / "a" / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 102 images cannot be used, more than the share of 0\.01"):
        open_folder(root, Wishes(image_size=224))
    os.unlink(root / "a" / "bad.png")


@pytest.mark.parametrize("wishes", [{"image_size": 32}, {"resize": "pad"}, {"resize": "squash"}])
def test_where_it_need_not_grow_so_far_it_is_used(tmp_path, wishes):
    root = photographs(tmp_path, ["a", "b"], 2)
    add_narrow(root / "a")
    dataset = open_folder(root, Wishes(**{"image_size": 224, **wishes}))
    assert (len(dataset.train), dict(dataset.left_out)) == (5, {})
    dataset.train.read(everything(dataset.train))


def test_one_that_is_judged_on_stops(tmp_path):
    add_narrow(divided(tmp_path / "parts") / "val" / "cat")
    with pytest.raises(DataError, match="1 of 16 validation images cannot be used, and no figure is made of fewer"):
        open_folder(tmp_path / "parts", Wishes(image_size=32, test_size=224))
    add_narrow(photographs(tmp_path / "other", ["cat", "dog"], 2) / "cat")
    with pytest.raises(DataError, match="1 of 5 images cannot be used, and no figure is made of fewer"):
        open_to_judge(scan(tmp_path / "other"), ("cat", "dog"), Wishes(image_size=224))


def test_the_limit_is_where_reading_has_it():
    assert [bool(too_narrow(1, width, (100, 100))) for width in (10_000, 10_001)] == [False, True]
    assert [bool(too_narrow(height, 1, (100, 100))) for height in (10_000, 10_001)] == [False, True]
