"""Seeds: figures by hand, a study that goes on, and refusals."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace

import pytest

from residual.analysis.bands import band
from residual.analysis.curves import curves
from residual.cli.main import run as command
from residual.errors import Interrupted, UsageError
from residual.studies.seeds import study_seeds
from residual.training.progress import Silent
from residual.training.train import train
from residual.tuning.study import Wish, begin_facts, unlike
from tests.data.photographs import photographs

TINY = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.limit": 120,
    "batch_size": 40,
    "epochs": 2,
    "compute.threads": 1,
    "compute.precision": "float32",
}


def result_of(run):
    found = run.result()
    assert found is not None
    return found


def test_mean_and_deviation_are_those_of_the_runs(tmp_path):
    study = study_seeds("digits", [3, 4, 5], set=TINY, out=tmp_path / "study")
    values = [result_of(run)["final"]["test"]["top1"] for run in study.runs]
    spread = study.final["test"]["top1"]
    assert spread.values == tuple(values)
    assert spread.mean == pytest.approx(sum(values) / 3)
    assert spread.std == pytest.approx(statistics.stdev(values))
    assert [run.facts()["recipe"]["seed"] for run in study.runs] == [3, 4, 5]
    assert len({result_of(run)["final"]["test"]["loss"] for run in study.runs}) == 3
    assert json.loads((tmp_path / "study" / "study.json").read_text()) == study.as_dict()
    traced = [curves(run.records()) for run in study.runs]
    found = band(traced, "validation error")
    assert found is not None
    for place, epoch in enumerate(found.epochs):
        here = [trace.series["validation error"].values[place] for trace in traced]
        assert (found.mean[place], found.std[place]) == pytest.approx((statistics.fmean(here), statistics.stdev(here)))
        assert epoch == traced[0].series["validation error"].epochs[place]
    assert band(traced, "nothing of that name") is None


class Stopping(Silent):
    def stepped(self, step, images):
        if step == 2:
            import signal

            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_study_goes_on_and_trains_nothing_twice(tmp_path):
    out = tmp_path / "study"
    with pytest.raises(Interrupted):
        study_seeds("digits", [0, 1], set=TINY, out=out, listener=lambda seed: Stopping() if seed else Silent())
    first = (out / "seed-0" / "result.json").stat().st_mtime_ns
    assert not (out / "study.json").exists()
    study = study_seeds("digits", [0, 1], set=TINY, out=out)
    assert (out / "seed-0" / "result.json").stat().st_mtime_ns == first
    assert [entry["event"] for entry in study.runs[1].sessions()] == ["began", "interrupted", "began", "finished"]
    with pytest.raises(UsageError, match="the run differs"):
        study_seeds("digits", [0, 1], set=TINY | {"optimiser.momentum": 0.5}, out=out)


def test_photographs_that_begin_from_weights_are_fine_tuned(tmp_path):
    weights = train("digits", set=TINY, out=tmp_path / "weights").path
    photos = photographs(tmp_path / "photos", ("cat", "dog"), count=12)
    few = {"steps": 2, "epochs": None, "batch_size": 4, "compute.threads": 1, "compute.precision": "float32"}
    for told, name in (({"start.weights": str(weights)}, "photos-finetune"), ({"network.name": "resnet-8"}, "photos")):
        study = study_seeds(str(photos), [0], set=few | told, out=tmp_path / "studies" / name)
        assert study.recipe == name
        wish = Wish(recipe=str(photos), set=(*told.items(),))
        facts = begin_facts("search", wish)
        assert facts["recipe"]["name"] == name
        assert unlike(facts, wish) == {}
    # A search of an earlier release, which took no other settings, is gone on with.
    facts["recipe"]["start"] = {**facts["recipe"]["start"], "weights": str(weights)}
    assert unlike(facts, replace(wish, set=(("network.name", "resnet-8"), ("start.weights", str(weights))))) == {}


def test_the_last_run_is_the_same_for_all_trainings_of_a_study(tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    other = {"network.name": "resnet-14", "steps": 2, "epochs": None}
    first = train("digits", set=TINY | other, out=tmp_path / "runs" / "first").path
    wish = Wish(set=(("start.weights", "last"), ("data.limit", 120)))
    facts = begin_facts("search", wish)
    assert facts["recipe"]["start"]["weights"] == str(first)
    assert facts["recipe"]["name"] == "digits-finetune", "and the network is that of the weights"
    asked = {"start.weights": "last", "steps": 2, "epochs": None, "batch_size": 40, "data.limit": 120}
    study_seeds("digits-finetune", [0], set=asked, out=tmp_path / "study")
    train("digits", set=TINY | {"steps": 2, "epochs": None}, out=tmp_path / "runs" / "second")
    study = study_seeds("digits-finetune", [0, 1], set=asked, out=tmp_path / "study")
    assert {run.facts()["recipe"]["start"]["weights"] for run in study.runs} == {str(first)}
    assert unlike(facts, wish) == {}
    with pytest.raises(UsageError, match="no such run"):
        begin_facts("search", Wish(set=(("start.weights", "lats"),)))


@pytest.mark.parametrize(("seeds", "settings"), [([], {}), ([1, 1], {}), ([-1], {}), ([0], {"seed": 3})])
def test_what_is_no_study_is_refused(seeds, settings, tmp_path):
    with pytest.raises(UsageError):
        study_seeds("digits", seeds, set=TINY | settings, out=tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_it_in_a_table_and_as_json(tmp_path, monkeypatch, capsys, pictures):
    monkeypatch.chdir(tmp_path)
    settings = [text for path, value in TINY.items() for text in ("--set", f"{path}={value}")]
    arguments = ["study", "seeds", "digits", "--seeds", "2", "--out", "s", *settings]
    assert command(arguments) == 0
    said = capsys.readouterr().out
    assert "2 seeds, last step" in said
    assert "±" in said
    assert (tmp_path / "s" / "study.png").read_bytes().startswith(b"\x89PNG")
    assert command([*arguments, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["seeds"] == [0, 1]
    assert value["final"]["test"]["top1"]["std"] is not None
