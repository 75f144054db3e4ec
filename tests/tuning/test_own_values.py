"""The recipe's own values as the first individual, and searches begun, asked for again, and told of from Python."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import residual
from residual.analysis.tuning_figures import draw_study, history
from residual.cli.study import draw
from residual.errors import UsageError
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.tuning.algorithms import OWN, make_algorithm
from residual.tuning.sampler import propose
from residual.tuning.space import make_space
from residual.tuning.study import Wish, begin_facts, open_study, tune, unlike
from residual.tuning.summary import summarise

TINY = (("network.widths", [4, 8, 16]), ("network.name", "resnet-8"), ("data.limit", 60), ("batch_size", 20))
DIGITS = RECIPES["digits"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["ga", "random", "tpe", "nsgaii", "cmaes"])
def test_the_first_individual_has_the_recipes_own_values(name: str) -> None:
    algorithm, space = make_algorithm(name, {}), make_space(DIGITS, None, [])
    own = space.of(DIGITS)
    assert own is not None
    first = propose(algorithm, space, 6, (1, "study"), [], [], own=own)
    drawn = propose(algorithm, space, 6, (1, "study"), [], [])
    assert (first.children[0].genes, first.children[0].how) == (own, OWN)
    assert all(child.how != OWN for child in (*first.children[1:], *drawn.children))
    assert len({child.genes for child in first.children}) == 6
    told: list[list[Any]] = [[(child.genes, 0.1 * place) for place, child in enumerate(first.children)]]
    for _ in range(2):  # what is asked of Optuna is played again with it
        brood = propose(algorithm, space, 6, (1, "study"), told, [], own=own) if name in ("tpe", "nsgaii") else None
        told += [[(child.genes, 0.3) for child in brood.children]] if brood else []
    if name == "ga":  # the others are drawn as ever, each at an address of its own
        assert [one.genes for one in first.children[1:]] == [one.genes for one in drawn.children[1:]]


def test_a_search_tells_what_it_has_won() -> None:
    wish = Wish("digits", (*TINY, ("steps", 3)), population=2, generations=0)
    summary = summarise(tune("mine", wish))
    first = summary["individuals"][0]
    assert first["genes"] == {
        "schedule.peak": 0.2,
        "optimiser.weight_decay": 5e-4,
        "schedule.momentum_low": 0.85,
    }
    assert (first["how"], summary["own"]) == (OWN, first["fitness"])
    for other in (
        Wish("digits", TINY, sampler="ga-001"),
        Wish("digits", TINY, drawn=True),
        Wish("digits", TINY, genes=("seed=int:5:9",)),
    ):
        assert begin_facts("x", other)["own"] is None
    before = {name: value for name, value in begin_facts("x", wish).items() if name != "own"}
    assert unlike(before, wish) == {}, "of an earlier release"


KINDS = ("one-cycle", "steps", "cosine", "plateau")


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", KINDS)
def test_a_search_is_what_the_same_words_ask_for(optimiser: str, schedule: str) -> None:
    changes: list[tuple[str, Any]] = [*TINY, ("schedule.kind", schedule), ("optimiser.kind", optimiser)]
    changes += [] if optimiser == "sgd" else [("optimiser.nesterov", False)]
    rate = "schedule.peak" if schedule == "one-cycle" else "schedule.rate"
    asked: list[dict[str, Any]] = [{"space": "default"}, {"genes": (f"{rate}=log:1e-4:1e-1",)}, {}]
    for more in asked:
        for name in ("digits", None):
            wish = Wish(name, tuple(changes), **more)
            assert unlike(begin_facts("x", wish), wish) == {}, (name, more)
    recipe = override(DIGITS, changes)
    own = make_space(recipe, "default", ()).of(recipe)
    assert (own is None) == (optimiser != "sgd"), "a rate of 0.2 is no rate for Adam"


def test_trials_of_others_have_numbers_between_ours(tmp_path: Path) -> None:
    wish = Wish("digits", (*TINY, ("steps", 2)), population=2, generations=1)
    tune("mine", Wish("digits", wish.set, population=2, generations=0))
    study = open_study("mine")
    optuna.load_study(
        study_name=optuna.get_all_study_names(f"sqlite:///{study.address.file}")[0],
        storage=f"sqlite:///{study.address.file}",
    ).enqueue_trial({"x": 1})
    study.close()
    summary = summarise(tune("mine", wish))
    numbers = [row["number"] for row in summary["individuals"]]
    assert numbers == [0, 1, 3]
    summary["individuals"][-1]["fitness"] = 0.99
    summary["best"] = summary["individuals"][-1]
    draw_study(history(summary), tmp_path / "study.svg", "mine")
    drawn = draw(summary, tmp_path)
    assert drawn is not None
    assert drawn.stat().st_size > 10_000


def test_a_picture_that_fails_costs_no_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    summary = summarise(tune("mine", Wish("digits", (*TINY, ("steps", 2)), population=2, generations=0)))
    assert draw(summary | {"individuals": [{}]}, tmp_path) is None
    assert "the study was not drawn" in caplog.text


def test_a_search_from_python(tmp_path: Path) -> None:
    settings = {**dict(TINY), "steps": 2, "compute.threads": 1}
    heard: list[str] = []

    class Counting(residual.Silent):
        def began(self, plan: dict[str, Any]) -> None:
            heard.append(plan["run"])

    found = residual.tune("digits", "mine", set=settings, population=2, generations=0, listener=Counting())
    assert (found["study"], found["status"], len(heard)) == ("mine", "finished", 2)
    assert found["best"]["fitness"] >= found["own"]
    assert (tmp_path / "runs" / "mine" / found["best"]["runs"][0] / "recipe.toml").is_file()
    json.dumps(found)
    again = residual.tune(name="mine", generations=1, sampler="ga", rules={"keep": 0.5})
    assert len(again["individuals"]) == 3
    assert again["individuals"][:2] == found["individuals"]
    with pytest.raises(UsageError, match="population is 1"):
        residual.tune("digits", population=1)
    with pytest.raises(UsageError, match="did you mean random"):
        residual.tune("digits", sampler="randm")
    assert not (tmp_path / "runs" / "tune-1").exists()


def test_optuna_keeps_its_voice() -> None:
    before = optuna.logging.get_verbosity()
    propose(make_algorithm("tpe", {}), make_space(DIGITS, None, []), 3, (1, "study"), [], [])
    assert optuna.logging.get_verbosity() == before == optuna.logging.INFO


@pytest.mark.parametrize(
    ("recipe", "changes", "genes", "own"),
    [
        ("digits", {"network.name": "resnet-8"}, ["network.shortcut=choice:A,B"], ("A",)),
        ("digits", {}, ["loss.label_smoothing=choice:0,0.1"], (0,)),
        ("digits", {"epochs": 6}, ["epochs=choice:6,12"], (6,)),
        ("digits", {"epochs": 4.0}, ["epochs=int:2:8"], (4,)),
        ("digits", {"epochs": 4.5}, ["epochs=int:2:8"], None),
        ("photos", {"data.image_size": 64}, ["network.stem=choice:3x3,7x7"], None),
        ("photos", {"network.stem": "7x7"}, ["network.stem=choice:3x3,7x7"], ("7x7",)),
        ("digits", {"seed": 1}, ["data.augment.mirror=choice:true,false"], (False,)),
        ("digits", {"optimiser.weight_decay": 0.0}, ["optimiser.weight_decay=choice:false,true"], None),
    ],
)
def test_what_a_space_holds_of_a_recipe(recipe: str, changes: dict[str, Any], genes: list[str], own: Any) -> None:
    base = override(RECIPES[recipe], changes.items())
    try:
        space = make_space(base, None, genes)
    except UsageError:
        assert own is None
        return
    found = space.of(base)
    assert (found, [type(value) for value in found or ()]) == (own, [type(value) for value in own or ()])
    assert bool(space.lacks(base)) is (own is None)


def test_own_values_that_are_not_there_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "residual")
    assert begin_facts("x", Wish("digits", TINY, genes=("seed=int:5:9",)))["own"] is None
    assert "not in the space: seed (0)" in caplog.text


@pytest.mark.parametrize("own", [1e-4, 8e-4, 0.2, 4.0])
def test_the_default_space_holds_small_and_large_rates_of_sgd(own: float) -> None:
    base = override(DIGITS, [("schedule.peak", own)])
    space = make_space(base, None, [])
    assert space.of(base) is not None
    assert space.genes[0].low == pytest.approx(own / 20, rel=0.01)


def test_the_kind_of_a_schedule_may_be_searched_with_its_rate() -> None:
    genes = ["schedule.kind=choice:one-cycle,steps", "schedule.peak=log:1e-3:1"]
    for order in (genes, genes[::-1]):
        space = make_space(DIGITS, None, order)
        for kind, path in (("one-cycle", "peak"), ("steps", "rate")):
            one = tuple(kind if gene.path == "schedule.kind" else 0.3 for gene in space.genes)
            assert getattr(override(DIGITS, space.overrides(one)).schedule, path) == 0.3


def test_from_python_what_is_no_search_is_refused_and_numbers_of_numpy_are_taken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose among none and median"):
        residual.tune("digits", prune="halving")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="listener"):
        residual.tune("digits", "mute", listener=object())  # type: ignore[arg-type]
    assert not (tmp_path / "runs" / "mute").exists()
    int_: Any = np.int64
    found = residual.tune("digits", "two", set=dict(TINY) | {"steps": 2}, population=int_(2), generations=int_(0))
    assert found["population"] == 2
    (tmp_path / "fast").mkdir()
    with pytest.raises(residual.DataError, match="fast"):
        residual.tune(Path("fast"), "photographs")


def test_a_search_whose_share_holds_no_image_out_says_so() -> None:
    few = (*TINY, ("steps", 2), ("data.validation", 0.005))
    with pytest.raises(residual.DataError, match=r"held out none of the images.*larger"):
        tune("none", Wish("digits", few, population=2, generations=0))


def test_a_rule_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from residual.cli.main import run

    assert run(["tune", "--rule", "keep=0.3", "--rule", "keep=0.6"]) == 2
    assert "given twice" in capsys.readouterr().err
