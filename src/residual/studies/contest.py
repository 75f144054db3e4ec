"""What a comparison of searches is: the arms, the space, how much each may train. Written before its first training.

Every arm has the same number of trainings of the same number of steps. `comparison.json` in the comparison's folder
holds these facts, the same for every worker; who asks for others is refused with the differences.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from residual.environment import versions
from residual.errors import DataError, Fault, InUse, StorageError, UsageError, check, nearest
from residual.files import Damaged, Facts, read_regular, readable, replace_file, storage
from residual.locks import lock
from residual.training.compute import choose
from residual.training.places import lasting_weights
from residual.training.recipe import Override, Recipe, as_overrides, differences, override, to_recipe
from residual.training.recipes import DEFAULT as DIGITS
from residual.training.recipes import PHOTOS, network_is_given, recipe_of
from residual.training.start import prepare
from residual.tuning.address import check_name, folder_of
from residual.tuning.algorithms import ALGORITHMS
from residual.tuning.own import FREE, check_own
from residual.tuning.space import Space, asked_space
from residual.tuning.study import quick_changes, space_of

FACTS, FOUND, PAGE, LOCKS, IMAGES = "comparison.json", "found.json", "comparison.html", "workers", "images.json"
DEFAULT = "default"
ARMS = (DEFAULT, *ALGORITHMS)
USUAL = (DEFAULT, "random", "tpe", "ga-001", "ga")
KEPT = 0.5
"""Of every search the share of a generation that is not trained again."""
NUMBERS = {
    "population": (10, 4, 2),
    "generations": (5, 1, 0),
    "searches": (3, 2, 1),
    "fresh": (3, 2, 1),
    "proxy": (0, 0, 0),
}
"""How many: usually, for a first look without a recipe, at least."""
_LENGTH = ("epochs", "steps", "batch_size", "data.limit", "data.validation")
_RULED = ("evaluation.test", "evaluation.watch_test", "seed")
_EQUAL, _OURS = "the arms would not train the same number of steps", "the comparison sets it itself"
SELDOM = 1e6
"""Epochs between the evaluations of a training whose last step alone counts."""
FRESH = 500_000
"""The seeds from here on are those of fresh trainings: no search has them."""
STRETCHED = "in_proportion"
"""The fact that the long trainings of the proxy have their drops in proportion; older comparisons have it not."""


def search_seed(search: int) -> int:
    """The seed with which all arms train in one search: each has its own, so that its chance counts as well."""
    return 1000 * (search + 1)


def fresh_seed(search: int, number: int) -> int:
    """The seed of a fresh training of a search's winners, of all arms the same."""
    return FRESH + 1000 * search + number


@dataclass(frozen=True)
class Asked:
    """What the caller says about a comparison; None leaves it to what is stored, or to the default of a new one."""

    recipe: str | Recipe | None = None
    set: tuple[Override, ...] = ()
    arms: tuple[str, ...] | None = None
    space: str | None = None
    genes: tuple[str, ...] = ()
    population: int | None = None
    generations: int | None = None
    searches: int | None = None
    fresh: int | None = None
    proxy: int | None = None
    longer: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "set", tuple(as_overrides(self.set)))


@dataclass(frozen=True)
class Contest:
    """A comparison as it is stored."""

    name: str
    folder: Path
    facts: Facts

    @property
    def recipe(self) -> Recipe:
        return to_recipe(self.facts["recipe"], self.folder)

    @property
    def space(self) -> Space:
        return space_of(self.facts)

    @property
    def trainings(self) -> int:
        return trainings_of(self.facts)

    def base(self, judged: bool) -> list[Override]:
        """What a training changes of the recipe beside its genes and seed.

        Args:
            judged: it is one of those whose curves are drawn and whose test figures are read.
        """
        settings = self.recipe.evaluation
        # A plateau is looked for at evaluations, so there they belong to the training.
        often = judged or self.recipe.schedule.kind == "plateau" or "schedule.kind" in self.space.paths
        every = ("evaluation.every_epochs", settings.every_epochs if often else SELDOM)
        unwatched = [("evaluation.watch_test", False)] if settings.watch_test else []
        return [("evaluation.test", judged), *unwatched, every]

    def mind_images(self, checksums: Facts, where: object, remedy: str = "name the same data") -> None:
        """Note what images are compared, or see that these are the same.

        Raises:
            DataError: they are others.
        """
        path = self.folder / IMAGES
        if not path.exists():
            with _patiently(self.folder / LOCKS / "images.lock"):
                if not path.exists():
                    replace_file(path, readable({"checksums": checksums}))
        try:
            stored = json.loads(read_regular(path, 1 << 24))["checksums"]
        except (OSError, ValueError, Damaged, KeyError, TypeError):
            raise StorageError(f"{IMAGES} cannot be read", path, "restore it, or take it away") from None
        if stored != checksums:
            raise DataError("these are other images than the comparison began with", where, remedy)


