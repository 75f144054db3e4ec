"""Recipes: the way to TOML and back, overrides by path, and every fault of a recipe in one message."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from residual.errors import UsageError
from residual.training.recipe import (
    Recipe,
    as_overrides,
    differences,
    override,
    read_recipe,
    to_recipe,
)
from residual.training.recipes import DEFAULT, RECIPES, find_recipe
from residual.training.schedules import SCHEDULES, Cosine, Hold, OneCycle, Plateau, Steps
from residual.training.values import parse_override

DIGITS = RECIPES["digits"]


def message(recipe: Recipe, *overrides: tuple[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        override(recipe, overrides)
    return str(caught.value)


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every setting of a recipe by its path."""
    if isinstance(value, BaseModel):
        found: dict[str, Any] = {}
        for name in type(value).model_fields:
            found |= leaves(getattr(value, name), f"{path}.{name}" if path else name)
        return found
    return {path: value}


# TOML


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_toml(tmp_path, name):
    recipe = RECIPES[name]
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert read_recipe(path) == recipe == find_recipe(str(path)) == find_recipe(name)
    assert read_recipe(path).to_toml() == recipe.to_toml()
    assert recipe.name == name
    assert recipe.source
    assert all(words and words == words.strip() for words in recipe.departures)


@pytest.mark.parametrize("name", ["cifar10-paper", "cifar100-paper", "cifar10-smith", "imagenet-paper"])
def test_a_recipe_with_a_paper_says_where_it_departs_from_it(name):
    assert RECIPES[name].departures
    assert "He et al." in RECIPES[name].source or "Smith" in RECIPES[name].source


def test_imagenet_as_the_paper_has_it():
    """He et al. 2015, section 3.4, number for number."""
    recipe = RECIPES["imagenet-paper"]
    assert (recipe.batch_size, recipe.steps, recipe.data.image_size) == (256, 600_000, 224)
    assert (recipe.data.augment.short_side, recipe.data.augment.colour_noise) == ((256, 480), 0.1)
    assert (recipe.data.augment.mirror, recipe.data.normalisation) == (True, "per-pixel-mean")
    assert (recipe.optimiser.momentum, recipe.optimiser.weight_decay, recipe.network.dropout) == (0.9, 1e-4, None)
    assert recipe.schedule == Plateau(rate=0.1, factor=0.1, watch="training", patience=5, threshold=1e-3, most=3)


@pytest.mark.parametrize(
    ("part", "off"),
    [
        ("loss.label_smoothing", 0.0),
        ("optimiser.nesterov", False),
        ("optimiser.average", 0.0),
        ("data.augment.sizes", []),
        ("data.augment.mirror_by", "chance"),
    ],
)
def test_every_part_of_fast_can_be_switched_off_alone(part, off):
    for name in ("fast", "fast-photos"):
        recipe = RECIPES[name]
        changed = override(recipe, [(part, off)])
        assert set(differences(recipe.model_dump(mode="json"), changed.model_dump(mode="json"))) <= {part}
    assert override(RECIPES["fast"], [(part, off)]) != RECIPES["fast"]


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_toml_with_every_schedule(name, kind):
    recipe = override(RECIPES[name], [("schedule.kind", kind)])
    assert to_recipe(tomllib.loads(recipe.to_toml()), "here") == recipe


@given(
    seed=st.integers(0, 2**53 - 1),
    rate=st.floats(0, 1000, exclude_min=True),
    decay=st.floats(0, 1),
    source=st.text(),
    path=st.none() | st.text(min_size=1),
    drops=st.lists(st.integers(1, 10**6), max_size=4),
    keep=st.integers(2, 1000),
    every=st.none() | st.integers(1, 10**9),
)
def test_any_values_survive_toml(seed, rate, decay, source, path, drops, keep, every):
    recipe = override(
        RECIPES["cifar10-paper"],
        [
            *(("seed", seed), ("schedule.rate", rate), ("schedule.drops", drops), ("source", source)),
            *(("optimiser.weight_decay", decay), ("data.path", path), ("checkpoint.keep", keep)),
            ("checkpoint.every_steps", every),
        ],
    )
    again = to_recipe(tomllib.loads(recipe.to_toml()), "here")
    assert again == recipe
    assert (again.schedule, again.data.path) == (Steps(rate=rate, drops=tuple(drops)), path)


