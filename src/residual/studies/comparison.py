"""Searches compared with each other and with going without, at an equal number of trainings of equal length.

The default recipe is repeated with other seeds; every search has several search seeds. Of each arm's best by validation
fresh seeds are trained, and of these alone the test images are read, once. Before that, if asked, some random settings
are trained for long as well (Spearman), to see whether the short training ranks them as the long one does.

The work is cut into units: a search, or one training. A worker holds the lock of the unit it works on, so any number of
workers may join at any time, and what a dead one left is gone on with. Where every unit is held, a worker helps with a
search, whose individuals several may train.
"""

from __future__ import annotations

import functools
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from residual.chance import stream
from residual.data.datasets import open_dataset
from residual.errors import Interrupted, InUse, NonFiniteError, OutOfMemory, StorageError, UsageError, argument
from residual.files import Facts, storage
from residual.locks import lock
from residual.runs.folder import RunFolder
from residual.studies.contest import (
    DEFAULT,
    LOCKS,
    STRETCHED,
    Asked,
    Contest,
    fresh_seed,
    open_contest,
    search_seed,
)
from residual.training.launching import Launched, Order, train_here
from residual.training.progress import Listener, Silent
from residual.training.recipe import Override, override
from residual.training.schedules import Steps, in_proportion
from residual.training.signals import Signals
from residual.tuning.address import after_command
from residual.tuning.heard import Heard
from residual.tuning.own import assert_own, begun, check_own, note_failure, read_failure, reason_of, settings_of
from residual.tuning.rows import Individual, Snapshot
from residual.tuning.space import Genes
from residual.tuning.study import Wish, open_study, tune
from residual.tuning.summary import summarise

Tell = Callable[[str, Facts], None]
"""Told the name of a unit and what happened in it."""
WHOSE = "this unit of the comparison"


@dataclass(frozen=True)
class Trained:
    """What came of one training: its run, or the reason why there is none."""

    run: RunFolder | None
    reason: str | None = None

    def final(self, split: str) -> Facts | None:
        """Loss, top-1, top-3 and top-5 of a split at the last step; None where the training failed."""
        result = None if self.run is None else self.run.result()
        return None if result is None else result["final"].get(split)


class Unit(NamedTuple):
    """A piece of work; `several` workers may share it."""

    name: str
    work: Callable[[], None]
    several: bool


