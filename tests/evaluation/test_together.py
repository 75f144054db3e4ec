"""Runs judged together: members as they are alone, the ensemble as their average, the same again from a file."""

from __future__ import annotations

import csv
import logging
import subprocess
import sys

import pytest
import torch

from residual.errors import UsageError
from residual.evaluation.answer_table import is_answers
from residual.evaluation.calibration import calibration, fit_temperature
from residual.evaluation.intervals import mcnemar, wilson
from residual.evaluation.together import evaluate_together, from_files
from residual.evaluation.use import evaluate
from residual.training.train import train
from tests.conftest import subprocess_environment

# Enough to be better than chance on ten crops, on any machine: a temperature is fitted to their answers.
SMALL = {
    "network.name": "resnet-8",
    "network.widths": [4, 8, 8],
    "data.limit": 400,
    "data.augment.mirror": True,
    "batch_size": 40,
    "compute.precision": "float32",
    "compute.threads": 1,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [
        train("digits", set={**SMALL, "steps": 80, "seed": seed}, out=folder / f"seed-{seed}").path for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def both(runs):
    return evaluate_together(runs, protocol="10-crop", calibrate=True)


def test_a_file_named_twice_is_no_ensemble(both, tmp_path, monkeypatch):
    both.save(tmp_path / "a.npz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="named twice"):
        from_files(["a.npz", tmp_path / "a.npz"])


def test_answers_as_a_table(both, tmp_path):
    """A row for each image and each of members and ensemble, from which the figures follow again."""
    path = tmp_path / "answers.csv"
    both.save(path)
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert is_answers(path)
    assert len(rows) == 3 * both.members[0].evaluation.images
    for one in both.reports:
        own = [row for row in rows if row["by"] == one.place]
        assert [row["file"] for row in own] == list(one.sheet.images)
        assert sum(row["correct"] == "true" for row in own) == one.tops[0].hits
        assert all((row["truth"] == row["answer"]) == (row["correct"] == "true") for row in own)
        for top in one.tops:
            assert sum(int(row["rank_of_truth"]) <= top.k for row in own) == top.hits
        losses = [float(row["loss"]) for row in own]
        assert sum(losses) / len(losses) == pytest.approx(one.evaluation.scores["loss"], abs=1e-5)
        worst = own[one.mistakes[0].row]
        assert float(worst["loss"]) == pytest.approx(max(losses))
        assert float(worst["probability"]) == pytest.approx(one.mistakes[0].probability, abs=1e-6)
        assert worst["answer"] == one.class_names[one.mistakes[0].predicted]
    with pytest.raises(UsageError, match="no such format of predictions"):
        from_files([path])


def test_members_are_judged_as_they_are_alone(runs, both):
    for run, member in zip(runs, both.members, strict=True):
        alone = evaluate(run, protocol="10-crop")
        assert torch.equal(alone.sheet.logits, member.sheet.logits)
        assert alone.evaluation.scores == member.evaluation.scores
    single = evaluate(runs[0])
    assert single.as_dict()["protocol"] == "1-crop"
    assert not torch.equal(single.sheet.logits, both.members[0].sheet.logits)


def test_figures_are_those_counted_by_hand(both):
    one = both.members[0]
    logits, labels = one.sheet.logits, one.sheet.labels
    for top in one.tops:
        best = logits.topk(top.k, 1).indices
        assert top.hits == int((best == labels.unsqueeze(1)).any(1).sum())
        assert top.interval == wilson(top.hits, 359)
        assert one.evaluation.scores[f"top{top.k}"] == top.accuracy == top.hits / 359
        assert top.error_interval[0] <= top.error <= top.error_interval[1]
    recalls = [float((logits[labels == k].argmax(1) == k).double().mean()) for k in range(10)]
    assert one.as_dict()["balanced_accuracy"] == pytest.approx(sum(recalls) / 10)
    assert list(one.as_dict()["classes"].values()) == pytest.approx(recalls)
    assert one.calibration == calibration(logits, labels)
    assert one.mistakes[0].loss == max(m.loss for m in one.mistakes)


def test_the_ensemble_is_the_average_and_the_pair_is_counted(both):
    assert both.ensemble is not None
    first, second = (member.sheet for member in both.members)
    shares = (first.logits.double().softmax(1) + second.logits.double().softmax(1)) / 2
    torch.testing.assert_close(both.ensemble.sheet.logits.double().softmax(1), shares, rtol=1e-5, atol=1e-7)
    right = [sheet.logits.argmax(1) == sheet.labels for sheet in (first, second)]
    pair, *with_the_whole = both.pairs
    whole = both.ensemble.sheet
    assert [one.second for one in with_the_whole] == [whole.place] * 2
    better = whole.logits.argmax(1) == whole.labels
    assert [one.only_second for one in with_the_whole] == [int((better & ~own).sum()) for own in right]
    assert pair.only_first == int((right[0] & ~right[1]).sum())
    assert pair.only_second == int((~right[0] & right[1]).sum())
    assert (pair.exact, pair.mid_p) == mcnemar(pair.only_first, pair.only_second)
    value = both.as_dict()
    assert [member["protocol"] for member in [*value["members"], value["ensemble"]]] == ["10-crop"] * 3


def test_temperatures_are_fitted_on_the_held_out_images(runs, both):
    held = [evaluate(run, protocol="10-crop", split="validation").sheet for run in runs]
    for member, sheet in zip(both.members, held, strict=True):
        found = fit_temperature(sheet.logits, sheet.labels)
        assert found is not None
        assert member.calibrated is not None
        assert member.calibrated.temperature == found
        after = calibration(member.sheet.logits / found.value, member.sheet.labels)
        assert member.calibrated.calibration == after
    assert both.ensemble is not None
    assert both.ensemble.calibrated is not None  # both held out the same images
    with pytest.raises(UsageError, match="never judged"):
        evaluate_together(runs[:1], split="validation", calibrate=True)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_a_file_gives_the_same_without_torch_models(both, tmp_path, suffix):
    path = tmp_path / f"answers.{suffix}"
    both.save(path)
    assert from_files([path]).as_dict() == both.as_dict()
    program = (
        "import sys; from residual.cli.main import run\n"
        "import residual.models.networks as networks\n"
        "def never(*_): raise AssertionError('a model was built')\n"
        "networks.ResidualNetwork.__init__ = never\n"
        f"sys.exit(run(['evaluate', '--from-predictions', {str(path)!r}]))\n"
    )
    if suffix == "npz":
        environment = subprocess_environment()
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "10-crop" in done.stdout
        assert f"{100 * both.ensemble.tops[0].accuracy:.2f} %" in done.stdout


def test_files_of_single_runs_are_put_together(runs, both, tmp_path):
    for number, run in enumerate(runs):
        evaluate_together([run], protocol="10-crop").save(tmp_path / f"{number}.npz")
    files = [tmp_path / "0.npz", tmp_path / "1.npz"]
    found = from_files(files)
    assert found.ensemble is not None
    assert torch.equal(found.ensemble.sheet.logits, both.ensemble.sheet.logits)
    assert found.pairs == both.pairs
    with pytest.raises(UsageError, match="no logits to average"):
        from_files(files, "logits")
    with pytest.raises(UsageError, match="nothing else is left"):
        from_files(files[:1], "logits")


def test_a_run_is_no_ensemble_with_itself(runs, monkeypatch):
    monkeypatch.chdir(runs[0].parent)
    with pytest.raises(UsageError, match="named twice"):
        evaluate_together([runs[0], "seed-0"])


def test_other_held_out_images_are_not_mixed(runs, tmp_path, caplog):
    other = train("digits", set={**SMALL, "steps": 2, "data.limit": 80}, out=tmp_path / "other").path
    with pytest.raises(UsageError, match="different images"):
        evaluate_together([runs[0], other], split="validation")
    with caplog.at_level(logging.WARNING, "residual"):
        found = evaluate_together([runs[0], other], calibrate=True)
    assert found.ensemble is not None
    assert found.ensemble.calibrated is None
    assert "held out different" in caplog.text