def test_a_setting_that_is_none_comes_back_as_none():
    recipe = override(DIGITS, [("checkpoint.every_seconds", None), ("checkpoint.every_steps", 5)])
    assert to_recipe(tomllib.loads(recipe.to_toml()), "here") == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_no_other_setting_has_a_default_that_none_would_come_back_as(name):
    """A value of None is left out of the file, and so means the default: that must be None as well."""
    for path, value in leaves(RECIPES[name]).items():
        try:
            recipe = override(RECIPES[name], [(path, None)])
        except UsageError:
            continue
        assert value is None or to_recipe(tomllib.loads(recipe.to_toml()), "here") == recipe, path


# Overrides


@given(value=st.integers() | st.floats(allow_nan=False) | st.booleans() | st.text() | st.lists(st.integers()))
def test_an_override_means_what_its_toml_means(value):
    text = tomli_w.dumps({"value": value}, multiline_strings=False).removeprefix("value = ").strip()
    assert parse_override(f"a.b={text}") == ("a.b", value)


@given(st.text())
def test_any_text_is_an_override_or_refused(text):
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        with pytest.raises(UsageError, match="path=value"):
            parse_override(text)
        return
    found, meant = parse_override(text)
    assert found == path.strip()
    assert meant is None or isinstance(meant, str) or not value.strip().isalpha() or value.strip() in ("true", "false")


@given(st.text(alphabet=st.characters(categories=["L"]), min_size=1))
def test_a_bare_word_is_a_word(word):
    _, value = parse_override(f"optimiser.kind={word}")
    known: dict[str, Any] = {"none": None, "null": None}
    special = {"true": True, "false": False}
    if word.lower() in known:
        assert value is None
    elif word in special:
        assert value is special[word]
    elif word not in ("nan", "inf"):
        assert value == word


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("1e-4", 1e-4),
        (" 3 ", 3),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("None", None),
        ("", ""),
        ("a=b", "a=b"),
        ("resnet-20", "resnet-20"),
        ("/data/1", "/data/1"),
        ("1\nseed = 2", "1\nseed = 2"),
        ("[" * 9999, "[" * 9999),
        ("9" * 9999, "9" * 9999),
        ("[1", "[1"),
    ],
)
def test_values(text, value):
    assert parse_override(f"x={text}") == ("x", value)


@pytest.mark.parametrize("name", RECIPES)
def test_every_setting_can_be_set_to_what_it_is(name):
    recipe = RECIPES[name]
    settings = {path: value for path, value in leaves(recipe).items() if value is not None}
    assert len(settings) > 30
    for path, value in settings.items():
        assert override(recipe, [(path, value)]) == recipe, path
    assert override(recipe, settings.items()) == recipe
    assert override(recipe, []) == recipe


def test_an_override_changes_that_setting_alone():
    changed = override(DIGITS, [("optimiser.weight_decay", 0.25)])
    assert differences(DIGITS.model_dump(), changed.model_dump()) == {"optimiser.weight_decay": (5e-4, 0.25)}
    assert DIGITS.optimiser.weight_decay == 5e-4


@pytest.mark.parametrize(
    ("overrides", "length"),
    [
        ([("steps", 5)], (None, 5)),
        ([("epochs", 5)], (5.0, None)),
        ([("steps", 5), ("epochs", None)], (None, 5)),
        ([("epochs", 0.5)], (0.5, None)),
    ],
)
@pytest.mark.parametrize("name", ["digits", "cifar10-paper"])
def test_epochs_and_steps_displace_each_other(name, overrides, length):
    recipe = override(RECIPES[name], overrides)
    assert (recipe.epochs, recipe.steps) == length


def test_a_recipe_has_exactly_one_length():
    assert "epochs is 2: steps is 3 as well; set one of the two" in message(DIGITS, ("epochs", 2), ("steps", 3))
    assert "needs a length" in message(DIGITS, ("epochs", None))
    with pytest.raises(ValidationError, match="needs a length"):
        Recipe()


def test_another_schedule_keeps_what_both_have():
    cosine = override(DIGITS, [("schedule.kind", "cosine"), ("schedule.rate", 0.3)])
    assert cosine.schedule == Cosine(rate=0.3)
    steps = override(cosine, [("schedule.kind", "steps")])
    assert steps.schedule == Steps(rate=0.3)
    cycle = override(steps, [("schedule.kind", "one-cycle")])
    assert cycle.schedule == OneCycle(peak=0.3)
    assert override(DIGITS, [("schedule.kind", "one-cycle")]) == DIGITS


def test_the_order_of_kind_and_value_does_not_matter():
    one = override(DIGITS, [("schedule.kind", "steps"), ("schedule.rate", 0.3), ("schedule.drops", [1, 2])])
    assert one.schedule == Steps(rate=0.3, drops=(1, 2))


