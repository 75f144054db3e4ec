"""Spaces: values within bounds, places and values that answer each other, refusals that say how to write a gene."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residual.chance import stream
from residual.errors import UsageError
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.tuning.space import Gene, Space, asked_space, make_space, named_space, parse_gene

DIGITS = RECIPES["digits"]
NUMBERS = st.floats(1e-8, 1e6)
PLACES = st.floats(-2, 3)


@st.composite
def genes(draw: Any) -> Gene:
    kind = draw(st.sampled_from(["linear", "log", "int", "int-log", "choice"]))
    if kind == "choice":
        return Gene("x", kind, choices=tuple(draw(st.lists(st.integers(), min_size=2, max_size=5, unique=True))))
    if kind in ("int", "int-log"):
        low = draw(st.integers(1, 1000))
        return Gene("x", kind, low, low + draw(st.integers(1, 1000)))
    low, high = sorted(draw(st.lists(NUMBERS, min_size=2, max_size=2, unique=True)))
    return Gene("x", kind, low, high)


@given(genes(), PLACES)
def test_values_never_leave_their_bounds(gene: Gene, place: float) -> None:
    value = gene.at(place)
    assert gene.holds(value)
    assert isinstance(value, int) == (gene.kind not in ("linear", "log"))


@given(genes(), st.floats(0, 1))
def test_a_value_has_a_place_that_has_that_value(gene: Gene, place: float) -> None:
    value = gene.at(place)
    again = gene.at(gene.place_of(value))
    assert again == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


@given(genes())
def test_a_gene_reads_what_it_writes(gene: Gene) -> None:
    assert parse_gene(gene.text()) == gene


def test_the_seeds_space_is_the_seeds() -> None:
    assert named_space("seed001", DIGITS).facts() == {
        "schedule.peak": "linear:1e-06:0.01",
        "optimiser.weight_decay": "linear:0:0.1",
        "schedule.momentum_low": "linear:0.1:1.5",
    }


def test_the_default_space_follows_schedule_and_optimiser() -> None:
    assert named_space("default", DIGITS).facts() == {
        "schedule.peak": "log:0.01:3",
        "optimiser.weight_decay": "log:1e-06:0.01",
        "schedule.momentum_low": "linear:0.6:0.95",
    }
    steps = override(DIGITS, [("schedule.kind", "steps")])
    assert named_space("default", steps).paths == ("schedule.rate", "optimiser.weight_decay", "optimiser.momentum")
    adam = override(DIGITS, [("optimiser.kind", "adamw"), ("optimiser.nesterov", False)])
    assert named_space("default", adam).facts()["schedule.peak"] == "log:1e-05:0.03", "0.2 is a rate for SGD"
    small = override(adam, [("schedule.peak", 1e-3), ("optimiser.momentum", 0.5)])
    assert named_space("default", small).facts()["schedule.peak"] == "log:5e-05:0.02"
    assert named_space("default", small).facts()["schedule.momentum_low"] == "linear:0:0.5"
    high = override(DIGITS, [("schedule.peak", 2.5), ("optimiser.nesterov", False), ("optimiser.momentum", 0.0)])
    assert named_space("default", high).facts()["schedule.peak"] == "log:0.125:5"
    assert named_space("default", high).facts()["schedule.momentum_low"] == "linear:0.6:0.99", "nothing to go up to"
    with pytest.raises(UsageError, match="lowest momentum of a cycle"):
        named_space("seed001", steps)


def test_the_recipes_own_values_are_an_individual_where_the_space_holds_them() -> None:
    space = make_space(DIGITS, None, [])
    assert space.of(DIGITS) == (0.2, 5e-4, 0.85)
    constant = override(DIGITS, [("schedule.momentum_low", None)])
    assert make_space(constant, None, []).of(constant) == (0.2, 5e-4, 0.95), "a constant momentum is its own lowest"
    assert space.of(override(DIGITS, [("optimiser.weight_decay", 0.0)])) is None
    assert make_space(DIGITS, None, ["seed=int:0:4", "network.name=choice:resnet-8,resnet-14"]).of(DIGITS) is None
    own = make_space(DIGITS, None, ["seed=int:0:4", f"network.name=choice:resnet-8,{DIGITS.network.name}"])
    assert own.of(DIGITS) == (0, DIGITS.network.name)


def test_the_default_space_of_an_earlier_release_is_taken_where_a_study_has_it() -> None:
    before = named_space("default", DIGITS, earlier=True).facts()
    assert before == {
        "schedule.peak": "log:0.001:3",
        "optimiser.weight_decay": "log:1e-06:0.01",
        "schedule.momentum_low": "linear:0.6:0.99",
    }
    now = named_space("default", DIGITS).facts()
    for stored, expected in ((before, before), (now, now), ({}, now), ({"seed": "int:0:4"}, now)):
        assert asked_space(DIGITS, "default", [], stored).facts() == expected
    gene = "schedule.shape=choice:cosine,linear"
    mixed = {**before, "schedule.shape": "choice:cosine,linear"}
    assert asked_space(DIGITS, "default", [gene], mixed).facts() == mixed
    assert asked_space(DIGITS, None, [gene], mixed).facts() == {"schedule.shape": "choice:cosine,linear"}


def test_log_genes_are_uniform_in_the_logarithm() -> None:
    gene = parse_gene("schedule.peak=log:1e-3:10")
    values = sorted(Space("s", (gene,)).draw(stream(1, "test", n))[0] for n in range(2000))
    shares = [sum(float(v) < bound for v in values) / 2000 for bound in (1e-2, 1e-1, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=4 * math.sqrt(0.25 / 2000))


def test_own_genes_stand_alone_or_replace_those_of_a_named_space() -> None:
    alone = make_space(DIGITS, None, ["network.shortcut=choice:A,B", "data.augment.shift=int:0:4"])
    assert alone.paths == ("network.shortcut", "data.augment.shift")
    mixed = make_space(DIGITS, "seed001", ["schedule.peak=log:1e-6:1e-2", "schedule.shape=choice:cosine,linear"])
    assert mixed.facts() == {
        "schedule.peak": "log:1e-06:0.01",
        "optimiser.weight_decay": "linear:0:0.1",
        "schedule.momentum_low": "linear:0.1:1.5",
        "schedule.shape": "choice:cosine,linear",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schedule.peak", "path=kind:range"),
        ("schedule.peak=1e-3:3", "no kind of gene"),
        ("schedule.peak=lgo:1e-3:3", "did you mean log"),
        ("schedule.peak=log:0:3", "above 0"),
        ("schedule.peak=log:3:1e-3", "smaller"),
        ("schedule.peak=log:1e-3:inf", "finite"),
        ("schedule.peak=log:1e-3", "two numbers"),
        ("batch_size=int:1.5:3", "whole"),
        ("batch_size=int-log:0:8", "at least 1"),
        ("network.shortcut=choice:A", "two or more"),
        ("network.shortcut=choice:A,A", "all different"),
        ("schedule.peek=log:1e-3:3", "did you mean peak"),
        ("schedule=log:1e-3:3", "no value"),
        ("data.validation=choice:0.0,0.2", "judged otherwise"),
        ("data.limit=int:50:100", "judged otherwise"),
        ("evaluation.patience=choice:0,1", "judged otherwise"),
    ],
)
def test_a_wrong_gene_is_refused_with_the_way_out(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_space(DIGITS, None, [text])


def test_a_choice_that_does_not_suit_the_recipe_is_told_before_anything_is_trained(caplog) -> None:
    make_space(DIGITS, None, ["network.shortcut=choice:A,B", "optimiser.nesterov=choice:true,false"])
    assert caplog.messages == []
    genes = [
        "network.shortcut=choice:A,Z",
        "network.name=choice:resnet-20,resnet-2O",
        "network.order=choice:original,pre",
    ]
    make_space(DIGITS, None, genes)
    found = [message.split(" does not suit the recipe")[0] for message in caplog.messages]
    assert found == ["Z of network.shortcut", "resnet-2O of network.name", "pre of network.order"]
    assert "did you mean resnet-20" in caplog.messages[1]


def test_a_gene_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="given twice"):
        make_space(DIGITS, None, ["batch_size=int:8:16", "batch_size=int:8:32"])


@pytest.mark.parametrize("text", ['x=choice:"1","2"', 'x=choice:"true",b', "x=choice:1,2", "x=choice:1,true,1.0"])
def test_text_that_looks_like_a_number_stays_text_and_what_was_stored_is_read_as_it_was(text: str) -> None:
    gene = parse_gene(text)
    assert gene.text() == text
    again = parse_gene(gene.text())
    assert [(type(a), a) for a in again.choices] == [(type(a), a) for a in gene.choices]


def test_choices_that_python_holds_to_be_the_same_have_places_of_their_own() -> None:
    gene = parse_gene("x=choice:1,true")
    assert [gene.place_of(value) for value in (1, True)] == [0.25, 0.75]
    assert gene.at(gene.place_of(True)) is True
    assert not gene.holds(1.0)
