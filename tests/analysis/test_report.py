"""What a report says, against evaluations and records read in another way; and what it says is missing."""

from __future__ import annotations

import json
import logging
import math
import shutil

import pytest
import torch

from residual.analysis import report as reports
from residual.analysis.curves import curves
from residual.analysis.report import judge, read_report
from residual.data.source import MemorySource
from residual.errors import DataError, ModelError, UsageError
from residual.evaluation.calibration import calibration
from residual.evaluation.figures import finite
from residual.evaluation.predictions import Predictions
from residual.evaluation.use import evaluate
from residual.runs.folder import RunFolder


def unfinish(run):
    shutil.rmtree(run.model_path)
    (run.path / "result.json").unlink()
    return run


def alter(run, change):
    facts = json.loads((run.path / "run.json").read_text())
    change(facts)
    (run.path / "run.json").write_text(json.dumps(facts))
    return run


def test_the_figures_are_those_of_records_and_of_an_evaluation(finished):
    (run,) = read_report([finished]).runs
    evaluated = evaluate(finished.path)
    assert run.judged is not None
    assert run.judged.confusion.tolist() == evaluated.evaluation.confusion.tolist()
    assert run.judged.figures.loss == pytest.approx(evaluated.evaluation.scores["loss"])
    by_name = {one.name: one for one in run.judged.classes}
    assert {name: one.recall for name, one in by_name.items()} == pytest.approx(evaluated.as_dict()["classes"])
    result = finished.result()
    assert result is not None
    recorded = {row.split: row for row in run.figures}
    assert list(recorded) == ["training", "validation", "test"]
    for split, scores in result["final"].items():
        row = recorded[split]
        assert {"loss": row.loss, "top1": row.top1, "images": row.images}.items() <= scores.items()
        assert "single view" in row.protocol
    assert "augmented" in recorded["training"].protocol
    assert run.curves == curves(finished.records())
    assert (run.finished, run.step, run.steps, run.missing) == (True, 12, 12, ())


def test_mistakes_carry_their_images_and_probabilities(finished):
    (run,) = read_report([finished]).runs
    judged = run.judged
    assert judged is not None
    assert len(judged.mistakes) == len(judged.images) == len(judged.titles) == min(24, judged.wrong)
    losses = [mistake.loss for mistake in judged.mistakes]
    assert losses == sorted(losses, reverse=True)
    for mistake in judged.mistakes:
        assert mistake.loss == pytest.approx(-math.log(mistake.probability_of_truth), rel=1e-6)
        assert mistake.probability >= mistake.probability_of_truth


def test_examples_and_mistakes_carry_their_maps(finished):
    (run,) = read_report([finished]).runs
    judged = run.judged
    assert judged is not None
    assert len(judged.maps) == len(judged.mistakes)
    assert len(judged.example_maps) == len(judged.examples) == len(judged.example_images) == len(judged.example_titles)
    assert all(shown.shape == (3, *image.shape[1:]) for shown, image in zip(judged.maps, judged.images, strict=True))
    worst = [one.number for one in judged.classes]
    assert [one.number for one in judged.examples] == [k for k in worst if k in {e.number for e in judged.examples}]
    sheet = evaluate(finished.path).sheet
    shares = sheet.logits.double().softmax(1)
    for one, title in zip(judged.examples, judged.example_titles, strict=True):
        right = (sheet.labels == one.number) & (sheet.logits.argmax(1) == one.number)
        assert right[one.row]
        assert one.probability == pytest.approx(float(shares[right][:, one.number].max()), rel=1e-5)
        assert title == f"no. {one.row}"
    assert judged.calibration.error == pytest.approx(calibration(sheet.logits, sheet.labels).error, abs=1e-6)


def test_two_reports_of_a_run_are_the_same(finished):
    first, second = (read_report([finished]).as_dict() for _ in range(2))
    assert first == second
    json.dumps(first, allow_nan=False)


def test_an_unfinished_run_says_so_and_shows_its_checkpoint(finished):
    unfinish(finished)
    shutil.rmtree(finished.checkpoint_path(12))
    (run,) = read_report([finished]).runs
    assert not run.finished
    assert run.judged is not None
    assert run.judged.figures.step == 10
    assert any("not finished: it stands at step 12 of 12" in note for note in run.missing)
    assert any("checkpoint of step 10" in note for note in run.missing)