@dataclass
class Labour:
    """One worker on a comparison, and what of its own it trains with."""

    contest: Contest
    own: tuple[Override, ...] = ()
    storage: str | None = None
    tell: Tell = lambda unit, event: None
    listener: Listener = field(default_factory=Silent)
    launch: Sequence[str] = ()
    _closed: dict[str, Facts] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)  # trainings that were found to be what they should be
    _looked: bool = False

    # -- single trainings --------------------------------------------------------------------------------

    def proxy_genes(self, number: int) -> Genes:
        return self.contest.space.draw(stream(0, "tuning", "proxy", number))

    def proxy_changes(self, number: int, long: bool) -> list[Override]:
        changes = [*self.contest.base(False), *self.contest.space.overrides(self.proxy_genes(number))]
        return changes + (self._stretched(changes) if long else [])

    def _stretched(self, changes: list[Override]) -> list[Override]:
        """What makes a training longer: its length, and what its schedule has at given steps in proportion to it."""
        recipe, longer = self.contest.recipe, self.contest.facts["longer"]
        name, length = ("epochs", recipe.epochs) if recipe.steps is None else ("steps", recipe.steps)
        more = float(length or 1) * longer
        found: list[Override] = [(name, more if name == "epochs" else round(more))]
        if not self.contest.facts.get(STRETCHED):
            return found
        try:
            schedule = override(recipe, changes).schedule
        except UsageError:
            return found  # these genes cannot be trained with, which the short training has found, too
        if isinstance(schedule, Steps):
            long = in_proportion(schedule, 1_000_000, round(1_000_000 * longer))  # the ratio alone counts
            if isinstance(long, Steps) and long != schedule:
                found.append(("schedule.drops", list(long.drops)))
        return found

    def repeat_changes(self, search: int, number: int) -> list[Override]:
        return [*self.contest.base(False), ("seed", search_seed(search) + number)]

    def fresh_changes(self, search: int, number: int, genes: Facts) -> list[Override]:
        return [*self.contest.base(True), *genes.items(), ("seed", fresh_seed(search, number))]

    def _own(self) -> list[Override]:
        """A worker's own settings, with the precision of the comparison: else each training would measure it."""
        given = any(path == "compute.precision" for path, _ in self.own)
        return [*self.own] if given else [("compute.precision", self.contest.facts["precision"]), *self.own]

    def _path(self, name: str) -> Path:
        return self.contest.folder / name

    def trained(self, name: str, changes: list[Override]) -> Trained | None:
        """What came of a training with these changes; None where it is not finished.

        Raises:
            StorageError: what stands there is another training.  DataError: it read other images.
        """
        run = RunFolder(self._path(name))
        if (run.path / "run.json").is_file() and run.result() is not None:
            if name not in self._known:
                assert_own(run, override(self.contest.recipe, changes), WHOSE)
                self.contest.mind_images(run.facts()["data"]["checksums"], run.path, "take it away")
                self._known.add(name)
            return Trained(run)
        note = self._path(f"{name}.failed.json")
        found = read_failure(note, settings_of(self.contest.recipe, changes)) if note.is_file() else None
        return None if found is None else Trained(None, found["reason"])

    def _train(self, name: str, changes: list[Override]) -> None:
        if self.trained(name, changes) is not None:
            return  # another worker was quicker
        recipe, path = self.contest.recipe, self._path(name)
        self.tell(name, {"kind": "training", "event": "begun"})
        trainer = Launched(self.launch, self._path(LOCKS)) if self.launch else train_here
        command = f"residual study compare --study {shlex.quote(self.contest.name)}"
        order = Order(recipe, changes, self._own(), path, command)
        try:
            begun(path, override(recipe, changes), WHOSE)
            run = trainer(order, self.listener, lambda: None)
        except (UsageError, NonFiniteError, OutOfMemory, MemoryError, RuntimeError) as error:
            reason = reason_of(error, order)
            if reason is None:
                raise
            note_failure(self._path(f"{name}.failed.json"), {"reason": reason}, settings_of(recipe, changes))
            self.tell(name, {"kind": "training", "event": "failed", "reason": reason})
            return
        self.trained(name, changes)  # sees that it read the images of the others
        final = (run.result() or {})["final"]
        figure = final.get("test") or final["validation"]
        self.tell(name, {"kind": "training", "event": "complete", "top1": figure["top1"], "test": "test" in final})

    def _look(self, signals: Signals) -> None:
        """Before the first work: the images of this worker are those of the comparison, so nothing is spoilt.

        A launcher may train where they lie elsewhere; there it shows after a training.
        """
        if not self._looked and not self.launch:
            settings = override(self.contest.recipe, self.own).data
            dataset = open_dataset(settings, signals.heed)
            self.contest.mind_images(dataset.checksums, dataset.origin)
        self._looked = True

    # -- searches ----------------------------------------------------------------------------------------

    def study(self, arm: str, search: int) -> str:
        """The name of a search's study."""
        return f"{self.contest.name}-{arm}-{search}"

    def wish(self, arm: str, search: int) -> Wish:
        facts = self.contest.facts
        genes = tuple(gene.text() for gene in self.contest.space.genes)
        size = {"population": facts["population"], "generations": facts["generations"], "seed": search}
        base = [*self.contest.base(False), ("seed", search_seed(search))]
        return Wish(
            override(self.contest.recipe, base), (), sampler=arm, genes=genes, prolonged=True, drawn=True, **size
        )

    def _search(self, arm: str, search: int) -> None:
        name, own = self.study(arm, search), self._own()
        tell = functools.partial(self.tell, name)
        more: Any = {"own": own, "tell": tell, "listener": self.listener, "launch": self.launch}
        tune(name, self.wish(arm, search), storage=self.storage, **more).close()

    def searched(self, arm: str, search: int) -> Facts | None:
        """A finished search in plain values: its summary and the best of its allowed trainings; None before its end.

        Its end is that of its allowed trainings: one that was given more generations by hand is finished all the same.
        """
        name = self.study(arm, search)
        if name not in self._closed:
            try:
                study = open_study(name, self.storage)
            except (UsageError, StorageError):
                return None  # not begun, or just being begun; what is damaged is told by who works on it
            try:
                snapshot = study.read()  # first: what is closed in it is closed in what is read after it
                found, images = summarise(study), study.ledger.images()
            finally:
                study.close()
            allowed = snapshot.individuals[: self.contest.trainings]
            if len(allowed) < self.contest.trainings or not all(one.closed for one in allowed):
                return None
            if images is not None:  # else all of its trainings failed before they began
                self.contest.mind_images(images, study.folder, "take the folder away")
            best = winner(snapshot, self.contest.trainings)
            genes = None if best is None else dict(zip(self.contest.space.paths, best.genes, strict=True))
            self._closed[name] = found | {"winner": None if best is None else best.number, "winner_genes": genes}
        return self._closed[name]

    def best(self, arm: str, search: int) -> Facts | None:
        """The settings that an arm arrives at in one search: none for the default, None where all of it failed."""
        if arm == DEFAULT:
            return {}
        found = self.searched(arm, search)
        genes = None if found is None else found["winner_genes"]
        return None if genes is None else dict(genes)

    # -- the units ---------------------------------------------------------------------------------------

    def units(self) -> Iterator[Unit]:
        """What is not done and can be begun, in the order in which it is best begun."""
        facts = self.contest.facts
        for number in range(facts["proxy"]):
            for tail in ("short", "long"):
                yield from self._single(f"proxy-{number}-{tail}", self.proxy_changes(number, tail == "long"))
        for search in range(facts["searches"]):
            for arm in facts["arms"]:
                if arm == DEFAULT:
                    for n in range(self.contest.trainings):
                        yield from self._single(f"{DEFAULT}-{search}-{n}", self.repeat_changes(search, n))
                elif self.searched(arm, search) is None:
                    yield Unit(self.study(arm, search), functools.partial(self._search, arm, search), True)
        for search in range(facts["searches"]):
            for arm in facts["arms"]:
                genes = self.best(arm, search)
                for n in range(facts["fresh"] if genes is not None else 0):
                    yield from self._single(f"winner-{arm}-{search}-{n}", self.fresh_changes(search, n, genes or {}))

    def _single(self, name: str, changes: list[Override]) -> Iterator[Unit]:
        if self.trained(name, changes) is None:
            yield Unit(name, functools.partial(self._train, name, changes), False)

    def run(self) -> None:
        """Work until nothing is left.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP; what is at work is saved, and the same command goes on.
        """
        locks = self._path(LOCKS)
        with storage(locks):
            locks.mkdir(parents=True, exist_ok=True)
        with Heard() as signals:
            pause = 0.1
            while True:
                busy: list[Unit] = []
                for unit in self.units():
                    if signals:
                        raise self.stopped(int(signals.number or 2))
                    self._look(signals)
                    if self._do(unit, locks):
                        break
                    busy.append(unit)
                else:
                    if not busy:
                        return
                    shared = next((unit for unit in busy if unit.several), None)
                    if shared is not None:
                        shared.work()  # as one more of its workers
                        continue
                    time.sleep(pause)
                    pause = min(2.0, 1.5 * pause)
                    continue
                pause = 0.1

    def _do(self, unit: Unit, locks: Path) -> bool:
        """Work on a unit to its end; False where another worker holds it."""
        with ExitStack() as stack:
            try:
                stack.enter_context(lock(locks / f"{unit.name[-80:]}.lock", "this unit"))
            except InUse:
                return False
            unit.work()
        return True

    def stopped(self, number: int) -> Interrupted:
        remedy = f"residual study compare --study {argument(self.contest.name)}{after_command(self.storage)}"
        return Interrupted("stopped, nothing is left half done", self.contest.folder, remedy, number)


