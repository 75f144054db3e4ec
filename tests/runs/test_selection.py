"""Rows by condition, number and order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residual.errors import UsageError
from residual.runs.selection import Condition, parse_condition, select

ROWS: list[dict[str, Any]] = [
    {"run": "a-1", "recipe": "digits", "seed": 0, "test_top1": 0.9, "watched": False},
    {"run": "a-2", "recipe": "cifar10-fast", "seed": 1, "test_top1": None, "watched": True},
    {"run": "b-1", "damaged": "run.json is damaged"},
    {"run": "a-3", "recipe": "cifar10-paper", "seed": 10, "test_top1": 0.95, "watched": False},
]


def names(*conditions, **options):
    return [row["run"] for row in select(ROWS, [parse_condition(text) for text in conditions], **options)]


@pytest.mark.parametrize(
    ("conditions", "found"),
    {
        (): ["a-1", "a-2", "b-1", "a-3"],
        ("recipe=digits",): ["a-1", "b-1"],
        ("recipe=cifar10-*",): ["a-2", "b-1", "a-3"],
        ("recipe!=cifar10-*",): ["a-1", "b-1"],
        ("recipe=Digits",): ["b-1"],
        ("seed=1",): ["a-2", "b-1"],
        ("seed=1.0",): ["a-2", "b-1"],
        ("seed=1*",): ["a-2", "b-1", "a-3"],
        ("seed>=1", "seed<10"): ["a-2", "b-1"],
        ("test_top1>0.9",): ["b-1", "a-3"],
        ("test_top1<=0.9",): ["a-1", "b-1"],
        ("test_top1=none",): ["a-2", "b-1"],
        ("test_top1!=none",): ["a-1", "b-1", "a-3"],
        ("watched=true",): ["a-2", "b-1"],
        ("recipe>cifar10-g",): ["a-1", "b-1", "a-3"],
        ("run=a=b",): ["b-1"],
    }.items(),
    ids=str,
)
def test_conditions(conditions, found):
    assert names(*conditions) == found


def test_order_and_number():
    assert names(sort="test_top1") == ["a-3", "a-1", "a-2", "b-1"]
    assert names(sort="recipe") == ["a-2", "a-3", "a-1", "b-1"]
    assert names(sort="test_top1", top=2) == ["a-3", "a-1"]
    assert names(sort="seed", last=3, top=1) == ["a-3"]
    assert names(last=2) == ["b-1", "a-3"]
    assert names("recipe=cifar*", sort="seed", last=2) == ["a-3", "b-1"]


@pytest.mark.parametrize("text", ["", "recipe", "=digits", "a b=c", "recipe==digits"[:6] + "~x"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(UsageError, match="no condition"):
        parse_condition(text)


def test_an_unknown_field_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match=r"no run has 'test_top'.*did you mean test_top1"):
        names("test_top=1")
    with pytest.raises(UsageError, match="no run has 'nothing'"):
        names(sort="nothing")


def test_a_number_is_put_in_order_with_numbers_alone():
    with pytest.raises(UsageError, match=r"'x' is not a number \(--where seed\)"):
        names("seed>x")


@given(st.floats(allow_nan=False) | st.integers(), st.floats(allow_nan=False))
def test_numbers_are_compared_as_numbers(value, wanted):
    holds = {sign: Condition("f", sign, repr(wanted)).holds(value) for sign in ("=", "!=", "<", "<=", ">", ">=")}
    assert holds == {
        "=": value == wanted,
        "!=": value != wanted,
        "<": value < wanted,
        "<=": value <= wanted,
        ">": value > wanted,
        ">=": value >= wanted,
    }


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3))))
def test_anything_can_be_sorted(values):
    rows = select([{"x": value} for value in values], [], sort="x" if values else None)
    kinds = [2 if row["x"] is None else 1 if isinstance(row["x"], str) else 0 for row in rows]
    assert kinds == sorted(kinds)
    numbers = [row["x"] for row in rows if isinstance(row["x"], int | float)]
    assert numbers == sorted(numbers, reverse=True)
    words = [row["x"] for row in rows if isinstance(row["x"], str)]
    assert words == sorted(words)
