"""Which weights are kept and when a run ends early: by validation alone, said, and without a bend in the schedule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import residual
from residual.analysis.curves import curves
from residual.cli.main import run as command
from residual.errors import UsageError
from residual.evaluation.scores import balanced
from residual.export.card import card
from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from residual.runs.summary import model_figures, summarise
from residual.training.progress import describe
from residual.training.recipe import EvaluationSettings, override
from residual.training.recipes import RECIPES
from residual.training.selection import Best, Patience, is_better
from residual.training.train import train
from tests.training.test_step import tiny
from tests.whole.test_resume_every_part import TINY


def test_less_loss_is_better_and_more_of_everything_else() -> None:
    assert is_better("loss", 0.5, 0.6)
    assert not is_better("loss", 0.6, 0.6)
    assert is_better("balanced", 0.6, 0.5)
    assert not is_better("top1", 0.5, 0.5)
    assert is_better("top1", 0.0, None)


def test_balanced_is_the_mean_of_the_recalls_of_classes_that_are_there() -> None:
    confusion = torch.tensor([[90, 10, 0], [5, 5, 0], [0, 0, 0]])
    assert balanced(confusion) == pytest.approx((0.9 + 0.5) / 2)


def figures(*values: float) -> list[dict[str, float]]:
    return [{"top1": value, "loss": 1 - value} for value in values]


@pytest.mark.parametrize("metric", ["top1", "loss"])
def test_patience_counts_validations_without_a_better_one(metric: Any) -> None:
    patience = Patience(metric, 2)
    found = []
    for scores in figures(0.5, 0.4, 0.6, 0.6, 0.5):
        found.append(patience.judge(scores))
        again = Patience(metric, 2)
        again.restore(patience.tensors(), json.loads(json.dumps(patience.facts())))
        patience = again
    assert found == [False, False, False, False, True]


def test_the_best_weights_are_those_of_the_first_of_equal_figures() -> None:
    network = tiny()
    best = Best(network, "top1")
    for step, scores in enumerate(figures(0.3, 0.7, 0.7, 0.2), start=1):
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.fill_(step)
        best.judge(step, step / 2, scores)
        again = Best(network, "top1")
        again.restore({k: t.clone() for k, t in best.tensors().items()}, json.loads(json.dumps(best.facts())))
        best = again
    assert (best.step, best.epoch, best.scores) == (2, 1.0, {"top1": 0.7, "loss": pytest.approx(0.3)})
    with best.in_place():
        assert {float(t.min()) for t in network.state_dict().values()} == {2.0}
    assert {float(t.max()) for t in network.state_dict().values()} == {4.0}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train("digits", set=TINY, out=tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    settings = TINY | {"evaluation.best": "balanced", "evaluation.patience": 2}
    return train("digits", set=settings, out=tmp_path_factory.mktemp("chosen") / "run")


def test_both_figures_are_told_and_the_model_is_the_best(chosen: RunFolder, plain: RunFolder) -> None:
    result = chosen.result()
    assert result is not None
    assert (result["steps"], result["best"]["step"], result["best"]["metric"]) == (6, 2, "balanced")
    assert result["protocol"]["weights"] == "step 2, best on validation (balanced); final: last step"
    assert result["protocol"]["selection"] == "patience of 2 validations (balanced), best on validation (balanced)"
    for split in ("validation", "test"):
        assert set(result["best"][split]) == {"loss", "top1", "top3", "top5", "balanced", "images"}
    assert result["best"]["test"] != result["final"]["test"]
    # What is kept is what was told, and it is the weights that the unwatched run had at that step.
    report = residual.evaluate(chosen.path, device="cpu")
    assert report.step == 2
    assert report.evaluation.scores["loss"] == pytest.approx(result["best"]["test"]["loss"], rel=1e-6)
    there = [r for r in plain.records() if r["kind"] == "evaluation" and r["step"] == 2]
    assert result["best"]["validation"]["loss"] == there[0]["loss"]


def test_a_run_that_ends_early_has_the_rates_and_weights_of_one_that_does_not(
    chosen: RunFolder, plain: RunFolder
) -> None:
    def trained(run: RunFolder) -> list[dict[str, Any]]:
        return [record for record in timeless(run.records()) if record["kind"] == "train"]

    assert trained(chosen) == [record for record in trained(plain) if record["step"] <= 6]
    (event,) = [record for record in chosen.records() if record["kind"] == "event"]
    assert (event["name"], event["step"]) == ("stopped-early", 6)
    read = [r["step"] for r in chosen.records() if r["kind"] == "evaluation" and r["split"] == "test"]
    assert read == [6]  # the test images once, at the end


def test_what_was_chosen_is_said_in_words(chosen: RunFolder) -> None:
    said = [describe(record) for record in chosen.records() if record["kind"] in ("event", "kept")]
    assert said[0] == "step 6: patience has ended, the best validation figure stays 0.1"
    assert said[1].startswith("validation with the weights of step 2, which are kept: loss 4.08")
    assert said[2].startswith("test with the weights of step 2, which are kept: loss ")
    figures = [curves(chosen.records()).series[name].steps for name in ("validation error", "test error")]
    assert figures == [(2, 4, 6), (6,)]  # what was kept is no point of a curve


def test_every_reader_speaks_of_the_model_that_was_kept(chosen: RunFolder, plain: RunFolder) -> None:
    result, unwatched = chosen.result(), plain.result()
    assert result is not None
    assert unwatched is not None
    row = summarise(chosen)
    assert (row["step"], row["steps"], row["test_top1"]) == (6, 6, result["best"]["test"]["top1"])
    assert model_figures(unwatched) == unwatched["final"]
    assert "best" not in unwatched
    text = card(residual.load(chosen.path), "digits", result)
    assert "with the weights of step 2" in text
    assert f"| {100 * result['best']['test']['top1']:.2f} %" in text


@pytest.mark.parametrize(
    ("settings", "where"),
    [({"evaluation.best": "loss"}, "evaluation.best"), ({"evaluation.patience": 3}, "evaluation.patience")],
)
def test_the_test_set_never_chooses(settings: dict[str, Any], where: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="chosen on validation images, and no images are held out") as caught:
        train("digits", set=TINY | settings | {"data.validation": 0.0}, out=tmp_path / "run")
    assert caught.value.where == where
    assert not (tmp_path / "run").exists()


def test_what_is_better_is_a_choice() -> None:
    assert EvaluationSettings().metrics == (None, None)
    assert EvaluationSettings(patience=3).metrics == (None, "top1")
    assert EvaluationSettings(best="loss", patience=3).metrics == ("loss", "loss")
    assert EvaluationSettings(best="loss", patience=3, patience_on="balanced").metrics == ("loss", "balanced")
    assert override(RECIPES["digits"], [("evaluation.best", None)]).evaluation.best == "none"
    with pytest.raises(UsageError, match=r"evaluation\.best"):
        override(RECIPES["digits"], [("evaluation.best", "test")])


def test_watching_the_test_set_is_a_flag_and_marks_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], plain: RunFolder
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [text for path, value in TINY.items() for text in ("--set", f"{path}={value or 'none'}")]
    asked = ["train", "digits", "--watch-test", "--protocol", "tune", "--out", "run", "--log", "plain"]
    assert command([*asked, *settings]) == 0
    capsys.readouterr()
    run = RunFolder(tmp_path / "run")
    result, unwatched = run.result(), plain.result()
    assert result is not None
    assert unwatched is not None
    assert result["protocol"]["watched_test"] is True
    assert result["protocol"]["training"] == "tune (validation held out)"
    steps = [r["step"] for r in run.records() if r["kind"] == "evaluation" and r["split"] == "test"]
    assert steps == [2, 4, 6, 8, 9]
    assert unwatched["protocol"]["watched_test"] is False
    assert result["final"] == unwatched["final"]  # nothing has read it
