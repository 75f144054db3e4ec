"""A search from Python: `residual.tune`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from residual.device import at_home
from residual.environment import check_versions
from residual.errors import UsageError, is_whole
from residual.files import Facts
from residual.training.durations import seconds_of
from residual.training.progress import Listener
from residual.training.recipe import Changes, Recipe, as_overrides
from residual.tuning import need_optuna
from residual.tuning.own import FREE

_LEAST = {"population": 2, "generations": 0, "seeds": 1, "search_seed": 0}


@at_home()
def search(
    recipe: Recipe | str | os.PathLike[str] | None = None,
    name: str | None = None,
    *,
    set: Changes = (),
    start_from: str | os.PathLike[str] | None = None,
    sampler: str | None = None,
    rules: Mapping[str, Any] | None = None,
    space: str | None = None,
    genes: Sequence[str] = (),
    population: int | None = None,
    generations: int | None = None,
    seeds: int | None = None,
    search_seed: int | None = None,
    prune: Literal["none", "median"] | None = None,
    storage: str | None = None,
    budget: str | None = None,
    listener: Listener | None = None,
) -> Facts:
    """Search good settings for a recipe, or go on with a search: `residual.tune`.

    Args:
        recipe: a recipe, the name of one, a .toml file or a folder of photographs; the embedded digits, small, unless
            given. Of a study that is gone on with, what was asked then may be left out.
        name: of the study, which lies in `runs/NAME`; a new one unless given.
        set: values of every individual, by path.
        start_from: trained weights that every training begins from.
        sampler: ga (unless given), ga-001, nsgaii, tpe, cmaes or random, with some of its `rules`.
        space: default or seed001.
        genes: settings to search, as "schedule.peak=log:1e-3:3"; alone, or with `space` beside its own.
        population, generations: individuals of a generation, and generations after the first.
        seeds: trainings of each individual, whose mean is its fitness.
        search_seed: what all chance of the search follows from.
        prune: "median" ends a training that is behind the median of closed generations.
        storage: a database that several machines see; $RESIDUAL_STORAGE, else a file in `runs/NAME`.
        budget: the time, as 15m or 2h, after which no further training begins.
        listener: who is told what happens in the trainings; no one by default.

    Returns:
        What `residual study show --json` gives: `best` has the genes, the fitness (top-1 on validation images, in
        [0, 1]) and the names of the runs, whose `recipe.toml` trains it again; `own` is the fitness of the recipe.

    Raises:
        UsageError: what cannot be searched, or a study of other settings.
        EnvironmentFault: Optuna is not installed.
        Interrupted: nothing is lost; the same name goes on.
    """
    check_versions()
    need_optuna()
    from residual.tuning.study import Wish, tune
    from residual.tuning.summary import summarise

    if isinstance(recipe, os.PathLike) and os.path.isdir(os.path.expanduser(recipe)):
        recipe = os.path.join(os.fspath(recipe), "")  # a folder, whatever recipe is called so
    given = {"population": population, "generations": generations, "seeds": seeds, "search_seed": search_seed}
    for what, number in given.items():
        if number is not None and (not is_whole(number) or number < _LEAST[what]):
            raise UsageError(f"{what} is {number!r:.40}", "residual.tune", f"give a number of {_LEAST[what]} or more")
    whole = {what: None if number is None else int(number) for what, number in given.items()}  # numpy's are no JSON
    changes = as_overrides(set)
    if start_from is not None:
        changes.append(("start.weights", os.fspath(start_from)))
    wish = Wish(
        recipe if recipe is None or isinstance(recipe, Recipe) else os.fspath(recipe),
        tuple((path, value) for path, value in changes if not path.startswith("compute.")),
        sampler,
        rules or {},
        space,
        tuple(genes),
        whole["population"],
        whole["generations"],
        whole["search_seed"],
        whole["seeds"],
        prune,
    )
    study = tune(
        name,
        wish,
        storage=storage or os.environ.get("RESIDUAL_STORAGE"),
        own=[(path, value) for path, value in changes if path.startswith(FREE)],
        listener=listener,
        budget=None if budget is None else seconds_of(budget, "budget"),
    )
    try:
        return summarise(study)
    finally:
        study.close()
