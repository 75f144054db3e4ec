"""Changes of a recipe as programs give them: tables for groups, numbers of numpy, and what is no change at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from residual.errors import UsageError
from residual.training.recipe import as_overrides, override
from residual.training.recipes import RECIPES, recipe_of
from residual.training.schedules import Steps

DIGITS = RECIPES["digits"]


def test_a_table_changes_what_it_names_of_a_group():
    changed = override(DIGITS, [("optimiser", {"momentum": 0.8}), ("data", {"augment": {"shift": 1}})])
    assert changed == override(DIGITS, [("optimiser.momentum", 0.8), ("data.augment.shift", 1)])
    assert changed.optimiser.weight_decay == DIGITS.optimiser.weight_decay
    schedule = override(DIGITS, [("schedule", {"drops": [10], "kind": "steps"})]).schedule
    assert isinstance(schedule, Steps)
    assert schedule.drops == (10,)
    paper = RECIPES["cifar100-paper"]
    warmup = override(paper, [("schedule", {"warmup": {"steps": 10}})]).schedule
    assert isinstance(warmup, Steps)
    assert (warmup.warmup.steps, warmup.warmup.shape) == (10, "constant"), "as the recipe has it"
    weights = override(DIGITS, [("loss.class_weights", {"7": 2.0})])
    assert override(weights, [("loss.class_weights", {"8": 3.0})]).loss.class_weights == {"8": 3.0}, "a true table"


@pytest.mark.parametrize(
    ("path", "given", "stored"),
    [
        ("seed", np.int64(3), 3),
        ("optimiser.weight_decay", np.float32(0.5), 0.5),
        ("schedule.peak", torch.tensor(0.25), 0.25),
        ("network.widths", np.array([4, 8, 16]), [4, 8, 16]),
        ("network.widths", (np.int32(4), 8, 16), (4, 8, 16)),
        ("data.path", Path("pictures"), "pictures"),
        ("compute.device", torch.device("cpu"), "cpu"),
    ],
)
def test_numbers_of_numpy_and_torch_and_paths_are_stored_as_what_they_say(path, given, stored):
    ((found, value),) = as_overrides({path: given})
    assert (found, value) == (path, stored)
    assert type(value) is type(stored)
    json.dumps(value)


@pytest.mark.parametrize("given", ["epochs=4", ["epochs=4"], {3: 4}, [("epochs", 4, 5)], 5, [5], None, DIGITS])
def test_what_is_no_setting_by_its_path_is_refused_in_words(given):
    with pytest.raises(UsageError, match=r'write set=\{"epochs": 4\}'):
        as_overrides(given)


def test_a_table_is_no_recipe():
    with pytest.raises(UsageError, match=r"dict is no recipe \(recipe\): name one"):
        recipe_of({"epochs": 3})  # type: ignore[arg-type]
