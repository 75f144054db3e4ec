"""The rates of every step, found again from a run folder, are those that the run was trained with."""

from __future__ import annotations

import pytest

from residual.analysis.curves import curves, run_curves
from residual.training.extending import extend
from residual.training.rates import rates_of
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.schedules import BELOW, PLATEAU
from residual.training.train import train

TINY = {
    "network.widths": [4, 4, 4],
    "data.limit": 100,
    "batch_size": 20,
    "steps": 12,
    "compute.threads": 1,
    "compute.precision": "float32",
    "evaluation.every_epochs": 2,
}


def facts_of(kind, steps, **settings):
    changes = {"schedule.kind": kind, **{f"schedule.{name}": value for name, value in settings.items()}}
    recipe = override(RECIPES["cifar10-paper"], changes.items())
    return {"recipe": recipe.model_dump(mode="json"), "chosen": {"steps": steps}}


def event(name, step):
    return {"kind": "event", "name": name, "step": step, "value": 0.5}


def test_a_run_is_drawn_with_the_rate_of_every_step(tmp_path):
    run = train("digits", set=TINY, out=tmp_path / "run")
    found, recorded = run_curves(run, rates_of), run_curves(run)
    assert found.retraced
    assert found.series["learning rate"].steps == tuple(range(1, 13))
    own, few = (
        dict(zip(one.steps, one.values, strict=True))
        for one in (found.series["learning rate"], recorded.series["learning rate"])
    )
    assert len(few) < 6
    assert {step: own[step] for step in few} == pytest.approx(few)
    assert {name: one for name, one in found.series.items() if name not in ("learning rate", "momentum")} == {
        name: one for name, one in recorded.series.items() if name not in ("learning rate", "momentum")
    }
    longer = run_curves(extend(run.path, "20steps", out=tmp_path / "longer"), rates_of)
    assert longer.retraced
    assert longer.series["learning rate"].steps == tuple(range(13, 21))


def test_what_has_happened_moves_the_rate():
    at = rates_of(facts_of("plateau", 1000, rate=0.1), [event(f"{PLATEAU}1", 300), event(f"{PLATEAU}2", 600)])
    assert at is not None
    assert [at(step)[0] for step in (299, 300, 600)] == pytest.approx([0.1, 0.01, 0.001])
    held = facts_of("steps", 64_000, hold={"rate": 0.01, "until_error": 0.8, "window": 50})
    at = rates_of(held, [event(BELOW, 400)])
    assert at is not None
    assert [at(step)[0] for step in (399, 400)] == [0.01, 0.1]


def test_an_extension_that_lacks_what_happened_before_it_shows_what_it_recorded():
    at = rates_of(facts_of("plateau", 1000, rate=0.1), [])
    record = {"kind": "train", "step": 900, "epoch": 9.0, "loss": 1.0, "top1": 0.5, "rate": 0.01, "momentum": 0.9}
    found = curves([record], at, 800)
    assert not found.retraced
    assert found.series["learning rate"].values == (0.01,)


@pytest.mark.parametrize("damage", [{"recipe": {}}, {"recipe": {"schedule": {"kind": "new"}}}, {"chosen": {}}])
def test_an_unknown_schedule_gives_no_rates(damage):
    assert rates_of(facts_of("cosine", 100) | damage, []) is None
