"""Packing takes hours: what comes to stand at its place meanwhile stays, few images wait, and a stop leaves nothing."""

from __future__ import annotations

import os
from functools import partial

import pytest

from residual.data import packing
from residual.data.folder import Wishes, open_folder
from residual.data.packing import pack
from residual.errors import UsageError
from tests.data.photographs import photographs


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    return photographs(tmp_path / "photos", ["a", "b"], 3)


@pytest.fixture(params=["links", "no links"])
def links(request, monkeypatch):
    def refuse(*_):
        raise OSError(1, "Operation not permitted")

    if request.param == "no links":
        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("when", ["checked", "packed"])
def test_what_came_to_stand_there_meanwhile_stays(photos, tmp_path, links, when):
    out = tmp_path / "p.pack"

    def come(*_):
        if list(tmp_path.glob(".tmp-*")):
            out.write_bytes(b"mine")

    make = partial(pack, heed=come) if when == "checked" else partial(pack, told=come)
    with pytest.raises(UsageError, match=r"something stands there already .*p\.pack"):
        make(photos, out)
    assert out.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "cache", "p.pack"}


def test_it_has_its_name_and_no_other(photos, tmp_path, links):
    made = pack(photos, tmp_path / "p.pack")
    assert len(open_folder(made.path, Wishes(image_size=32)).train) == 6
    assert made.path.stat().st_nlink == 1
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "cache", "p.pack"}


def test_what_a_killed_packing_left_is_removed(photos, tmp_path):
    left = [tmp_path / f".tmp-{start}-x[1].pack" for start in ("77", "77-0123abcd", "78-0123abcd")]
    for path in left:
        path.write_bytes(b"half")
    for path in left[:2]:
        os.utime(path, (0, 0))
    pack(photos, tmp_path / "x[1].pack")
    assert [path.exists() for path in left] == [False, False, True]


def test_no_more_images_wait_than_twice_the_threads():
    begun = []

    def make(number):
        begun.append(number)
        return number

    for done, number in enumerate(packing._in_turn(make, range(100), 2), 1):
        assert number == done - 1
        assert len(begun) < done + 4
    assert sorted(begun) == [*range(100)]


def test_an_image_that_cannot_be_made_ends_it():
    begun = []

    def make(number):
        begun.append(number)
        return 1 // (number - 5)

    with pytest.raises(ZeroDivisionError):
        list(packing._in_turn(make, range(100), 2))
    assert len(begun) <= 10
