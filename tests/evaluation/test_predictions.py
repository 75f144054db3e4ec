"""Answers of a run's model: those an evaluation counts, kept for next time, never those of another model."""

from __future__ import annotations

import logging
import shutil

import pytest
import torch

from residual.errors import DataError, ModelError, StorageError
from residual.evaluation import predictions
from residual.evaluation.predictions import answers
from residual.evaluation.use import evaluate
from residual.runs.folder import RunFolder
from residual.training.train import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    small = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "data.limit": 100, "steps": 4}
    return train("digits", set={**small, "batch_size": 30}, out=tmp_path_factory.mktemp("run") / "run").path


@pytest.fixture
def run(trained, tmp_path):
    return RunFolder(shutil.copytree(trained, tmp_path / "run"))


class Steps(list):
    def __call__(self, done, total):
        self.append((done, total))


@pytest.mark.parametrize("split", ["test", "validation", "training"])
def test_the_answers_are_those_an_evaluation_counts(run, split):
    steps = Steps()
    found = answers(run, split, progress=steps)
    report = evaluate(run.path, split=split)
    given = found.predictions
    assert given.scores() == pytest.approx(report.evaluation.scores, abs=1e-7)
    assert len(given.labels) == report.evaluation.images == len(given.numbers)
    hits = (given.logits.argmax(1) == given.labels).sum()
    assert int(hits) == int(report.evaluation.confusion.diagonal().sum())
    assert found.source is not None
    assert torch.equal(found.source.labels[given.numbers], given.labels)
    assert steps[0] == (0, len(given.labels))
    assert steps[-1] == (len(given.labels), len(given.labels))


def test_a_second_question_is_answered_from_the_folder(run, monkeypatch):
    first = answers(run, "test").predictions

    def never(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(predictions, "answer", never)
    second = answers(run, "test").predictions
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.labels, second.labels)
    assert (second.step, second.device) == (4, "cpu")
    with pytest.raises(AssertionError, match="computed again"):
        answers(run, "validation")


def test_answers_of_another_model_are_not_used(run):
    final = answers(run, "test").predictions
    shutil.rmtree(run.model_path)
    again = answers(run, "test").predictions  # the checkpoint of the last step holds the same model
    assert torch.equal(final.logits, again.logits)
    small = {"network.name": "resnet-8", "data.limit": 60, "batch_size": 30}
    other = train("digits", set={**small, "seed": 9, "steps": 2}, out=run.path.parent / "other")
    shutil.copytree(run.predictions_path("test"), other.predictions_path("test"))
    assert answers(other, "test").predictions.step == 2


@pytest.mark.parametrize("damage", ["flip", "cut", "manifest", "file"])
def test_damaged_predictions_are_made_anew(run, damage, caplog):
    first = answers(run, "test").predictions
    folder = run.predictions_path("test")
    path = folder / ("manifest.json" if damage == "manifest" else "predictions.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "file":
        shutil.rmtree(folder)
        folder.write_bytes(b"")
    else:
        path.write_bytes(data[:-1] if damage == "cut" else data)
    with caplog.at_level(logging.WARNING, "residual"):
        again = answers(run, "test").predictions
    assert torch.equal(first.logits, again.logits)
    assert "made anew" in caplog.text


def test_without_the_data_only_stored_answers_are_given(run, monkeypatch):
    def gone(*_):
        raise DataError("the folder is gone", "photos", "bring it back")

    with monkeypatch.context() as patch:
        patch.setattr(predictions, "open_data", gone)
        with pytest.raises(DataError, match="the folder is gone"):
            answers(run, "test")
    answers(run, "test")
    monkeypatch.setattr(predictions, "open_data", gone)
    found = answers(run, "test")
    assert found.source is None
    assert "the folder is gone" in str(found.absence)
    assert len(found.predictions.labels) == 359


def test_a_folder_that_cannot_be_written_costs_only_time(run, monkeypatch, caplog):
    def full(*_):
        raise StorageError("no space", run.path, "free some")

    monkeypatch.setattr(predictions, "write_folder", full)
    with caplog.at_level(logging.WARNING, "residual"):
        assert len(answers(run, "test").predictions.labels) == 359
    assert "not kept" in caplog.text


def test_a_run_without_a_model_says_so(run):
    shutil.rmtree(run.model_path)
    shutil.rmtree(run.path / "checkpoints")
    with pytest.raises(ModelError, match="no model yet"):
        answers(run, "test")
