"""Malicious and broken files of weights: nothing in them runs, and each is answered with one line."""

from __future__ import annotations

import pickle

import pytest

from residual.errors import ModelError
from residual.models.interchange.families import bring_in
from residual.models.interchange.foreign import read_foreign
from tests.models.interchange.broken import FILES, OWNED, SOUND, Evil, saved, written
from tests.models.interchange.broken_places import PLACES

BROKEN = {**FILES, **PLACES}


def test_there_are_enough_of_them():
    assert len(BROKEN) >= 60


@pytest.mark.parametrize(("make", "words"), BROKEN.values(), ids=BROKEN)
def test_one_line_and_nothing_runs(tmp_path, monkeypatch, make, words):
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path).relative_to(tmp_path)
    with pytest.raises(ModelError) as caught:
        bring_in(read_foreign(path), "auto", path)
    line = str(caught.value)
    assert words in line
    assert len(line) < 900
    assert line.isprintable()
    assert ": " in line  # what (where): what to do
    assert caught.value.exit_code == 4
    assert not (tmp_path / OWNED).exists()


def test_the_pickles_of_these_tests_would_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Evil()))
    assert (tmp_path / OWNED).exists()


def test_the_same_files_without_their_faults_are_taken(tmp_path):
    path = written("x.pth", lambda: saved(SOUND))(tmp_path)
    assert bring_in(read_foreign(path), "auto", path).network.spec.name == "resnet-8"


@pytest.mark.parametrize("size", range(0, 4000, 379))
@pytest.mark.parametrize("name", ["x.pth", "x.th", "x.safetensors"])
def test_cut_anywhere_it_is_refused(tmp_path, name, size):
    import safetensors.torch

    early = {"_use_new_zipfile_serialization": False}
    data = (
        safetensors.torch.save(SOUND) if name == "x.safetensors" else saved(SOUND, **(early if name == "x.th" else {}))
    )
    (tmp_path / name).write_bytes(data[:size])
    with pytest.raises(ModelError):
        read_foreign(tmp_path / name)
