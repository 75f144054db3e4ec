"""A batch of training images as a network sees them: for `residual data show` and for notebooks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from residual.analysis.pictures import displayed, draw_sheet
from residual.data.batches import Batches
from residual.data.datasets import DataSettings, divide, open_dataset
from residual.data.preprocessing import measure
from residual.data.source import Dataset
from residual.training.recipe import Override, Recipe, override
from residual.training.recipes import DEFAULT, RECIPES, find_recipe, network_is_given
from residual.training.settling import settle
from residual.training.start import prepare


def recipe_shown(meant: DataSettings, name: str | None, changes: Iterable[Override], seed: int | None) -> Recipe:
    """The recipe of that name with changes; without one the first for such data, else one without augmentation."""
    if name is not None:
        base = find_recipe(name)
    else:
        fitting = [recipe for recipe in RECIPES.values() if recipe.data.dataset == meant.dataset]
        plain = RECIPES[DEFAULT].model_copy(update={"name": "none", "data": DataSettings(), "batch_size": 64})
        base = fitting[0] if fitting else plain
    asked: list[Override] = [("data.dataset", meant.dataset), *changes]
    asked += [("data.path", meant.path)] if meant.path is not None else []
    asked += [("seed", seed)] if seed is not None else []
    return override(base, asked)


def draw_batch(recipe: Recipe, asked: Collection[str], step: int, path: Path) -> None:
    """Draw the batch of one step of a run of the recipe into a .png or .svg file.

    Args:
        asked: the paths of the settings that were asked for, which nothing else settles.
    """
    dataset, batches = _batches(recipe, asked)
    batch = batches.batch_at(step)
    labels = [dataset.class_names[label] for label in batch.labels.tolist()]
    title = f"{dataset.name}, recipe {recipe.name}, seed {recipe.seed}, step {step:,}"
    draw_sheet(displayed(batch.images, batches.preprocessing), labels, title, path)


def _batches(recipe: Recipe, asked: Collection[str]) -> tuple[Dataset, Batches]:
    """The batches of a run of the recipe, with what such a run takes from the data and from trained weights."""
    start = prepare(recipe, asked, network_is_given(recipe))
    taken = start.settled if start is not None else {}
    dataset = open_dataset(override(recipe, taken.items()).data)
    training = divide(dataset, recipe.data).training
    chosen, _ = settle(recipe, dataset, len(training), asked)
    recipe = override(recipe, [*chosen.items(), *taken.items()])
    if start is not None:
        constants = start.fit(dataset, {}).preprocessing
    else:
        constants = measure(dataset.train, training, recipe.data.normalisation)
    about = (recipe.data.augment, recipe.batch_size, recipe.seed)
    batches = Batches(
        dataset.train, training, constants, *about, total=recipe.steps_on(len(training)), sampling=recipe.data.sampling
    )
    return dataset, batches
