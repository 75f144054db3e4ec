"""Recipes changed beyond their study, networks of unlike lengths, seeds that were lost: none passes for the paper's."""

from __future__ import annotations

import dataclasses

import pytest

from residual.errors import NonFiniteError, UsageError
from residual.studies import arm_table, arms
from residual.studies.arms import Compared, compare, spread
from residual.studies.claims import Claim
from residual.studies.departures import departed, departures, warmed
from residual.studies.evidence import Evidence, recipe_facts
from residual.studies.papers import changes
from residual.studies.pooling import pooled
from residual.studies.side_by_side import end_all
from residual.studies.training_studies import Wish, _gap, degradation
from residual.studies.verdicts import judge
from tests.studies.test_evidence import CLAIM, sample

PAPER = "cifar10-paper"
WORSE = "plain-56.training_error.least > plain-20.training_error.most"


def of(study: str, arm: str, own, settings=None, **changed) -> Evidence:
    recipes = {arm: recipe_facts(PAPER, {**own, **changed})}
    return sample(study=study, recipes=recipes, settings=settings or {"steps": 64_000})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("network.shortcut", "B"),
        ("network.dropout", 0.5),
        ("network.initialisation", "lecun"),
        ("network.order", "full-pre-activation"),
        ("network.depths", [1, 1, 1]),
        ("schedule.drops", [60_000, 62_000]),
        ("schedule.rate", 0.5),
        ("evaluation.best", "top1"),
        ("evaluation.patience", 5),
        ("evaluation.precise_statistics", 2000),
    ],
)
def test_a_value_that_the_study_does_not_set_is_told(path, value):
    found = of("degradation", "resnet-20", {"network.name": "resnet-20"}, **{path: value})
    assert departures(found, "resnet-20") == {path: value}
    assert changes(found, "resnet-20") == f", {path}={value}"


def test_what_a_study_sets_is_its_own_at_its_values_alone():
    half = arm_table.SHORTCUTS["half"]
    own = {"network.name": "resnet-20", **half, **arm_table.WARMUP}
    assert not departed(of("shortcuts", "half", own, {"depth": 20}))
    assert departed(of("shortcuts", "half", own, {"depth": 20}, **{"network.branch_scale": 0.9}))
    short = {**own, "steps": 300, "schedule.drops": [150, 225]}
    short["schedule.warmup"] = {"steps": 30, "rate": 0.01, "shape": "constant"}
    assert not departed(of("shortcuts", "half", short, {"depth": 20}))
    slow = {"network.name": "resnet-20", "optimiser.momentum": 0.99}
    assert not departed(of("momentum", "m-99", slow, {"depth": 20}, **{"schedule.rate": arm_table.MIDDLE}))
    assert departed(of("momentum", "m-99", slow, {"depth": 20}, **{"schedule.rate": 0.1}))
    deep = {"network.name": "resnet-110", "schedule.hold": {"rate": 0.01}}
    assert not departed(of("degradation", "resnet-110", deep))
    assert departed(of("degradation", "resnet-56", {"network.name": "resnet-56", "schedule.hold": {"rate": 0.01}}))


def test_the_groups_of_the_papers_two_gpus_are_no_departure():
    assert not departed(of("degradation", "resnet-20", {"network.name": "resnet-20"}, **{"network.norm_group": 64}))
    assert departed(of("degradation", "resnet-20", {"network.name": "resnet-20"}, **{"network.norm_group": 8}))


def judged(condition: str, *evidence: Evidence, study: str = "degradation"):
    claim = Claim.model_validate(CLAIM.model_dump() | {"confirmed": condition, "study": study})
    return judge(claim, evidence, {})


def test_an_order_is_known_by_the_name_of_its_network_in_the_catalogue():
    error = {"test_error": spread([6.4])}
    orders = arm_table.units(110)
    measured = {"at_64000": {"original": error, "full-pre-activation": error, "bn-after-addition": error}}
    recipes = {arm: recipe_facts(PAPER, orders[arm]) for arm in measured["at_64000"]}
    settings = {"steps": 64_000, "depth": 110}
    found = sample(study="units", measured=measured, recipes=recipes, settings=settings)
    both = "at_64000.resnet-110.test_error.mean < 7 and at_64000.preact-110.test_error.mean < 7"
    assert judged(both, found, study="units").verdict == "confirmed"
    assert judged("at_64000.preact-164.test_error.mean < 7", found, study="units").verdict == "not measured"


