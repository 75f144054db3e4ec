"""A small real sample of the tuning campaigns, by their own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from campaigns import comparison, readme, running, tuning_kill, tuning_parts
from campaigns.ga001 import search, wish
from residual.runs.folder import RunFolder
from residual.training.recipe import override, to_recipe
from residual.tuning.space import make_space
from residual.tuning.study import Wish, begin_facts

pytestmark = pytest.mark.usefixtures("warm")

SMALL = (
    ("network.widths", [4, 8, 16]), ("network.name", "resnet-8"), ("data.limit", 100), ("batch_size", 30), ("steps", 3),
    ("compute.threads", 1),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))


@pytest.mark.slow
def test_workers_killed_at_random_instants_leave_the_study_as_it_is_in_peace() -> None:
    found = tuning_kill.trial(kills=2, workers=2, seed=1, population=2, generations=1)
    assert found["kills"] == 2
    assert tuning_kill.sound(found) == len(found["studies"]), found


def test_a_study_that_is_not_as_in_peace_is_counted() -> None:
    row: dict[str, Any] = dict.fromkeys(("exit_code", "stuck", "twice_to_the_end", "lost", "locked", "tracebacks"), 0)
    good = row | {"equal": True}
    bad = [good | {name: 1} for name in row] + [row | {"equal": False}]
    assert tuning_kill.sound({"studies": [good, *bad]}) == 1


def test_the_seeds_search_is_what_the_seed_says() -> None:
    asked = wish(3, 10_000, "resnet-20", "adamw", "seed001", seed=2)
    assert (asked.sampler, asked.population, asked.generations, asked.space) == ("ga-001", 10, 5, "seed001")
    assert dict(asked.set)["optimiser.kind"] == "adamw"
    found = search("small", Wish("digits", SMALL[:-1], sampler="ga-001", population=2, generations=0), None, SMALL[-1:])
    assert found["counts"]["trained"] == 2
    assert "folder" not in found


def test_parts_shapes_and_augmentation_are_what_is_searched() -> None:
    facts = begin_facts("parts", tuning_parts.wish(4, 8, 3, 0))
    assert list(facts["space"]["genes"]) == [gene.partition("=")[0] for gene in tuning_parts.GENES]
    assert facts["recipe"]["evaluation"]["test"] is False
    space = make_space(to_recipe(facts["recipe"], "here"), None, tuning_parts.GENES)
    for place in (0.0, 0.5, 1.0):
        changes = space.overrides(space.at([place] * len(space.genes)))
        assert override(to_recipe(facts["recipe"], "here"), changes).network.shortcut in ("A", "B", "C")


@pytest.mark.slow
def test_two_workers_share_a_comparison_and_train_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    for module in (running, comparison):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    asked = "--recipe digits --limit 100 --epochs 1 --arms default,random --population 2 --generations 0 --searches 2"
    more = ["--fresh", "1", "--proxy", "0", "--workers", "2", "--device", "cpu", "--set", "network.widths=[4, 8, 16]"]
    assert comparison.main([*asked.split(), *more]) == 0
    result = json.loads((tmp_path / "results/comparison.json").read_bytes())
    assert [row["trainings"] for row in result["rows"]] == [2, 2, 2, 2]
    assert (result["kind"], result["campaign"], result["workers"]) == ("campaign", "comparison", 2)
    assert (tmp_path / "results/comparison.html").read_bytes().startswith(b"<!doctype html>")
    runs = [RunFolder(path.parent) for path in (tmp_path / "runs").rglob("run.json")]
    assert len(runs) == 2 * 2 * 2 + 2 * 2
    assert [run.name for run in runs if sum(e["event"] == "began" for e in run.sessions()) != 1] == []
    assert "Traceback" not in capfd.readouterr().err
    what, figure, chance = readme.ROWS["comparison"](result)
    assert "1 epochs, 2 trainings a search" in what
    assert "none of 1 differences was shown" in figure
    assert chance == "search seeds 0 to 1"