def trainings_of(facts: Mapping[str, Any]) -> int:
    """The trainings of every arm in one search."""
    size = facts["population"]
    return int(size + facts["generations"] * (size - round(KEPT * size)))


def open_contest(name: str, asked: Asked, own: Iterable[Override] = ()) -> Contest:
    """Begin a comparison, or find it and see that what is asked suits it, and it a worker's own settings.

    Raises:
        UsageError: it cannot be compared, or the one there is another; every difference is named.
        StorageError: the disk refused, or something else stands in its place.
    """
    folder = folder_of(check_name(name))
    for other, what in (("run.json", "a run"), ("study.json", "a study")):
        if (folder / other).exists():
            raise UsageError(f"{what} stands where the comparison would be kept", folder, "choose another --study")
    stored = _stored(folder, name)
    wanted = _facts(name, asked, stored)
    check_own(own, to_recipe(wanted["recipe"], folder), space_of(wanted))
    if stored is None:
        with storage(folder):
            (folder / LOCKS).mkdir(parents=True, exist_ok=True)
        with _patiently(folder / LOCKS / "begin.lock"):
            stored = _stored(folder, name)
            if stored is None:  # else another worker was first
                wanted["precision"] = choose(to_recipe(wanted["recipe"], name).compute)[0].precision
                replace_file(folder / FACTS, readable(wanted))
                return Contest(name, folder, wanted)
    unlike = {
        path: pair
        for path, pair in differences(stored, wanted).items()
        if not path.startswith(("versions.", "precision", *(f"recipe.{free}" for free in FREE)))
    }
    if unlike:
        listed = "; ".join(f"{path}: {old!r} in the comparison, {new!r} asked" for path, (old, new) in unlike.items())
        raise UsageError(f"the comparison differs: {listed[:600]}", folder, "leave these out, or name another --study")
    return Contest(name, folder, stored)


@contextmanager
def _patiently(path: Path) -> Iterator[None]:
    """The lock, however long another holds it: it is held for a moment only."""
    for _ in range(600):
        held = lock(path, "the comparison")
        try:
            held.__enter__()
            break
        except InUse:
            time.sleep(0.1)
    else:
        raise StorageError("another process does not let go", path, "end it, then give the command again")
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def _stored(folder: Path, name: str) -> Facts | None:
    path = folder / FACTS
    if not path.exists():
        return None
    try:
        facts = json.loads(read_regular(path, 1 << 24))
    except (OSError, ValueError, Damaged):
        raise StorageError(f"{FACTS} cannot be read", path, "restore it, or take it away") from None
    if not isinstance(facts, dict) or facts.get("name") != name or facts.get("format") != 1:
        raise StorageError(f"{FACTS} is that of another comparison or release", path, "restore it, or take it away")
    return facts


