"""Settings that undo each other are refused; those that few would mean together are told, each with the way out."""

from __future__ import annotations

from typing import Any

import pytest

from residual.errors import UsageError
from residual.training.recipe import Recipe, override
from residual.training.recipes import RECIPES
from residual.training.settling import doubts
from residual.training.train import train

COSINE = {"schedule.kind": "cosine", "schedule.rate": 1e-3}
ADAMW = {"optimiser.kind": "adamw", "optimiser.nesterov": False}


def recipe(name: str, changes: dict[str, Any]) -> Recipe:
    return override(RECIPES[name], changes.items())


@pytest.mark.parametrize("name", [*RECIPES])
def test_named_recipes_leave_no_doubt(name):
    assert doubts(RECIPES[name], []) == []


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        (
            "digits",
            {"evaluation.patience": 3},
            ["--set evaluation.best=top1", "before the rate has fallen"],
        ),
        ("cifar10-paper", {"evaluation.patience": 3, "evaluation.patience_on": "loss"}, ["--set evaluation.best=loss"]),
        ("cifar10-paper", {"evaluation.patience": 3, "evaluation.best": "top1"}, []),
        ("digits", {"evaluation.best": "loss", "evaluation.precise_statistics": 500}, ["leave one of the two out"]),
        ("digits", ADAMW, ["--set schedule.peak=0.001, or ask `residual find-lr`"]),
        ("cifar10-paper", ADAMW, ["the recipe's rate of 0.1 is one for SGD"]),
        ("digits", COSINE | ADAMW, []),
        ("digits", COSINE | {"schedule.warmup.steps": 20}, ["--set schedule.warmup.rate=0.0001"]),
        ("digits", COSINE | {"schedule.warmup.steps": 20, "schedule.first": 30}, []),
        ("digits", COSINE | {"schedule.warmup.steps": 20, "schedule.warmup.rate": 0.0}, []),
        (
            "cifar10-paper",
            {"schedule.rate": 1e-3, "schedule.hold.until_error": 0.8},
            ["--set schedule.hold.rate=0.0001"],
        ),
        ("digits", {"schedule.momentum_low": 0.97}, ["a cycle has it the other way"]),
        ("digits", {"schedule.momentum_low": 0.85}, []),
    ],
)
def test_what_few_would_mean_is_told(name, changes, words):
    found = doubts(recipe(name, changes), list(changes))
    assert len(found) == len(words), found
    assert all(word in line for word, line in zip(words, found, strict=True)), found


def test_a_rate_that_was_given_is_no_doubt():
    high = {**ADAMW, "schedule.peak": 0.05}
    assert doubts(recipe("digits", high), list(high)) == []


def test_weights_and_sampling_do_not_both_even_out_the_classes(tmp_path):
    both = {"data.sampling": "balanced", "loss.class_weights": "balanced"}
    with pytest.raises(UsageError, match=r"\(loss.class_weights\): leave one of the two out"):
        train("digits", set=both, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert doubts(recipe("digits", {**both, "loss.class_weights": {"3": 2.0}}), []) == []


def test_a_doubt_is_told_once_by_a_training(tmp_path, caplog):
    tiny = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "steps": 1, "schedule.momentum_low": 0.96}
    for number in range(2):
        train("digits", set=tiny, out=tmp_path / f"run{number}")
    assert [message.split(" is above")[0] for message in caplog.messages] == ["schedule.momentum_low of 0.96"]
