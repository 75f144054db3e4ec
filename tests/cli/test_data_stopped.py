"""SIGTERM, by which schedulers and containers end what runs in them, leaves nothing half written behind."""

from __future__ import annotations

import os
import signal
import tarfile

import pytest

from residual.data import archives, checking, inspection, packing
from residual.files import TEMPORARY
from tests.data.photographs import photographs

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends a signal as POSIX does")


@pytest.fixture
def photos(here, monkeypatch):
    monkeypatch.setenv("RESIDUAL_CACHE", str(here / "cache"))
    monkeypatch.setattr(checking, "_CHUNK", 4)
    return photographs(here / "PHOTOS", ["cat", "dog"], 5)


@pytest.fixture
def stopped(say, here):
    """`stopped("pack", ...)`: the command ends as SIGTERM asks, and says so; what it was writing is gone."""
    before = signal.getsignal(signal.SIGTERM)
    # Where the command does not hear the signal, the test fails and its process lives on.
    signal.signal(signal.SIGTERM, lambda *_: None)
    own = signal.getsignal(signal.SIGTERM)

    def call(*arguments):
        said = say("data", *arguments)
        assert said.code == 128 + signal.SIGTERM
        line = said.err.splitlines()[-1]  # notes of what was begun may stand before it
        assert line.startswith(f"error: stopped by SIGTERM (residual data {arguments[0]}): nothing is left half done")
        assert not list(here.rglob(f"{TEMPORARY}*"))
        assert signal.getsignal(signal.SIGTERM) is own

    yield call
    signal.signal(signal.SIGTERM, before)


def ending(monkeypatch, module, name, calls=1):
    """The signal comes at the so many-th call of a function."""
    real, seen = getattr(module, name), []

    def wrapped(*arguments, **options):
        seen.append(1)
        if len(seen) == calls:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, wrapped)


def test_a_pack_that_is_ended_leaves_nothing(stopped, photos, here, monkeypatch):
    for module, name in ((checking, "look"), (packing, "_pixels")):
        with monkeypatch.context() as patch:
            ending(patch, module, name, 3)
            stopped("pack", "PHOTOS", "p.pack", "--threads", 1)
        assert {*os.listdir(here)} <= {"PHOTOS", "cache"}


def test_a_check_that_is_ended_leaves_no_rows(stopped, photos, here, monkeypatch):
    ending(monkeypatch, inspection, "examine_all")
    stopped("check", "PHOTOS", "--csv", "files.csv", "--processes", 1)
    assert sorted(os.listdir(here)) == ["PHOTOS"]


def test_what_was_verified_until_then_is_remembered(stopped, say, photos, here, monkeypatch):
    with monkeypatch.context() as patch:
        ending(patch, checking, "look", 6)
        stopped("verify", "PHOTOS")
    assert len(list((here / "cache").glob("checked-*"))) == 1
    with tarfile.open(here / "p.tar.gz", "w:gz") as tar:
        tar.add(photos, "PHOTOS")
    ending(monkeypatch, archives, "growing_file")
    stopped("verify", "p.tar.gz")
    assert not list((here / "cache").glob("archive-*"))
