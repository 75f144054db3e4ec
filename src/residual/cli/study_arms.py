"""`residual study degradation|units|shortcuts|momentum|batchnorm|dropout|initialisation|seed001`."""

from __future__ import annotations

import shlex

from residual.cli.study_asked import USUAL, Training, numbers, say, wish
from residual.cli.text import Whole

RECIPE = "cifar10-paper"


def degradation(
    recipe: str = RECIPE,
    /,
    *,
    depths: str = "20,56",
    kinds: str = "plain,resnet",
    training: Training = USUAL,
) -> int:
    """Plain against residual networks by depth: training and test error by step, over seeds.

    Also deepens the shallowest plain network with identity layers, which leave its answers the same.
    Interrupt it as you like; the same command goes on, and trains nothing twice.

    Parameters
    ----------
    recipe
        A named recipe, a recipe.toml file, or a folder of photographs.
    depths
        Weighted layers: 6n + 2 for small images, 18 or 34 for photographs.
    kinds
        Among plain, resnet, preact.
    """
    from residual.studies.training_studies import degradation as study

    layers = numbers(depths, "--depths")
    command = f"residual study degradation {recipe} --depths {depths} --kinds {kinds}"
    return say(study(wish(recipe, training, command), layers, kinds.split(",")), training.json)


def units(
    recipe: str = RECIPE,
    /,
    *,
    depth: Whole = 56,
    arms: str | None = None,
    networks: str | None = None,
    training: Training = USUAL,
) -> int:
    """The five orders of a residual unit beside each other (He et al. 2016, table 2).

    Parameters
    ----------
    recipe
        A named recipe, or a recipe.toml file.
    depth
        Weighted layers, 6n + 2.
    arms
        Some of original, bn-after-addition, relu-before-addition, relu-only-pre-activation, full-pre-activation,
        with commas between them; without it, all.
    networks
        Named networks instead, such as resnet-110,preact-110.
    """
    from residual.studies.training_studies import units as study

    named = networks.split(",") if networks else []
    command = f"residual study units {recipe} " + (f"--networks {networks}" if named else f"--depth {depth}")
    return say(study(wish(recipe, training, command + _some(arms)), depth, named, _names(arms)), training.json)


def shortcuts(
    recipe: str = RECIPE, /, *, depth: Whole = 56, arms: str | None = None, training: Training = USUAL
) -> int:
    """Compare other shortcuts with the identity shortcut (He et al. 2016, table 1).

    Parameters
    ----------
    recipe
        A named recipe, or a recipe.toml file.
    depth
        Weighted layers, 6n + 2.
    arms
        Some of identity, half, half-branch-unscaled, exclusive-gate, shortcut-only-gate, convolution, dropout, none,
        with commas between them; without it, all.
    """
    from residual.studies.training_studies import shortcuts as study

    command = f"residual study shortcuts {recipe} --depth {depth}" + _some(arms)
    return say(study(wish(recipe, training, command), depth, _names(arms)), training.json)


def momentum(recipe: str = RECIPE, /, *, depth: Whole = 20, training: Training = USUAL) -> int:
    """Momenta of .8 to .99 at a rate of .02: error, and how rough the loss of the held-out images is.

    Parameters
    ----------
    recipe
        A named recipe, or a recipe.toml file.
    depth
        Weighted layers of the residual network, 6n + 2.
    """
    from residual.studies.training_studies import momentum as study

    command = f"residual study momentum {recipe} --depth {depth}"
    return say(study(wish(recipe, training, command), depth), training.json)


def batchnorm(recipe: str = RECIPE, /, *, depth: Whole = 20, training: Training = USUAL) -> int:
    """Plain networks with and without batch normalisation, from two initialisations, at a rate of .01.

    Parameters
    ----------
    recipe
        A named recipe, or a recipe.toml file.
    depth
        Weighted layers, 6n + 2.
    """
    from residual.studies.training_studies import batchnorm as study

    command = f"residual study batchnorm {recipe} --depth {depth}"
    return say(study(wish(recipe, training, command), depth), training.json)


def dropout(recipe: str = RECIPE, /, *, depth: Whole = 20, training: Training = USUAL) -> int:
    """A plain network with dropout before its classifier, and without.

    Parameters
    ----------
    recipe
        A named recipe, or a recipe.toml file.
    depth
        Weighted layers, 6n + 2.
    """
    from residual.studies.training_studies import dropout as study

    command = f"residual study dropout {recipe} --depth {depth}"
    return say(study(wish(recipe, training, command), depth), training.json)


def initialisation(recipe: str = RECIPE, /, *, training: Training = USUAL) -> int:
    """ReLU networks of 22 and 30 layers without normalisation, from He's weights and from half their variance.

    Also compares variances and gradients by depth at the start with the formula, for three initialisations.

    Parameters
    ----------
    recipe
        A named recipe, or a recipe.toml file.
    """
    from dataclasses import replace

    from residual.studies.training_studies import initialisation as study

    asked = training if training.steps is not None else replace(training, steps=500)
    command = f"residual study initialisation {recipe}"
    return say(study(wish(recipe, asked, command)), training.json)


def seed001(recipe: str = "seed001-onecycle", /, *, arms: str | None = None, training: Training = USUAL) -> int:
    """The network of seed 001 as described, and with another optimiser, length or stem: what its result is due to.

    Parameters
    ----------
    recipe
        A named recipe, or a recipe.toml file.
    arms
        Some of as-described, sgd, longer, small-stem, with commas between them; without it, all.
    """
    from residual.studies.training_studies import seed001 as study

    command = f"residual study seed001 {recipe}" + _some(arms)
    return say(study(wish(recipe, training, command), _names(arms)), training.json)


def _names(arms: str | None) -> list[str]:
    return arms.split(",") if arms else []


def _some(arms: str | None) -> str:
    return f" --arms {shlex.quote(arms)}" if arms else ""
