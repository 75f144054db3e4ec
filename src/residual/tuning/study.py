"""A study: what is searched, how and for how long, written before its first individual and the same for every worker.

A worker that names settings of its own is refused where they differ from the study's; one that names none takes what is
stored. `study.json` in the study's folder holds the same facts, so that a study whose database is lost can be made anew
from its finished runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import optuna

from residual.environment import check_versions, versions
from residual.errors import (
    Fault,
    Interrupted,
    ModelError,
    ResidualError,
    StorageError,
    UsageError,
    argument,
    check,
    log,
)
from residual.files import Damaged, Facts, read_regular, readable, replace_file
from residual.runs.folder import runs_root
from residual.training.launching import Launched, train_here
from residual.training.places import lasting_weights
from residual.training.progress import Listener, sound
from residual.training.recipe import Override, Recipe, as_overrides, differences, override, to_recipe
from residual.training.recipes import DEFAULT, PHOTOS, network_is_given, recipe_of
from residual.training.start import prepare
from residual.tuning.address import FACTS, WORKERS, Address, after_command, check_name, folder_of, key_of, parse_address
from residual.tuning.algorithms import EARLIER, Algorithm, make_algorithm, misfit
from residual.tuning.database import WAIT, Database, NoStudies
from residual.tuning.individual import Plan
from residual.tuning.ledger import Ledger, names_in
from residual.tuning.own import FREE, check_own
from residual.tuning.rows import Snapshot
from residual.tuning.space import Genes, Space, asked_space, make_space, parse_gene
from residual.tuning.worker import GRACE, Tell, Worker

Pruning = Literal["none", "median"]
FITNESS = "top-1 on the validation images at the last step, mean over the seeds"
QUICK: tuple[Override, ...] = (("network.name", "resnet-8"), ("epochs", 4), ("evaluation.every_epochs", 1))
"""Without a recipe: the embedded digits, small enough that a first study takes minutes."""


@dataclass(frozen=True)
class Wish:
    """What the caller says about a study; None leaves it to what is stored, or to the default of a new one."""

    recipe: str | Recipe | None = None
    set: tuple[Override, ...] = ()
    sampler: str | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    space: str | None = None
    genes: tuple[str, ...] = ()
    population: int | None = None
    generations: int | None = None
    seed: int | None = None
    seeds: int | None = None
    pruning: Pruning | None = None
    prolonged: bool = False
    """A study that was given more generations meanwhile is taken as well."""
    drawn: bool = False
    """All of generation 0 is drawn, where the recipe's own values would be the first of it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "set", tuple(as_overrides(self.set)))

    @property
    def quick(self) -> bool:
        return self.recipe is None