def winner(snapshot: Snapshot, trainings: int) -> Individual | None:
    """The best of the first so many individuals: no arm profits from a longer search."""
    first = [one for one in snapshot.individuals[:trainings] if one.fitness is not None]
    return max(first, key=lambda one: (one.fitness or 0.0, -one.number), default=None)


def compare(
    name: str,
    asked: Asked | None = None,
    *,
    storage: str | None = None,
    own: Iterable[Override] = (),
    tell: Tell | None = None,
    listener: Listener | None = None,
    launch: Sequence[str] = (),
) -> Labour:
    """Work on a comparison until it is finished, together with whoever else does; its findings are in `findings`.

    Args:
        storage: where the searches keep their ledgers, as for `tune`; without it each in a file of its own.
        own: settings of this worker alone: `compute.*`, `checkpoint.*`, `data.path`.
        launch: the words of a launcher, as for `tune`.

    Raises:
        UsageError: it cannot be compared, or differs from the one there.
        Interrupted: nothing is lost; the same name goes on.
    """
    given = tuple(own)
    contest = open_contest(name, asked or Asked(), given)
    mine = check_own(given, contest.recipe, contest.space)
    labour = Labour(contest, mine, storage, tell or (lambda unit, event: None), listener or Silent(), launch)
    try:
        labour.run()
    except Interrupted as error:
        raise labour.stopped(error.exit_code - 128) from None
    return labour