def test_networks_of_other_lengths_are_not_compared():
    uneven = sample(settings={"steps": 8000, "lengths": {"plain-20": 8000, "plain-56": 64_000}})
    assert judged(WORSE, uneven).verdict == "not measured"
    assert judged("plain-56.training_error.least > 1", uneven).verdict == "confirmed"


def test_a_weaker_file_is_not_quoted_without_what_the_stronger_one_says():
    lost = sample(
        measured={"plain-20": sample().measured["plain-20"]},
        caveats=("plain-56 did not train: the loss is no number",),
        settings={"steps": 64_000},
        source="strong",
    )
    found = judged(WORSE, sample(seeds=(0, 1, 2), source="weak"), lost)
    assert found.evidence is not None
    assert found.evidence.source == "weak"
    assert "strong: plain-56 did not train: the loss is no number" in found.caveats


def test_one_seed_leaves_two_equal_arms_to_a_coin():
    words = "of two equal arms, one lies below the other in this order once in two"
    assert words in judged(WORSE, sample(seeds=(0,))).caveats
    assert words not in judged("plain-56.training_error.least > 1", sample(seeds=(0,))).caveats
    within = "plain-56.training_error.most > plain-56.training_error.least"
    assert words not in judged(within, sample(seeds=(0,))).caveats


@pytest.mark.parametrize("name", ["lost", "seeds", "lengths"])
def test_files_of_unlike_seeds_stand_for_themselves(name):
    first, second = (sample(seeds=(seed,), settings={name: {"plain-20": [seed]}}) for seed in (0, 1))
    assert len(pooled([first, second])) == 2
    first, second = (sample(seeds=(seed,)) for seed in (0, 1))
    assert len(pooled([first, second])) == 1


def test_files_that_were_evaluated_more_or_less_often_are_not_put_together():
    recipes = sample().recipes
    often = {
        arm: dataclasses.replace(facts, changed={**facts.changed, "evaluation.every_epochs": 0.25})
        for arm, facts in recipes.items()
    }
    assert len(pooled([sample(seeds=(0,)), sample(seeds=(1,), recipes=often)])) == 2


def test_differences_are_of_the_seeds_that_both_arms_have_left(tmp_path):
    error = NonFiniteError("the loss is no number", "run", "lower the rate")
    found = Compared(tmp_path, PAPER, (0, 1, 2), {}, {}, {"b": {1: error}})
    figures = {"a": {"test_error": spread([1.0, 5.0, 2.0])}, "b": {"test_error": spread([3.0, 5.0])}}
    assert _gap(found, figures, "a", "b")["values"] == [2.0, 3.0]
    held = {arm: {"validation_error": table["test_error"]} for arm, table in figures.items()}
    assert _gap(found, held, "a", "b")["values"] == [2.0, 3.0], "photographs may have no test"
    assert _gap(found, {"a": {}, "b": {}}, "a", "b") == {}


def test_an_arm_that_cannot_be_built_is_refused_before_the_first_training(tmp_path):
    asked = {"fine": {}, "none": {"network.order": "relu-only-pre-activation", "network.norm": "none"}}
    with pytest.raises(UsageError, match="norm"):
        compare("units", "digits", asked, (0,), out=tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_seeds_that_did_not_train_are_told_and_the_others_kept(tmp_path, monkeypatch):
    error = NonFiniteError("the loss is no number", "run", "lower the rate")
    monkeypatch.setattr(arms, "end_all", lambda jobs: [*end_all(jobs[:-1]), error])
    small = {"network.widths": [4, 4, 4], "data.limit": 100, "batch_size": 40, "compute.precision": "float32"}
    found = degradation(Wish("digits", (0, 1), 6, [*small.items()], tmp_path), (8, 14), ("plain",))
    assert [len(runs) for runs in found.compared.runs.values()] == [2, 1]
    assert len(found.evidence.measured["plain-14"]["training_error"]["values"]) == 1
    assert found.evidence.settings["lost"] == {"plain-14": [1]}
    assert "plain-14 did not train, 1 of 2 seeds (1): the loss is no number" in found.evidence.caveats


@pytest.mark.parametrize(("steps", "said"), [(2000, True), (20_000, True), (40_000, False), (64_000, False)])
def test_a_warm_up_that_takes_more_of_a_short_run_is_told(steps, said):
    own = {"network.name": "resnet-20", **arm_table.WARMUP}
    found = warmed(of("units", "original", own, {"steps": steps, "depth": 20}, steps=steps))
    assert found == (
        [f"the first 400 of {steps:,} iterations have the rate 0.01, where [2] has 400 of 64,000"] if said else []
    )
    assert warmed(of("degradation", "resnet-20", {"network.name": "resnet-20"}, steps=steps)) == []
