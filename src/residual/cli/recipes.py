"""`residual recipes`."""

from __future__ import annotations

import json as json_
from typing import Annotated

from cyclopts import Parameter


def recipes(
    name: str | None = None,
    /,
    *,
    settings: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """List the named recipes, each with its source and where it departs from it; or print one as TOML, to train from.

    With --settings, list what `--set` and a recipe's file take: every path, its values, default and meaning.

    Parameters
    ----------
    name
        A recipe; `residual recipes digits > mine.toml`, then `residual train mine.toml`. With --settings, paths: data,
        'optimiser.*'.
    settings
        The settings of recipes.
    json
        JSON instead of a table or TOML.
    """
    from rich.text import Text

    from residual.cli.tables import say_table
    from residual.training.recipes import RECIPES, find_recipe

    if settings:
        return _settings(name, json)
    if name is not None:
        recipe = find_recipe(name)
        print(json_.dumps(recipe.model_dump(mode="json")) if json else recipe.to_toml(), end="\n" if json else "")
        return 0
    if json:
        print(json_.dumps({known: recipe.model_dump(mode="json") for known, recipe in RECIPES.items()}))
        return 0
    columns = dict.fromkeys(("recipe", "data", "network", "length", "batch", "source", "departs from it"), False)
    rows = []
    for known, recipe in RECIPES.items():
        length = f"{recipe.steps:,} steps" if recipe.steps is not None else f"{recipe.epochs:g} epochs"
        departures = "\n".join(f"- {one}" for one in recipe.departures)
        facts = (known, recipe.data.dataset, recipe.network.name, length, str(recipe.batch_size))
        rows.append((*facts, Text(recipe.source), Text(departures)))
    folding = ("source", "departs from it")
    more = ": `residual recipes NAME` has all of one, --json of all"
    say_table(
        "recipes", columns, rows, folding=folding, given_up=("departs from it", "batch", "source", "data"), more=more
    )
    return 0


def _settings(pattern: str | None, json: bool) -> int:
    """The table of settings, in which the default recipe's own choices do not stand."""
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import console
    from residual.errors import UsageError, nearest
    from residual.training.settings import settings

    found = settings(pattern or "*")
    if not found:
        known = {part for one in settings() for part in (one.path, one.path.partition(".")[0])}
        raise UsageError(f"no setting is named {pattern!r:.80}", "recipes --settings", nearest(pattern or "", [*known]))
    if json:
        print(json_.dumps([one.as_dict() for one in found]))
        return 0
    table = Table(title="settings")
    for column in ("path", "takes", "default", "what it is"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(*map(Text, (one.path, one.values, one.default, one.meaning)))
    console().print(table)
    return 0
