"""`residual recipes --settings`: every setting with what it takes, its default and a word on what it is."""

from __future__ import annotations

import json

import pytest

from residual.errors import UsageError
from residual.training.recipe import Recipe, override
from residual.training.recipes import RECIPES
from residual.training.schedules import SCHEDULES
from residual.training.settings import settings

ROWS = settings()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.path} {row.meaning[:12]}")
def test_every_setting_says_what_it_is_and_what_it_takes(row):
    assert row.meaning.rpartition(": ")[2]
    assert row.values
    assert "<" not in row.values
    assert "typing" not in row.values


def test_none_is_left_out():
    """Every path that a recipe of each kind of schedule holds, and no other."""
    held = set()

    def walk(table, above=""):
        for name, value in table.items():
            if isinstance(value, dict) and f"{above}{name}" not in ("loss.class_weights",):
                walk(value, f"{above}{name}.")
            else:
                held.add(f"{above}{name}")

    for kind in SCHEDULES:
        recipe = override(RECIPES["digits"], [("schedule", {"kind": kind})])
        walk(recipe.model_dump(mode="json"))
    assert {row.path for row in ROWS} - {name for name in held} == {
        f"schedule.hold.{name}" for name in ("rate", "until_error", "window")
    }
    assert held - {row.path for row in ROWS} == {"schedule.hold"}


def test_choices_are_those_that_are_taken():
    (row,) = settings("network.shortcut")
    for word in row.values.split(", "):
        override(RECIPES["cifar10-fast"], [("network.shortcut", word)])
    with pytest.raises(UsageError):
        override(RECIPES["cifar10-fast"], [("network.shortcut", "D")])
    (row,) = settings("optimiser.momentum")
    assert (row.values, row.default) == ("number from 0 below 1", "0.9")
    with pytest.raises(UsageError):
        override(RECIPES["digits"], [("optimiser.momentum", 1)])
    assert settings("seed")[0].default == str(Recipe.model_fields["seed"].default)


def test_a_pattern_or_a_group_chooses(say, refused):
    assert {row.path for row in settings("optimiser")} == {row.path for row in settings("optimiser.*")}
    said = say("recipes", "optimiser.*", "--settings")
    assert said.code == 0
    assert "optimiser.weight_decay" in said.out
    assert "network" not in said.out
    rows = json.loads(say("recipes", "--settings", "--json").out)
    assert len(rows) == len(ROWS)
    assert {*rows[0]} == {"path", "values", "default", "meaning"}
    refused(2, ["recipes", "optimizer", "--settings"], "no setting is named 'optimizer'", "did you mean optimiser?")
