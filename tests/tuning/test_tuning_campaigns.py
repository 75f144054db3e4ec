"""A small real sample of the tuning campaigns, by their own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campaigns import comparison, tuning_kill
from campaigns.ga001 import search, wish
from residual.tuning.rows import Snapshot
from residual.tuning.study import Wish

SMALL = (
    ("network.widths", [4, 8, 16]), ("network.name", "resnet-8"), ("data.limit", 100), ("batch_size", 30), ("steps", 3),
    ("compute.threads", 1),
)  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(comparison, "ROOT", tmp_path)
    monkeypatch.setattr(comparison, "FAST", "digits")


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


def test_the_comparison_gives_every_arm_the_same_trainings_and_fresh_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SEARCHES", ("random",))
    found = comparison.compare(SMALL[:-1], 1, (2, 1), 1, SMALL[-1:])
    assert [row["trainings"] for row in found["rows"]] == [3, 3]
    assert [len(row["test_top1"]) for row in found["rows"]] == [1, 1]
    assert found["verdicts"][0].startswith("random: no difference from the default recipe was shown")
    assert comparison.compare(SMALL[:-1], 1, (2, 1), 1, SMALL[-1:]) == found, "gone on with: nothing is trained again"


def test_verdicts_say_what_the_intervals_carry() -> None:
    figures = {"a": [0.02, 0.021, 0.019], "b": [-0.02, -0.021, -0.019], "c": [0.02, -0.02, 0.01], "d": [0.3]}
    better, worse, open_, single = comparison.verdict({name: comparison.interval(v) for name, v in figures.items()})
    assert better == "a: better than the default recipe by +2.00 points"
    assert worse == "b: worse than the default recipe by -2.00 points"
    assert "no difference" in open_
    assert "no difference" in single


def test_ranks_share_ties_and_spearman_is_theirs() -> None:
    assert comparison.ranks([0.3, 0.1, 0.3, 0.9]) == [2.5, 1.0, 2.5, 4.0]
    assert comparison.spearman([1, 2, 3, 4], [10, 20, 30, 25]) == pytest.approx(0.8)
    assert comparison.spearman([1, 1, 1], [1, 2, 3]) is None


def test_the_winner_is_the_best_of_the_allowed_trainings() -> None:
    assert comparison.winner(Snapshot((), ()), 35) is None
