"""What a caller says a run to be, held against what its folder has; any difference is listed and refused.

A run that began from trained weights has their network in its recipe, and their place so that any folder will do. Who
names the same weights again, in a command or a recipe file, means that run, in whatever words.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from residual.device import alike
from residual.errors import UsageError, argument
from residual.files import Facts
from residual.models import NetworkSettings, NetworkSpec, resolve
from residual.models.catalogue import departures
from residual.ranks import Ranks
from residual.runs.folder import RunFolder, runs_root
from residual.training.places import lasting
from residual.training.recipe import Override, Recipe, differences, override
from residual.training.recipes import network_is_given, recipe_of
from residual.training.start import FREE

SAFE = ("compute.", "checkpoint.")
"""What may be changed on resume, with `override_safe`: the same figures up to rounding."""
MOVED = ("data.path", "data.threads", "data.workers", "source", "departures", "processes.timeout")
"""What may be changed freely: the data may have moved, and its checksums say whether it is the same; and words. So may
the device, from one of a kind to another (cuda:0, cuda:1)."""


@dataclass(frozen=True)
class Agreed:
    """The recipe to go on with, the settings in which it is not the run's, and the device named for one of its kind."""

    recipe: Recipe
    unlike: Mapping[str, tuple[Any, Any]]
    device: str | None = None

    def changes(self, group: str) -> bool:
        return any(path.startswith(group) for path in self.unlike)


def agree(
    folder: RunFolder,
    facts: Facts,
    stored: Recipe,
    recipe: Recipe | str | os.PathLike[str] | None,
    changes: list[Override],
    override_safe: bool,
    ranks: Ranks,
) -> Agreed:
    """The run as it is, with what may be changed as it is asked for.

    Args:
        recipe, changes: what the caller believes the run to be; the run's own recipe where none is named.

    Raises:
        UsageError: they are of another run; lists every difference.
    """
    asked = dict(changes)
    base = stored if recipe is None else recipe_of(recipe, started="start.weights" in asked)
    wanted = _as_begun(override(base, changes), stored, facts, asked, network_is_given(base))
    unlike = differences(stored.model_dump(mode="json"), wanted.model_dump(mode="json"))
    device = unlike.get("compute.device", (None, ""))[1] or None
    if device is not None and alike(facts["chosen"]["device"], device):
        del unlike["compute.device"]
    else:
        device = None
    if not unlike:
        return Agreed(stored, {}, device)
    listed = "; ".join(f"{path}: {old!r} in the run, {new!r} asked" for path, (old, new) in unlike.items())
    unsafe = [path for path in unlike if not path.startswith((*SAFE, *MOVED))]
    if unsafe:
        remedy = "leave these out, or start a new run"
        if {*unsafe} <= {"epochs", "steps"} and ranks.first(lambda: folder.result() is not None):
            length = f"{wanted.steps}steps" if wanted.steps else f"{wanted.epochs:g}"
            remedy = f"it is finished; longer: residual train --resume {argument(folder.path)} --extend-to {length}"
        raise UsageError(f"the run differs: {listed}", folder.path, remedy)
    if not override_safe and any(path.startswith(SAFE) for path in unlike):
        raise UsageError(f"the run differs: {listed}", folder.path, "leave these out, or add --override")
    return Agreed(wanted, unlike, device)


def _as_begun(wanted: Recipe, stored: Recipe, facts: Facts, asked: Collection[str], given: bool) -> Recipe:
    """What is wanted, with the weights and their network in the run's own words where the same are meant."""
    if stored.start.weights is None or wanted.start.weights is None:
        return wanted
    if wanted.start.weights == "last" or stored.start.weights in _meant(wanted):  # `last` is this very run by now
        start = wanted.start.model_copy(update={"weights": stored.start.weights})
        wanted = wanted.model_copy(update={"start": start})
    network = _network_as_begun(wanted.network, stored.network, facts, asked, given)
    return wanted.model_copy(update={"network": network})


def _meant(recipe: Recipe) -> set[str | None]:
    """The places a recipe may mean by its weights, which need not be there any more: the run has its own copy."""
    named = recipe.start.weights or ""
    if ":" in named:
        return {named, lasting(recipe).start.weights}
    here = os.path.expanduser(named)
    return {lasting(recipe).start.weights, os.path.abspath(here), os.path.abspath(runs_root() / here)}


def _network_as_begun(
    wanted: NetworkSettings, stored: NetworkSettings, facts: Facts, asked: Collection[str], given: bool
) -> NetworkSettings:
    """The run's own settings of its network, where all that was asked of it is so; as `start.prepare` has it."""
    spec = NetworkSpec.model_validate(facts["network"])
    parts = {path.removeprefix("network.") for path in asked if path.startswith("network.")}
    if given or "name" in parts:
        parts = {*NetworkSpec.model_fields}
        if wanted.stem in (None, "auto"):  # which followed the size of the images
            wanted = wanted.model_copy(update={"stem": spec.stem})
    sought = resolve(wanted, spec.classes, spec.channels)
    unlike = parts & {*departures(sought, spec)}
    return wanted if any(part not in FREE or getattr(wanted, part) is not None for part in unlike) else stored
