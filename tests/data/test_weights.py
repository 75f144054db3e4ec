"""Weights by name: the file with the right beginning of its SHA-256, or nothing, and what to do by hand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from residual.data import weights
from residual.data.weights import fetch_weights, weights_folder
from residual.errors import DataError
from tests.data.lying_server import Answer, Cut, closed_port, page, serving, whole

DATA = bytes(range(256)) * 400
NAME = f"resnet9-{hashlib.sha256(DATA).hexdigest()[:8]}.pth"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RESIDUAL_MIRRORS", raising=False)


def test_it_is_downloaded_once(monkeypatch):
    with serving(good=whole(DATA)) as server:
        monkeypatch.setattr(weights, "HOST", server.address("good") + "/")
        path = fetch_weights(NAME)
        assert (path, path.read_bytes()) == (weights_folder() / NAME, DATA)
        assert fetch_weights(NAME) == path
        assert server.asked == [f"/good/{NAME}"]


def test_what_lies_leaves_nothing(monkeypatch):
    wrong: dict[str, Answer] = {
        "other": whole(DATA[::-1]),
        "cut": Cut(DATA, 0.5),
        "silent": Cut(DATA, 0.5, "nothing"),
        "none": page(404),
    }
    with serving(**wrong) as server:
        for manner in wrong:
            monkeypatch.setattr(weights, "HOST", server.address(manner) + "/")
            with pytest.raises(DataError):
                fetch_weights(NAME)
            assert not list(weights_folder().glob("*"))


def test_a_file_of_other_bytes_is_not_used(monkeypatch):
    weights_folder().mkdir(parents=True)
    (weights_folder() / NAME).write_bytes(DATA + b"more")
    with serving(good=whole(DATA)) as server:
        monkeypatch.setattr(weights, "HOST", server.address("good") + "/")
        assert fetch_weights(NAME).read_bytes() == DATA


def test_offline_it_says_which_file_to_put_where(monkeypatch):
    monkeypatch.setattr(weights, "HOST", f"http://127.0.0.1:{closed_port()}/")
    with pytest.raises(DataError) as caught:
        fetch_weights(NAME)
    line = str(caught.value)
    assert str(weights_folder() / NAME) in line
    assert f"/{NAME} by other means (SHA-256 {NAME[8:16]}...) and put it there" in line