def test_a_run_without_a_model_is_told_from_its_records(finished):
    unfinish(finished)
    shutil.rmtree(finished.path / "checkpoints")
    (run,) = read_report([finished]).runs
    assert run.judged is None
    assert any("no model yet" in note for note in run.missing)
    assert [row.split for row in run.figures] == ["training", "validation", "test"]


def test_without_test_images_the_held_out_ones_are_judged(finished):
    alter(finished, lambda facts: facts["data"].update(test=0))
    (run,) = read_report([finished]).runs
    assert run.judged is not None
    assert (run.judged.split, run.judged.figures.images) == ("validation", 20)
    assert "The data of this run have no test images." in run.missing
    with pytest.raises(UsageError, match="no run here has test images"):
        read_report([finished], split="test")


def test_without_any_images_to_judge_by_the_rest_is_told(finished):
    alter(finished, lambda facts: facts["data"].update(test=0, validation=0))
    (run,) = read_report([finished]).runs
    assert run.judged is None
    assert any("no validation images" in note for note in run.missing)


@pytest.mark.parametrize("stored", [False, True])
def test_where_the_data_are_gone_the_report_says_what_it_lacks(finished, monkeypatch, stored):
    def gone(*_):
        raise DataError("no such folder", "/home/anna/photos", "name it with --data")

    if stored:
        before = read_report([finished]).runs[0].judged
    monkeypatch.setattr("residual.evaluation.predictions.open_data", gone)
    (run,) = read_report([finished]).runs
    (note,) = run.missing
    assert "no such folder (~/photos)" in note
    if stored:
        assert run.judged is not None
        assert before is not None
        assert run.judged.classes == before.classes
        assert run.judged.images == ()
        assert len(run.judged.titles) == len(run.judged.mistakes) > 0
    else:
        assert run.judged is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "run.json").write_text("{"),
        lambda path: (path / "run.json").write_text('{"format": 1}'),
        lambda path: alter(RunFolder(path), lambda facts: facts.update(network=[])),
        lambda path: alter(RunFolder(path), lambda facts: facts.pop("machine")),
        lambda path: (path / "records.jsonl").write_text("nonsense\n"),
    ],
    ids=["cut", "empty", "network", "machine", "records"],
)
def test_a_damaged_run_is_named_and_hides_no_other(finished, trained, tmp_path, damage, caplog):
    broken = RunFolder(shutil.copytree(trained, tmp_path / "broken"))
    damage(broken.path)
    with caplog.at_level(logging.WARNING, "residual"):
        found = read_report([broken, finished])
    assert [run.name for run in found.runs] == ["run"]
    assert list(found.damaged) == ["broken"]
    assert "broken" in caplog.text
    with pytest.raises(ModelError, match="no run can be reported"):
        read_report([broken])


def test_several_runs_show_what_sets_them_apart(finished, trained, tmp_path):
    other = RunFolder(shutil.copytree(trained, tmp_path / "other" / "run"))
    alter(other, lambda facts: facts["recipe"].update(seed=5))
    found = read_report([finished, other])
    assert [run.name for run in found.runs] == [f"{finished.path.parent.name}/run", "other/run"]
    assert found.differences == {"seed": [0, 5]}


def test_numbers_that_are_not_finite_become_nothing(finished, monkeypatch):
    monkeypatch.setattr(reports, "answers", lambda *_, **__: pytest.fail("asked"))
    logits = torch.full((3, 2), math.nan)
    judged, absence = judge(Predictions("test", 1, "cpu", logits, torch.tensor([0, 1, 1]), torch.arange(3)), ["a", "b"])
    assert absence is None
    assert math.isnan(judged.figures.loss or 0)
    text = json.dumps(finite(reports._judged_dict(judged)), allow_nan=False)
    assert json.loads(text)["figures"]["loss"] is None


def test_files_name_the_mistakes_of_photographs():
    logits, labels = torch.eye(3)[[0, 1, 2, 0]], torch.tensor([0, 1, 2, 2])
    source = MemorySource(torch.zeros(4, 3, 4, 4, dtype=torch.uint8), labels)
    given = Predictions("validation", 1, "cpu", logits, labels, torch.tensor([0, 1, 2, 3]))
    judged, _ = judge(given, "abc", source, ["w.png", "x.png", "y.png", "z/cat.png"])
    assert judged.titles == ("z/cat.png",)
    assert len(judged.images) == 1
    assert judge(given, "abc")[0].titles == ("no. 3",)
