"""What a caller says a run to be: the same command goes on with it, another one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from residual.errors import Interrupted, UsageError
from residual.runs.folder import RunFolder
from residual.studies.seeds import study_seeds
from residual.training import batch_trial, budget
from residual.training.progress import Silent
from residual.training.train import resume, train
from tests.studies.test_seeds import Stopping

COMPUTE = {"compute.threads": 1, "compute.precision": "float32"}
TINY: dict[str, Any] = {"data.limit": 100, "batch_size": 20, "steps": 4, **COMPUTE}
SMALL = {"network.name": "resnet-8", "network.widths": [4, 4, 8]}


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("digits", set=TINY | SMALL, out=tmp_path_factory.mktemp("parent") / "runs" / "parent").path


@pytest.fixture
def place(parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `runs/parent` is a run to begin from, and a launcher may begin a run twice."""
    shutil.copytree(parent, tmp_path / "runs" / "parent")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESIDUAL_RUNS", raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    return tmp_path


def test_a_study_that_fine_tunes_goes_on_by_the_same_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK")
    settings = TINY | {"start.weights": "runs/parent"}
    with pytest.raises(Interrupted):
        study_seeds("digits-finetune", [0], set=settings, out="study", listener=lambda _: Stopping())
    study = study_seeds("digits-finetune", [0], set=settings, out="study")
    assert [entry["event"] for entry in study.runs[0].sessions()] == ["began", "interrupted", "began", "finished"]
    shutil.rmtree("runs/parent")  # of which the run has a copy
    assert study_seeds("digits-finetune", [0], set=settings, out="study").as_dict() == study.as_dict()


RECIPES = {
    "a network of ours": "",
    "the network's name": "[network]\nname = 'resnet-8'\nwidths = [4, 4, 8]\n",
    "its parts": "[network]\nname = 'resnet-20'\ndepths = [1, 1, 1]\nwidths = [4, 4, 8]\nstem = 'auto'\n",
}


@pytest.mark.parametrize("network", RECIPES.values(), ids=RECIPES)
def test_a_recipe_file_that_names_weights_goes_on_where_a_launcher_begins_again(place: Path, network: str) -> None:
    name = "mine" if network else "digits"
    (place / "mine.toml").write_text(
        f"format = 1\nname = '{name}'\nbatch_size = 20\nsteps = 4\n[data]\nlimit = 100\n"
        f"[start]\nweights = 'runs/parent'\n{network}"
    )
    with pytest.raises(Interrupted):
        train("mine.toml", set=COMPUTE, out="run", listener=Stopping())
    assert train("mine.toml", set=COMPUTE, out="run").result() is not None
    assert resume("run", recipe="mine.toml", set=COMPUTE).result() is not None


@pytest.mark.parametrize("weights", ["runs/parent", "parent", "last"])
def test_weights_of_a_command_are_the_same_by_any_name(place: Path, weights: str) -> None:
    for listener in (Stopping(), Silent()):
        try:
            train(set=TINY, start_from=weights, out="run", listener=listener)
        except Interrupted:
            continue
    assert RunFolder(Path("run")).result() is not None


OTHER: dict[str, dict[str, Any]] = {
    "start.weights: '": {"start.weights": "runs/other"},
    "network.dropout: None in the run, 0.5 asked": {"network.dropout": 0.5},
    "network.widths: [4, 4, 8] in the run": {"network.widths": [4, 4, 16]},
    "network.name: 'resnet-8' in the run, 'resnet-20' asked": {"network.name": "resnet-20"},
    "start.rate_divisor: 2.6 in the run, 3.0 asked": {"start.rate_divisor": 3.0},
}


def test_other_weights_and_another_network_are_refused(place: Path) -> None:
    began = TINY | {"start.weights": "runs/parent"}
    train("digits-finetune", set=began, out="run")
    shutil.copytree("runs/parent", "runs/other")
    for words, changes in OTHER.items():
        with pytest.raises(UsageError, match="the run differs") as restarted:
            train("digits-finetune", set=began | changes, out="run")
        with pytest.raises(UsageError, match="the run differs") as resumed:
            resume("run", set=began | changes)
        assert words in str(restarted.value)
        assert words in str(resumed.value)


def test_what_was_measured_before_a_run_is_not_measured_again_where_a_launcher_begins_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "longest", lambda seconds, costs, work: 6)  # what it comes to depends on the machine
    monkeypatch.setattr(batch_trial, "_SECONDS", 0.05)
    wish: dict[str, Any] = {"data.limit": 100, "schedule.kind": "steps", "schedule.rate": 0.05, "schedule.drops": [20]}
    wish |= COMPUTE | SMALL
    with pytest.raises(Interrupted):
        train("digits", set=wish, out="run", budget="20s", batch_size="auto", listener=Stopping())
    run = train("digits", set=wish, out="run", budget="20s", batch_size="auto")
    assert [entry["event"] for entry in run.sessions()] == ["began", "interrupted", "began", "finished"]
    for asked, words in (("1m", "budget: 20s in the run, 1m asked"), (None, "steps: 6 in the run, None asked")):
        with pytest.raises(UsageError, match=words):
            train("digits", set=wish, out="run", budget=asked, batch_size="auto")
    plain = TINY | SMALL
    train("digits", set=plain, out="plain")
    with pytest.raises(UsageError, match="budget: none in the run, 1m asked; batch_size: given in the run, auto asked"):
        train("digits", set=COMPUTE | SMALL | {"data.limit": 100}, out="plain", budget="1m", batch_size="auto")