def _facts(name: str, asked: Asked, stored: Facts | None) -> Facts:
    """The facts of a new comparison, or the stored ones with what is asked put in."""
    quick = stored is None and asked.recipe is None
    recipe = _recipe(asked, stored)
    if stored is None or asked.space is not None or asked.genes:
        before = {} if stored is None else stored["space"]["genes"]
        space = asked_space(recipe, asked.space, asked.genes, before)
    else:
        space = space_of(stored)
    arms = list(asked.arms or (stored["arms"] if stored else USUAL))
    numbers = {}
    for word, (usual, small, _) in NUMBERS.items():
        given = getattr(asked, word)
        numbers[word] = given if given is not None else stored[word] if stored else small if quick else usual
    longer = asked.longer if asked.longer is not None else stored["longer"] if stored else 3.0
    faults = _faults(asked, recipe, space, arms, numbers, longer)
    faults += _faults_of_new(recipe, space, numbers) if stored is None else []
    check("this comparison cannot start", faults, "residual study compare")
    return {
        "format": 1,
        "kind": "comparison",
        "name": name,
        "recipe": recipe.model_dump(mode="json"),
        "space": {"name": space.name, "genes": space.facts()},
        "arms": arms,
        **numbers,
        "longer": longer,
        **({STRETCHED: True} if stored is None or STRETCHED in stored else {}),
        "precision": stored["precision"] if stored else None,
        "versions": versions(),
    }


def _recipe(asked: Asked, stored: Facts | None) -> Recipe:
    if asked.recipe is None and stored is not None:
        before = to_recipe(stored["recipe"], "the comparison")
        return override(before, lasting_weights(asked.set, before.start.weights))
    begun = None if stored is None else to_recipe(stored["recipe"], "the comparison")
    changes = lasting_weights(asked.set, None if begun is None else begun.start.weights)
    usual = begun is not None and begun.name in (DIGITS, PHOTOS)  # as those of earlier releases began, weights or not
    found = recipe_of(asked.recipe, started=not usual and "start.weights" in dict(changes))
    recipe = override(found, [*(quick_changes(changes) if asked.recipe is None else []), *changes])
    if begun is None:  # what every training would meet is met before one is begun
        prepare(recipe, [path for path, _ in changes], network_is_given(recipe))
    return recipe


def _faults_of_new(recipe: Recipe, space: Space, numbers: dict[str, int]) -> list[Fault]:
    """What a comparison may not begin with; those of earlier releases that did go on."""
    faults = [
        Fault(path, "a gene", "it is no part of the training", "leave it out")
        for path in space.paths
        if path.startswith(("evaluation.", *FREE)) and path not in _RULED
    ]
    last = fresh_seed(numbers["searches"] - 1, numbers["fresh"] - 1)
    if FRESH <= recipe.seed <= last:
        what = f"fresh trainings have the seeds {FRESH} to {last}, which no other may see"
        faults.append(Fault("seed", recipe.seed, what, "choose a smaller one"))
    if search_seed(numbers["searches"] - 1) + trainings_of(numbers) > FRESH:
        faults.append(Fault("searches", numbers["searches"], f"their seeds would reach {FRESH}, those of fresh ones"))
    return faults


def _faults(
    asked: Asked, recipe: Recipe, space: Space, arms: list[str], numbers: dict[str, int], longer: float
) -> list[Fault]:
    faults = [
        Fault("--arms", arm, "no such arm", nearest(arm[:80], list(ARMS)))
        for arm in dict.fromkeys(arms)
        if arm not in ARMS
    ]
    faults += [
        Fault("--arms", arm, "given twice", "give it once") for arm in dict.fromkeys(arms) if arms.count(arm) > 1
    ]
    faults += [] if len(arms) > 1 else [Fault("--arms", ",".join(arms), "two or more are compared")]
    faults += [
        Fault(path, "a gene", _EQUAL if path in _LENGTH else _OURS, "leave it out")
        for path in space.paths
        if path in (*_LENGTH, *_RULED)
    ]
    faults += [
        Fault(path, value, _OURS if path in _RULED else "it is a gene as well", "leave it out")
        for path, value in asked.set
        if path in (*_RULED, *space.paths)
    ]
    faults += (
        [] if recipe.data.validation else [Fault("data.validation", 0, "fitness is read there", "hold images out")]
    )
    settings = recipe.evaluation
    faults += [] if not settings.patience else [Fault("evaluation.patience", settings.patience, _EQUAL, "set it to 0")]
    if settings.best != "none":
        faults.append(
            Fault("evaluation.best", settings.best, "figures here are those of the last step", "set it to none")
        )
    for word, (_, _, least) in NUMBERS.items():
        faults += [] if numbers[word] >= least else [Fault(word, numbers[word], f"must be {least} or more")]
    faults += [] if 1 < longer <= 1000 else [Fault("longer", longer, "must be above 1, and at most 1000")]
    return faults