def begin_facts(name: str, wish: Wish) -> Facts:
    """The facts of a new study.

    Raises:
        UsageError: with what cannot be searched, and why.
    """
    asked = lasting_weights(wish.set)
    base = recipe_of(wish.recipe, started="start.weights" in dict(asked))
    recipe = override(base, [*(quick_changes(asked) if wish.quick else []), *_unread(base, wish), *asked])
    # What every individual would meet is met before one is begun.
    prepare(recipe, [path for path, _ in asked], network_is_given(recipe))
    space = make_space(recipe, wish.space, wish.genes)
    fixed = [
        Fault(path, value, "it is a gene as well", "leave one of the two out")
        for path, value in wish.set
        if path in space.paths
    ]
    small = {"population": wish.population or (6 if wish.quick else 10), "seeds": wish.seeds or 1}
    rules = (
        []
        if recipe.data.validation
        else [Fault("data.validation", 0, "fitness is read there", "set it, as --set data.validation=0.1")]
    )
    rules += [Fault("population", small["population"], "must be 2 or more")] if small["population"] < 2 else []
    if small["seeds"] > 1 and "seed" in space.paths:
        rules.append(Fault("seed", "a gene", "each individual is trained with several already", "leave out --seeds"))
    algorithm = make_algorithm(wish.sampler or "ga", dict(wish.rules))
    rules += misfit(algorithm, space)
    if (wish.generations is None or wish.generations) and round(algorithm.keep * small["population"]) >= small[
        "population"
    ]:
        what = f"nothing of {small['population']} would be trained after the first generation"
        rules.append(Fault("keep", algorithm.keep, what, "lower it"))
    # The seed's algorithm draws all of its first generation; others begin from what they shall better.
    drawn = wish.drawn or algorithm.name == "ga-001"
    own = None if drawn else space.of(recipe)
    if not drawn and own is None:
        log.info("no individual has the recipe's own values: not in the space: %s", ", ".join(space.lacks(recipe)))
    pruning = wish.pruning or "none"
    if pruning not in get_args(Pruning):
        rules.append(Fault("prune", pruning, "no such rule", "choose among none and median"))
    if pruning != "none" and small["seeds"] > 1:
        rules.append(Fault("prune", pruning, "it judges single trainings", "leave out --seeds or --prune"))
    check("this study cannot start", [*fixed, *rules], "residual tune")
    return {
        "format": 1,
        "name": name,
        "fitness": FITNESS,
        "recipe": recipe.model_dump(mode="json"),
        "space": {"name": space.name, "genes": space.facts()},
        "own": None if own is None else list(own),
        "algorithm": algorithm.model_dump(mode="json"),
        "population": small["population"],
        "generations": (3 if wish.quick else 5) if wish.generations is None else wish.generations,
        "seed": wish.seed or 0,
        "seeds": small["seeds"],
        "pruning": pruning,
        "versions": {**versions(), "optuna": optuna.__version__},
    }


def quick_changes(asked: Iterable[Override]) -> list[Override]:
    """What makes a search one of minutes, but for what is asked; trained weights have a network of their own."""
    given = {path for path, _ in asked}
    given |= {"epochs"} if "steps" in given else set()
    given |= {"network.name"} if "start.weights" in given else set()
    return [(path, value) for path, value in QUICK if path not in given]


def _unread(base: Recipe, wish: Wish) -> list[Override]:
    """The test images are not read by a search, whose fitness needs none, unless that is asked for."""
    asked = any(path in ("evaluation.test", "evaluation.watch_test") for path, _ in wish.set)
    return [] if asked or base.evaluation.watch_test else [("evaluation.test", False)]


def unlike(facts: Facts, wish: Wish) -> dict[str, tuple[Any, Any]]:
    """Where a wish differs from a study: path to (the study's value, the wished one)."""
    found: dict[str, tuple[Any, Any]] = {}
    stored = to_recipe(facts["recipe"], "the study")
    base = asked = stored
    if wish.recipe is not None:
        begun = stored.name not in (DEFAULT, PHOTOS)  # as studies of earlier releases began, weights or not
        base = recipe_of(wish.recipe, started=begun and "start.weights" in dict(wish.set))
    if wish.recipe is not None or wish.set:
        asked = override(base, lasting_weights(wish.set, stored.start.weights))
        paths = differences(stored.model_dump(mode="json"), asked.model_dump(mode="json"))
        if _unread(base, wish):
            paths.pop("evaluation.test", None)  # studies of earlier releases read the test images
        found |= {path: pair for path, pair in paths.items() if not path.startswith(FREE)}
    if wish.genes or wish.space is not None:
        space = asked_space(asked, wish.space, wish.genes, facts["space"]["genes"])
        found |= differences(facts["space"]["genes"], space.facts(), "gene ")
    if wish.sampler is not None or wish.rules:
        own = _rules(facts)
        name = wish.sampler or own["name"]
        before = {k: v for k, v in own.items() if k != "name"} if name == own["name"] else {}
        found |= differences(own, make_algorithm(name, {**before, **wish.rules}).model_dump(mode="json"), "sampler ")
    for name in ("population", "generations", "seed", "seeds", "pruning"):
        value = getattr(wish, name)
        more = name == "generations" and value is not None and (value > facts[name] or wish.prolonged)
        if value is not None and value != facts[name] and not more:
            found[name] = (facts[name], value)
    return found


