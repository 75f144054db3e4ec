"""Comparisons of real searches on tiny trainings: equal, resumable, true to their runs, the test images read once."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from residual.analysis import comparison_figures as figures
from residual.analysis.comparison_page import comparison_page
from residual.errors import (
    DataError,
    EnvironmentFault,
    Interrupted,
    NonFiniteError,
    OutOfMemory,
    StorageError,
    UsageError,
)
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.studies import comparison
from residual.studies.comparison import Labour, Trained, compare, winner
from residual.studies.contest import STRETCHED, Asked, open_contest
from residual.studies.evidence import read, write
from residual.studies.findings import differences, findings, judged, pairs_of, trace, verdict
from residual.studies.student import mean_of
from residual.studies.table import DEFINITIONS
from residual.studies.tuning_evidence import tuning_evidence
from residual.training import launching
from residual.training.progress import Silent
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.tuning.rows import Individual, Snapshot
from residual.tuning.study import Wish, join, unlike
from tests.analysis.reading import Page

TINY = (
    ("network.name", "resnet-8"), ("network.widths", [4, 4, 4]), ("data.limit", 100), ("batch_size", 30), ("steps", 6),
    ("compute.precision", "float32"),
)  # fmt: skip
OWN = (("compute.threads", 1),)
SIZE: dict[str, Any] = {"population": 2, "generations": 1, "searches": 2, "fresh": 1, "proxy": 2, "longer": 2.0}
ASKED = Asked("digits", TINY, ("default", "ga"), **SIZE)


def sessions(folder: Path) -> dict[str, int]:
    """Of each run below a folder, how often it was begun or gone on with."""
    found = {}
    for path in sorted(folder.rglob("run.json")):
        run = RunFolder(path.parent)
        found[str(run.path.relative_to(folder))] = sum(entry["event"] == "began" for entry in run.sessions())
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labour]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESIDUAL_RUNS", str(tmp_path_factory.mktemp("runs")))
        yield compare("small", ASKED, own=OWN)


@pytest.fixture(scope="module")
def found(done: Labour) -> Facts:
    return findings(done)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def test_every_arm_has_the_same_trainings_and_steps(found: Facts, done: Labour) -> None:
    assert found["trainings"] == 3
    assert [(row["search"], row["arm"]) for row in found["rows"]] == [
        (s, arm) for s in range(2) for arm in ("default", "ga")
    ]
    assert {row["trainings"] for row in found["rows"]} == {3}
    runs = done.contest.folder.parent
    steps = {name: RunFolder(runs / name).facts()["chosen"]["steps"] for name in sessions(runs) if "long" not in name}
    assert set(steps.values()) == {found["steps"]} == {6}
    assert len(steps) == 2 * 2 * 3 + 2 * 2 * 1 + 2, "searches, fresh seeds, short trainings of the proxy"


def test_the_test_images_are_read_of_winners_alone_and_figures_are_those_of_the_runs(
    found: Facts, done: Labour
) -> None:
    runs = done.contest.folder.parent
    for name in sessions(runs):
        tested = [r for r in RunFolder(runs / name).records() if r.get("split") == "test"]
        assert len(tested) == int(Path(name).name.startswith("winner-")), name
    for row in found["rows"]:
        results = [RunFolder(done.contest.folder / one["run"]).result() for one in row["fresh"]]
        assert row["top1"] == statistics.fmean((result or {})["final"]["test"]["top1"] for result in results)
        assert row["fitness"] == row["best_so_far"][-1] == max(one["fitness"] for one in row["history"])
        if row["arm"] != "default":
            best = RunFolder(runs / f"small-{row['arm']}-{row['search']}" / f"trial-{row['winner']:04d}")
            assert (best.result() or {})["final"]["validation"]["top1"] == row["fitness"]
            chosen = RunFolder(done.contest.folder / row["fresh"][0]["run"]).facts()["changed"]
            assert {path: chosen[path] for path in row["genes"]} == row["genes"]
    for arm, means in found["means"].items():
        assert means["top1"]["values"] == tuple(row["top1"] for row in found["rows"] if row["arm"] == arm)
    seeds = [RunFolder(done.contest.folder / row["fresh"][0]["run"]).facts()["recipe"]["seed"] for row in found["rows"]]
    assert seeds == [500_000] * 2 + [501_000] * 2, "fresh, and the same for all arms of a search"


def test_the_same_command_trains_nothing_again(done: Labour, found: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = done.contest.folder.parent
    monkeypatch.setenv("RESIDUAL_RUNS", str(runs))
    before = sessions(runs)
    assert set(before.values()) == {1}
    again = findings(compare("small", Asked(), own=OWN))
    assert json.loads(json.dumps(again)) == json.loads(json.dumps(found))
    assert sessions(runs) == before


def test_the_page_says_what_was_found(found: Facts) -> None:
    text = comparison_page(found, "residual study compare --study small").decode()
    page = Page(text)
    words = "".join(page.texts)
    assert all(line in words for line in found["verdicts"])
    rows = page.table("Each search and its winner")
    assert [row[0] for row in rows[1:]] == [row["arm"] for row in found["rows"]]
    titles = [t for t in page.texts if t in figures.SEED_FIGURES.values()]
    assert set(titles) == set(figures.SEED_FIGURES.values())
    assert len(page.every("figure")) == 1 + 2 + 5 + 3 + 1
    assert "ga − default" in words, "the rows of the differences are named"
    assert not page.every("script")
    identifiers = [str(attributes["id"]) for _, attributes in page.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_the_curves_are_those_of_the_winners(found: Facts, done: Labour) -> None:
    run = RunFolder(done.contest.folder / "winner-ga-0-0")
    series = trace(run.records()).series
    assert set(series) == {"top-1", "top-3", "top-5", "training loss", "validation loss"}
    both = [trace(RunFolder(done.contest.folder / f"winner-ga-{s}-0").records()).series["top-5"].values for s in (0, 1)]
    means = [statistics.fmean(pair) for pair in zip(*both, strict=True)]
    assert list(found["curves"]["ga"]["top-5"]["mean"]) == pytest.approx(means)
    lines = figures.lines_of(found)
    assert [len(line) for line in lines["ga"]] == [3, 3]
    assert figures.mean_line([[(1, 2.0), (2, 4.0)], [(2, 8.0)]]) == [(2, 6.0)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_an_interrupted_comparison_ends_as_if_it_had_not_been(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked("digits", TINY, ("default", "random"), **SIZE | {"generations": 0, "searches": 1, "proxy": 0})
    whole = findings(compare("small", asked, own=OWN))
    monkeypatch.setenv("RESIDUAL_RUNS", str(here) + "-again")

    class Third(Silent):
        steps = 0

        def stepped(self, step: int, images: int) -> None:
            Third.steps += 1
            if Third.steps in (3, 15):  # within the first training, and within a search
                os.kill(os.getpid(), signal.SIGINT)

    for _ in range(2):
        with pytest.raises(Interrupted, match="residual study compare --study small") as caught:
            compare("small", asked, own=OWN, listener=Third())
        assert caught.value.exit_code == 130
    resumed = findings(compare("small", asked, own=OWN, listener=Third()))

    def timeless(found: Facts) -> Any:
        kept = {name: value for name, value in found.items() if name != "training_seconds"}
        return kept | {"rows": [{k: v for k, v in row.items() if k != "seconds"} for row in found["rows"]]}

    assert timeless(resumed) == timeless(whole)
    assert sorted(sessions(Path(f"{here}-again")).values())[-2:] == [2, 2]


def test_where_every_training_fails_it_is_said_and_nothing_else(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        launching, "train", failing(NonFiniteError("the loss is not finite", "step 3", "lower the rate"))
    )
    size = SIZE | {"generations": 0, "searches": 1}
    labour = compare("lost", Asked("digits", TINY, ("default", "random"), **size), own=OWN)
    found = findings(labour)
    assert [(row["failed"], row["fitness"], row["top1"]) for row in found["rows"]] == [(2, None, None)] * 2
    assert found["rows"][0]["fresh"][0]["reason"] == "the loss is not finite (step 3): lower the rate"
    words = "random against the default recipe: nothing can be said, since no fresh training came to its end"
    assert found["verdicts"] == [words]
    assert found["proxy"]["spearman"] is None
    said = "".join(Page(comparison_page(found, "x").decode()).texts)
    assert "Every training failed in random, search 0." in said
    assert "1 fresh training failed." in said
    monkeypatch.undo()
    monkeypatch.setenv("RESIDUAL_RUNS", str(here))
    assert findings(compare("lost", Asked(), own=OWN))["verdicts"] == [words], (
        "a failure is remembered, not tried again"
    )


def test_a_fresh_training_that_failed_counts_as_chance() -> None:
    row = judged([Trained(None, "diverged")], 0.7, 10)
    assert (row["top1"], row["top3"], row["top5"]) == (0.1, 0.3, 0.5)
    assert row["loss"] == pytest.approx(2.302585)
    assert row["optimism"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": ("default", "gaa")}, "did you mean ga"),
        ({"arms": ("ga",)}, "two or more are compared"),
        ({"arms": ("ga", "ga")}, "given twice"),
        ({"genes": ("epochs=linear:1:9",)}, "not train the same number of steps"),
        ({"genes": ("batch_size=int:10:60",)}, "not train the same number of steps"),
        ({"genes": ("seed=int:1:4",)}, "the comparison sets it itself"),
        ({"set": (("evaluation.watch_test", True),)}, "the comparison sets it itself"),
        ({"genes": ("evaluation.precise_statistics=int:0:90",)}, "'a gene': individuals would be judged otherwise"),
        (
            {"genes": ("compute.compile=choice:none,auto", "checkpoint.keep=int:2:4")},
            "checkpoint.keep is 'a gene': it is no part",
        ),
        ({"recipe": override(RECIPES["digits"], [("seed", 500_000)])}, "fresh trainings have the seeds 500000 to"),
        ({"searches": 500}, "their seeds would reach 500000"),
        ({"set": (("schedule.peak", 0.1),)}, "it is a gene as well"),
        ({"set": (("data.validation", 0),)}, "fitness is read there"),
        ({"population": 1, "fresh": 0}, "population is 1: must be 2 or more. fresh is 0: must be 1 or more"),
        ({"longer": 1.0}, "longer is 1.0"),
        ({"set": (("evaluation.patience", 3),)}, "not train the same number of steps"),
        ({"set": (("evaluation.best", "top1"),)}, "those of the last step"),
    ],
)
def test_what_is_no_fair_comparison_is_refused_before_anything_is_written(
    changes: dict[str, Any], words: str, here: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        open_contest("no", Asked(**{"recipe": "digits", **changes}))
    assert words in str(caught.value)
    assert not here.exists()


def test_another_comparison_under_the_name_is_refused_with_the_differences(here: Path) -> None:
    open_contest("one", ASKED)
    assert open_contest("one", Asked()) == open_contest("one", ASKED)
    with pytest.raises(UsageError) as caught:
        open_contest("one", Asked(set=(("optimiser.nesterov", False),), fresh=4, arms=("default", "tpe")))
    for words in ("recipe.optimiser.nesterov: True in the comparison, False asked", "fresh: 1 in", "arms: ['default'"):
        assert words in str(caught.value)
    moved = open_contest("one", Asked(set=(("data.path", "/elsewhere"), ("checkpoint.keep", 3))))
    assert moved.facts["fresh"] == 1, "where the images lie is each worker's own"


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def altered(path: Path, change: Callable[[Any], Any]) -> None:
    facts = json.loads(path.read_bytes())
    change(facts)
    path.write_text(json.dumps(facts))


def test_trainings_that_read_other_images_are_not_compared(done: Labour, here: Path) -> None:
    shutil.copytree(done.contest.folder.parent, here)
    (here / "small" / "images.json").unlink()  # as of an earlier release: the first finished run says which they are
    known = {"digits.npz": "0" * 64}
    altered(here / "small" / "winner-ga-1-0" / "run.json", lambda facts: facts["data"].update(checksums=known))
    with pytest.raises(DataError, match="other images"):
        findings(compare("small", own=OWN))
    shutil.rmtree(here / "small" / "winner-ga-1-0")
    altered(here / "small" / "images.json", lambda facts: facts.update(checksums=known))
    shutil.copytree(here / "small", here / "other")
    for unit in (here / "other").glob("*-*-*"):
        shutil.rmtree(unit)
    altered(here / "other" / "comparison.json", lambda facts: facts.update(name="other"))
    with pytest.raises(DataError, match="other images"):
        compare("other", own=OWN)
    assert sessions(here / "other") == {}, "refused before anything is trained"


def test_what_stands_in_a_units_place_must_be_the_units(done: Labour, here: Path) -> None:
    shutil.copytree(done.contest.folder.parent, here)
    run = here / "small" / "winner-ga-0-0" / "run.json"
    altered(run, lambda facts: facts["recipe"].update(seed=500_001))
    with pytest.raises(StorageError, match="not that of this unit of the comparison: seed 500001, not 500000"):
        compare("small", own=OWN)
    shutil.rmtree(run.parent)
    note = here / "small" / "winner-ga-0-0.failed.json"
    note.write_text(json.dumps({"reason": "diverged"}))
    assert findings(compare("small", own=OWN))["rows"][1]["fresh"][0]["reason"] == "diverged", "of an earlier release"
    note.write_text(json.dumps({"reason": "diverged", "settings": {"seed": 3}}))
    with pytest.raises(StorageError, match="not that of this training: seed 3, not 500000"):
        compare("small", own=OWN)


def test_a_search_that_was_given_more_generations_counts_with_its_allowed_trainings(
    done: Labour, found: Facts, here: Path
) -> None:
    shutil.copytree(done.contest.folder.parent, here)
    before = sessions(here)
    join("small-ga-1", Wish(generations=3)).close()
    assert findings(compare("small", own=OWN))["rows"] == found["rows"]
    assert sessions(here) == before
    assert unlike(join("small-ga-1", done.wish("ga", 1)).facts, done.wish("ga", 1)) == {}, "so a worker may join it"


def test_only_a_lack_of_memory_and_settings_are_the_failure_of_a_training(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked("digits", TINY, ("default", "random"), **SIZE | {"generations": 0, "searches": 1, "proxy": 0})

    with monkeypatch.context() as patch:
        patch.setattr(comparison, "train_here", failing(UsageError("a batch of 30 cannot be shared", "batch_size")))
        with pytest.raises(UsageError, match="cannot be shared"):
            compare("some", asked, own=OWN)
        patch.setattr(comparison, "lock", failing(StorageError("cannot write: No space left on device")))
        with pytest.raises(StorageError, match="No space left"):
            compare("some", asked, own=OWN)
    assert list((here / "some").glob("*.failed.json")) == []
    with pytest.raises(UsageError, match="did you mean threads"):
        compare("another", asked, own=(("compute.thread", 1),))
    assert not (here / "another").exists()
    monkeypatch.setattr(launching, "train", failing(OutOfMemory("the memory does not hold one image")))
    assert findings(compare("some", asked, own=OWN))["rows"][0]["fresh"][0]["reason"].startswith("out of memory at ba")


def test_the_long_training_stretches_what_its_schedule_has_at_given_steps(here: Path) -> None:
    schedule = (("schedule.kind", "steps"), ("schedule.drops", [2, 5]))
    genes = ("schedule.rate=log:0.01:1",)
    contest = open_contest("long", Asked("digits", (*TINY, *schedule), genes=genes, longer=2.5, proxy=1))
    assert dict(Labour(contest).proxy_changes(0, True)).items() >= {"steps": 15, "schedule.drops": [5, 12]}.items()
    before = {name: value for name, value in contest.facts.items() if name != STRETCHED}
    old = dict(Labour(dataclasses.replace(contest, facts=before)).proxy_changes(0, True))
    assert "schedule.drops" not in old, "a comparison goes on as it began"
    watched = override(RECIPES["digits"], [("evaluation.watch_test", True)])
    judged = override(watched, open_contest("seen", Asked(watched)).base(True)).evaluation
    assert (judged.test, judged.watch_test) == (True, False), "the test images are read once, whatever a recipe says"


def test_verdicts_say_what_the_intervals_carry_and_no_more() -> None:
    assert "ga is better than the default recipe: +2.00" in verdict("ga", "default", mean_of([0.02, 0.021, 0.019]))
    assert verdict("ga", "random", mean_of([-0.02, -0.021, -0.019])).startswith("ga is worse than random: -2.00 points")
    assert "no difference was shown" in verdict("ga", "random", mean_of([0.02, -0.02, 0.01]))
    assert "in one search each, which chance alone may make" in verdict("ga", "random", mean_of([0.3]))
    assert "in 2 searches each, which chance alone may make" in verdict("ga", "random", mean_of([0.3, 0.3]))
    near = [0.02, 0.024, 0.016]
    assert "better" in verdict("ga", "default", mean_of(near))
    assert "no difference" in verdict("ga", "default", mean_of(near, comparisons=7)), "many comparisons ask for more"


def test_comparisons_are_fixed_before_any_figure_is_seen() -> None:
    assert pairs_of(["default", "random", "ga"]) == [("random", "default"), ("ga", "default"), ("ga", "random")]
    assert pairs_of(["tpe", "ga", "ga-001"]) == [("ga", "tpe"), ("ga-001", "tpe")]
    rows = [
        {"arm": arm, "search": s, "top1": top} for s in (0, 1) for arm, top in (("default", 0.5), ("ga", 0.5 + s / 10))
    ]
    rows.append({"arm": "default", "search": 2, "top1": 0.9})
    (one,) = differences(rows, ["default", "ga"])
    assert one["values"] == pytest.approx((0.0, 0.1)), "paired by search, a search without its like left out"


def test_the_winner_is_the_best_of_the_allowed_trainings() -> None:
    assert winner(Snapshot((), ()), 35) is None
    numbers = (0, 1, 4, 5)  # 2 and 3 are another program's
    some = tuple(Individual(n, n, 0, (0.1,), TrialState.COMPLETE, 0.1 * n) for n in numbers)
    assert winner(Snapshot(some, ()), 3) == some[2]


def test_a_comparison_is_evidence_of_the_seeds_claim(found: Facts, done: Labour, tmp_path: Path) -> None:
    searched = {**found, "arms": ["default", "ga-001"]}
    searched["rows"] = [{**row, "arm": "ga-001" if row["arm"] == "ga" else row["arm"]} for row in found["rows"]]
    made = tuning_evidence(done, searched, "residual study compare --study small")
    mean = statistics.fmean(100 * (1 - row["top1"]) for row in found["rows"] if row["arm"] == "ga")
    assert made.measured["tuned"]["test_error"]["mean"] == pytest.approx(mean)
    assert made.measured["tuned"] == made.measured["ga-001"]
    assert (made.budget, made.seeds, made.settings["steps"]) == ("smoke", (0, 1), 6)
    assert dict(made.recipes["default"].changed)["data.limit"] == 100
    assert made.caveats[0].startswith("resnet-8, 90 training images, 6 steps a training, where the seed")
    rows = [{**row, "fitness": None, "genes": None} for row in searched["rows"]]
    failed = tuning_evidence(done, {**searched, "rows": rows}, "")
    assert "fitness_error" not in failed.measured["tuned"], "all of its trainings failed"
    assert failed.caveats[1].startswith("the space default (schedule.peak log:0.01:3, ")
    assert failed.caveats[2].startswith("searches that failed whole, counted as chance: default 0, ga-001 0")
    free, path = dataclasses.replace(DEFINITIONS["tuning"], dataset=""), tmp_path / "tuning.evidence.json"
    write(dataclasses.replace(made, definition=free.sha256), path)
    assert read(path, {"tuning": free}).measured == made.measured


def test_the_trainings_of_a_comparison_are_jobs_where_a_launcher_is_named(here: Path) -> None:
    failing = (sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(EnvironmentFault, match="processes of default-0-0 ended with exit code 3"):
        compare("launched", dataclasses.replace(ASKED, proxy=0), own=OWN, launch=failing)
