"""`residual recipes`."""

from __future__ import annotations

import json as json_
from typing import Annotated

from cyclopts import Parameter


def recipes(name: str | None = None, /, *, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the named recipes, each with its source and where it departs from it; or print one as TOML, to train from.

    Parameters
    ----------
    name
        A recipe; `residual recipes digits > mine.toml`, then `residual train mine.toml`.
    json
        JSON instead of a table or TOML.
    """
    from rich.table import Table

    from residual.cli.words import console
    from residual.training.recipes import RECIPES, find_recipe

    if name is not None:
        recipe = find_recipe(name)
        print(json_.dumps(recipe.model_dump(mode="json")) if json else recipe.to_toml(), end="\n" if json else "")
        return 0
    if json:
        print(json_.dumps({known: recipe.model_dump(mode="json") for known, recipe in RECIPES.items()}))
        return 0
    table = Table(title="recipes")
    for column in ("recipe", "data", "network", "length", "batch", "source", "departs from it"):
        table.add_column(column)
    for known, recipe in RECIPES.items():
        length = f"{recipe.steps:,} steps" if recipe.steps is not None else f"{recipe.epochs:g} epochs"
        departures = "\n".join(f"- {one}" for one in recipe.departures)
        facts = (known, recipe.data.dataset, recipe.network.name, length, str(recipe.batch_size))
        table.add_row(*facts, recipe.source, departures)
    console().print(table)
    return 0