def space_of(facts: Facts) -> Space:
    genes = tuple(parse_gene(f"{path}={ranged}") for path, ranged in facts["space"]["genes"].items())
    return Space(facts["space"]["name"], genes)


def own_of(facts: Facts) -> Genes | None:
    """The recipe's own values, where generation 0 begins with them; studies of earlier releases do not."""
    return None if facts.get("own") is None else tuple(facts["own"])


def algorithm_of(facts: Facts) -> Algorithm:
    own = _rules(facts)
    return make_algorithm(own.pop("name"), own)


def _rules(facts: Facts) -> Facts:
    """The algorithm of a study with all its rules, those that came after it included."""
    return {**EARLIER.get(facts["algorithm"]["name"], {}), **facts["algorithm"]}


@dataclass
class Study:
    """An open study."""

    name: str
    folder: Path
    address: Address
    facts: Facts
    ledger: Ledger
    database: Database

    @property
    def space(self) -> Space:
        return space_of(self.facts)

    def read(self) -> Snapshot:
        return self.ledger.read(self.space)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()


def open_study(name: str, storage: str | None = None, wait: float = WAIT) -> Study:
    """A study as it is, for reading.

    Raises:
        UsageError: there is none of this name.  StorageError: its database cannot be read.
    """
    folder = folder_of(check_name(name))
    address = parse_address(storage, folder)
    if address.file is not None and not address.file.exists():
        raise UsageError(f"no study is named {name[:80]!r}", address.shown, "`residual tune --study NAME` begins one")
    database = Database(address, wait=wait, read_only=True)
    ledger = Ledger(database, key_of(name))
    try:
        facts = ledger.facts()
        if facts is None:
            raise UsageError(
                f"no study is named {name[:80]!r}", address.shown, "`residual tune --study NAME` begins one"
            )
        return Study(name, folder, address, _known(facts, address), ledger, database)
    except ResidualError:
        database.close()
        raise


def join(name: str, wish: Wish, storage: str | None = None, wait: float = WAIT, own: Iterable[Override] = ()) -> Study:
    """Begin a study, or find it and see that the wish suits it, and the study a worker's own settings.

    Raises:
        UsageError: the study is another one; every difference is named.
        StorageError: its database refuses.
    """
    check_versions()
    folder = folder_of(check_name(name))
    address = parse_address(storage, folder)
    for other, what in (("run.json", "a run"), ("comparison.json", "a comparison of searches")):
        if (folder / other).exists():
            raise UsageError(f"{what} stands where the study would be kept", folder, "choose another --study")
    left, mine = _left(folder, name), tuple(own)
    new = None
    if left is not None:
        _refuse_unlike(left, wish, folder)
    elif address.file is not None and not address.file.exists():
        new = begin_facts(name, wish)  # what cannot be done is refused before anything is written
        _check_own(new, mine)
    database = Database(address, wait=wait)
    try:
        study = _join(Ledger(database, key_of(name)), database, left, name, wish, new)
        _check_own(study.facts, mine)
        return study
    except BaseException:
        database.close()
        raise


def _check_own(facts: Facts, own: Sequence[Override]) -> tuple[Override, ...]:
    return check_own(own, to_recipe(facts["recipe"], "the study"), space_of(facts))


def _join(ledger: Ledger, database: Database, left: Facts | None, name: str, wish: Wish, new: Facts | None) -> Study:
    address, folder = database.address, folder_of(name)
    facts = ledger.facts()
    if facts is None:
        if left is not None:
            log.warning("the study is not in its database (%s); it is made anew from its finished runs", address.shown)
        facts = ledger.begin(left or new or begin_facts(name, wish))
    facts = _known(facts, address)
    _refuse_unlike(facts, wish, address.shown)
    if wish.generations is not None and wish.generations > facts["generations"]:
        facts = ledger.prolong(wish.generations)
    if left != facts:
        replace_file(folder / FACTS, readable(facts))
    return Study(name, folder, address, facts, ledger, database)


