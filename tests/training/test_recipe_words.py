"""Words of settings from the command line, and settings that follow another one."""

from __future__ import annotations

import re
from typing import Any

import pytest

from residual.errors import UsageError
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.schedules import SCHEDULES, Cosine, OneCycle
from residual.training.settings import Setting, settings
from residual.training.values import TEXTS, parse_override
from tests.training.test_recipe import DIGITS, leaves, message

# What some settings cannot be without.
BESIDE: dict[str, list[tuple[str, Any]]] = {
    "optimiser.kind": [("optimiser.nesterov", False)],
    "data.labels": [("data.dataset", "cifar-100")],
    "data.augment.mirror_by": [("data.augment.mirror", True)],
    **{
        f"data.{name}": [("data.dataset", "folder")] for name in ("resize", "interpolation", "channels", "follow_links")
    },
}
FREE = {"word", "number", "table"}


def words_of(row: Setting) -> list[str]:
    """The words that a setting takes, of those it lists; not the kinds of free values."""
    listed = row.meaning.partition(" (")[0] if row.path == "start.freeze" else row.values
    words = listed.replace("K", "1").split(", ")
    return [word for word in words if re.fullmatch(r"[A-Za-z0-9./-]+", word) and word not in FREE]


@pytest.mark.parametrize("row", settings(), ids=lambda row: f"{row.path}-{row.meaning[:9]}")
def test_every_word_that_a_setting_lists_is_taken_from_the_command_line(row):
    """As `--set path=word`, in a schedule of the kind that has the setting."""
    kind = row.meaning.partition(": ")[0]
    own = [("schedule.kind", kind)] if kind in SCHEDULES and row.path.startswith("schedule.") else []
    base = override(DIGITS, [*own, *BESIDE.get(row.path, [])])
    for word in words_of(row):
        expected = {"true": True, "false": False}.get(word, int(word) if word.isdigit() else word)
        assert leaves(override(base, [parse_override(f"{row.path}={word}")]))[row.path] == expected


def test_settings_list_words():
    """So that the test above tries some: every choice of fixed words, and what freezes."""
    found = {row.path: words_of(row) for row in settings()}
    assert found["compute.compile"] == ["none", "auto", "default"]
    assert "none" in found["start.freeze"]
    assert sum("none" in words for words in found.values()) >= 7


def test_freezing_nothing_takes_the_shares_of_its_recipe_away():
    for none in (None, "none"):
        recipe = override(RECIPES["photos-finetune"], [("start.freeze", none)])
        assert (recipe.start.freeze, recipe.start.unfreeze) == ("none", ())
    assert "nothing is frozen" in message(DIGITS, ("start.freeze", "none"), ("start.unfreeze", [0.5]))
    assert "start is no group of settings" in message(DIGITS, ("start", 5), ("start.freeze", "none"))


def test_another_schedule_keeps_the_highest_rate():
    """`peak` of one cycle is `rate` of the others, whichever comes first."""
    assert override(DIGITS, [("schedule.kind", "cosine")]).schedule == Cosine(rate=0.2)
    assert override(DIGITS, [("schedule.kind", "cosine"), ("schedule.rate", 0.3)]).schedule == Cosine(rate=0.3)
    assert override(DIGITS, [("schedule.rate", 0.3), ("schedule.kind", "cosine")]).schedule == Cosine(rate=0.3)
    paper = RECIPES["cifar10-paper"]
    cycle = override(paper, [("schedule.rate", 0.4), ("schedule.kind", "one-cycle")])
    assert cycle.schedule == OneCycle(peak=0.4)
    assert override(cycle, [("schedule.kind", "cosine")]).schedule == Cosine(rate=0.4)
    assert override(paper, [("schedule.kind", "one-cycle"), ("schedule.peak", 1.0)]).schedule == OneCycle(peak=1.0)


def test_what_a_schedule_has_follows_from_its_kind_wherever_that_stands():
    for nested in (("schedule.warmup.steps", 4), ("schedule.hold.rate", 0.02)):
        kind = ("schedule.kind", "cosine" if "warmup" in nested[0] else "steps")
        either = [override(DIGITS, order) for order in ([nested, kind], [kind, nested])]
        assert either[0] == either[1]
    again = override(DIGITS, [("schedule.warmup.steps", 4), ("schedule.warmup.rate", 0.5), ("schedule.kind", "cosine")])
    assert again.schedule.model_dump()["warmup"] == {"steps": 4, "rate": 0.5, "shape": "linear"}
    for odd in (["steps"], {"steps": 1}, 3):
        with pytest.raises(UsageError, match="schedule"):
            override(DIGITS, [("schedule.kind", odd)])


def test_text_is_text_whatever_it_looks_like():
    free = {row.path for row in settings() if row.values.split(", ")[0] == "word"}
    assert free == TEXTS, "settings that are text"
    for path in sorted(TEXTS):
        for word in ("2024", "1e3", "true", "2024-01-01", "a # b", "nan"):
            assert parse_override(f"{path}={word}") == (path, word)
        assert parse_override(f"{path}='2024'") == (path, "2024")
        assert parse_override(f"{path}=none") == (path, None)
    assert parse_override("steps=2024") == ("steps", 2024)
    assert override(DIGITS, [("data.dataset", "folder"), parse_override("data.path=2024")]).data.path == "2024"