def test_a_group_that_was_none_begins_with_its_defaults():
    recipe = override(RECIPES["cifar10-paper"], [("schedule.hold.rate", 0.02)])
    assert recipe.schedule == Steps(rate=0.1, hold=Hold(rate=0.02))
    assert override(recipe, [("schedule.hold", None)]) == RECIPES["cifar10-paper"]


# Faults


def test_all_faults_of_overrides_are_one_message():
    said = message(
        DIGITS,
        ("optimiser.momentum", 1.2),
        ("schedule.peak", float("nan")),
        ("optimizer.momentum", 0.9),
        ("bogus", 1),
        ("epochs", 0),
        ("seed", 1),
        ("seed", 2),
        ("network.name", "resnet-21"),
    )
    for words in (
        "optimiser.momentum is 1.2: must be less than 1",
        "schedule.peak is nan: must be a finite number",
        "did you mean optimiser?",
        "bogus is 1: no such setting",
        "epochs is 0: must be greater than 0",
        "seed is 2: given twice, first as 1; give it once",
        "network.name is 'resnet-21': no such network; did you mean resnet-",
    ):
        assert words in said
    assert said.startswith("this run cannot start (settings): ")
    assert "\n" not in said


def test_all_faults_of_a_table_are_one_message():
    table = {
        "epochs": "many",
        "steps": 3,
        "batch_size": 1.5,
        "network": {"name": "resnet", "widths": [16, 0, 64], "nme": 1},
        "schedule": {"kind": "steps", "peak": 1, "warmup": {"steps": -1}},
        "compute": {"device": "tpu", "precision": "float8"},
        "evaluation": 3,
    }
    with pytest.raises(UsageError) as caught:
        to_recipe(table, "mine.toml")
    said = str(caught.value)
    for words in (
        *("(mine.toml)", "epochs is 'many': must be a number", "epochs is 'many': steps is 3 as well"),
        *("batch_size is 1.5: must be a whole number", "network.name is 'resnet': no such network"),
        *("network.widths.1 is 0", "network.nme is 1: no such setting; did you mean name"),
        *("schedule.peak is 1: no such setting; choose one of drops", "schedule.warmup.steps is -1"),
        *("compute.device is 'tpu': must be auto, cpu, mps, cuda or cuda:N", "compute.precision is 'float8'"),
        "evaluation is 3: must be a group of settings",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("steps", "steps is 'x': must be a whole number"),
        ("schedule.kind", "schedule.kind is 'x': no such schedule"),
        ("schedule.hold.rate", "no such group of settings as hold; choose one of"),
        ("seed.deep", "seed is no group of settings"),
        ("data.augment", "data.augment is 'x': must be a group of settings"),
        ("name", None),
        ("optimiser.kind", "optimiser.kind is 'x': must be 'sgd'"),
    ],
)
def test_a_fault_names_its_path(path, rule):
    if rule is None:
        assert override(DIGITS, [(path, "x")]).name == "x"
    else:
        assert rule in message(DIGITS, (path, "x"))


@given(
    path=st.lists(st.sampled_from(["schedule", "data", "hold", "augment", "seed", "kind", "name", ""]), max_size=4),
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
)
def test_any_override_works_or_is_refused_in_words(path, value):
    said = ""
    try:
        recipe = override(DIGITS, [(".".join(path), value)])
    except UsageError as error:
        said, recipe = str(error), DIGITS
    assert "\n" not in said
    assert len(said) < 1000
    assert to_recipe(tomllib.loads(recipe.to_toml()), "here").model_dump() == recipe.model_dump()


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        DIGITS.seed = 3  # type: ignore[misc]


def test_names():
    assert DEFAULT in RECIPES
    for name in ("Digits", "", "digit", "x" * 5000):
        with pytest.raises(UsageError, match="no recipe is named") as caught:
            find_recipe(name)
        assert len(str(caught.value)) < 400
    for name in ("a.yaml", "b.JSON"):
        with pytest.raises(UsageError, match="recipes are TOML files"):
            find_recipe(name)


def test_differences():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}, "e": 5}, {"a": 1, "b": {"c": 4, "d": 3}, "f": 6}
    assert differences(old, new) == {"b.c": (2, 4), "e": (5, None), "f": (None, 6)}
    assert differences(old, old) == {}


@pytest.mark.parametrize("changes", [{"network": "resnet-56"}, [("network", "resnet-56")]])
def test_a_word_chooses_a_group(changes):
    assert as_overrides(changes) == [("network.name", "resnet-56")]
    assert as_overrides({"schedule": "cosine", "optimiser": "adam", "seed": 1}) == [
        ("schedule.kind", "cosine"),
        ("optimiser.kind", "adam"),
        ("seed", 1),
    ]