def _refuse_unlike(facts: Facts, wish: Wish, where: object) -> None:
    found = unlike(facts, wish)
    if found:
        listed = "; ".join(f"{path}: {old!r} in the study, {new!r} asked" for path, (old, new) in found.items())
        raise UsageError(f"the study differs: {listed[:600]}", where, "leave these out, or name another --study")


def _known(facts: Facts, address: Address) -> Facts:
    if facts.get("format") != 1:
        raise ModelError("the study is of a newer format", address.shown, "install a newer release of residual")
    return facts


def _left(folder: Path, name: str) -> Facts | None:
    """What `study.json` says, if it is there."""
    path = folder / FACTS
    if not path.exists():
        return None
    try:
        facts = json.loads(read_regular(path, 1 << 24))
    except (OSError, ValueError, Damaged):
        raise StorageError("study.json cannot be read", path, "restore it, or take it away") from None
    if not isinstance(facts, dict) or facts.get("name") != name:
        raise StorageError("study.json is that of another study", path, "restore it, or take it away")
    return facts


def free_name(stem: str = "tune", storage: str | None = None) -> str:
    """A name that no study has, neither here nor in the database: `tune-1`, `tune-2` ..."""
    taken, number = _names(storage), 1
    while True:
        name = f"{stem}-{number}"
        if not folder_of(name).exists() and not any(f"{one}-".startswith(f"{name}-") for one in taken):
            return name
        number += 1


def _names(storage: str | None) -> set[str]:
    """The names of the studies in a database that several share."""
    if not storage:
        return set()
    address = parse_address(storage, runs_root())
    if address.file is not None and not address.file.exists():
        return set()
    try:
        with closing(Database(address, read_only=True)) as database:
            return names_in(database)
    except NoStudies:
        return set()


def tune(
    name: str | None = None,
    wish: Wish | None = None,
    *,
    storage: str | None = None,
    own: Iterable[Override] = (),
    tell: Tell | None = None,
    listener: Listener | None = None,
    grace: float = GRACE,
    wait: float = WAIT,
    launch: Sequence[str] = (),
    budget: float | None = None,
) -> Study:
    """Work on a study until it is finished, together with whoever else does.

    Args:
        own: settings of this worker alone: `compute.*`, `checkpoint.*`, `data.path`.
        grace: seconds without a sign of life after which a worker on another machine is held to be dead.
        launch: the words of a launcher, as `parse_launcher` gives them; each training is then a job of its processes.
        budget: seconds after which this worker begins no further training; the same name goes on later.

    Raises:
        Interrupted: nothing is lost; the same name goes on.
    """
    ends, told = None if budget is None else time.monotonic() + budget, sound(listener)
    chosen, given = free_name(storage=storage) if name is None else name, tuple(own)
    study = join(chosen, wish or Wish(), storage, wait, given)
    recipe, mine = to_recipe(study.facts["recipe"], study.address.shown), _check_own(study.facts, given)
    trainer = Launched(launch, study.folder / WORKERS) if launch else train_here
    plan = Plan(chosen, recipe, study.space, study.folder, study.facts["seeds"], mine, trainer)
    (tell or _nobody)({"kind": "study", **study.facts, "folder": str(study.folder), "storage": study.address.shown})
    heard = tell or _nobody, told
    worker = Worker(
        study.ledger, plan, algorithm_of(study.facts), study.facts, *heard, grace, ends=ends, own=own_of(study.facts)
    )
    try:
        worker.run()
    except Interrupted as error:
        remedy = f"residual tune --study {argument(chosen)}{after_command(storage)}"
        raise Interrupted(error.what, error.where, remedy, error.exit_code - 128) from None
    return study


def _nobody(facts: Facts) -> None: ...
