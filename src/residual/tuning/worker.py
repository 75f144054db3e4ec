"""A worker: fetch an individual, train it, write what came of it; where a generation is closed, open the next.

Life is told in two ways. On one machine by a lock file, which the system frees at the holder's death; elsewhere by
heartbeats, written by the clock of the database and only compared with each other: an individual whose heartbeat stays
the same for `grace` seconds of our own steady clock, in which the database could be read, has no worker any more. No
clock that jumps and no database that is away can kill a live one.
"""

from __future__ import annotations

import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from optuna.trial import TrialState

from residual.errors import Interrupted, InUse, ResidualError, StorageError, log
from residual.files import Facts, storage
from residual.locks import lock
from residual.training.progress import Listener
from residual.tuning.address import WORKERS
from residual.tuning.algorithms import Algorithm
from residual.tuning.genetic import Scored
from residual.tuning.heard import Heard
from residual.tuning.individual import Judge, Lost, Outcome, Plan, Watch, last_step, note_outcome, train_individual
from residual.tuning.ledger import Ledger
from residual.tuning.rows import Individual, Snapshot
from residual.tuning.sampler import propose
from residual.tuning.space import Genes

GRACE = 30.0
_LOOK = 5.0
"""Seconds that count, at most, between two looks at signs of life: two that follow each other are not further apart."""
_HELD = 2.0
"""Seconds before an individual is tried again whose run another process holds."""
MOST_DEATHS = 20
"""So many workers may die over one individual without a new checkpoint before it is held to be what kills them."""
Tell = Callable[[Facts], None]
Train = Callable[[Plan, int, Genes, Watch, Callable[[Facts], bool]], Outcome]


class Worker:
    """One process at work on a study until its last generation is closed."""

    def __init__(
        self,
        ledger: Ledger,
        plan: Plan,
        algorithm: Algorithm,
        facts: Facts,
        tell: Tell,
        listener: Listener,
        grace: float = GRACE,
        train: Train = train_individual,
        ends: float | None = None,
        own: Genes | None = None,
    ) -> None:
        self._ledger, self._plan, self._algorithm, self._facts = ledger, plan, algorithm, facts
        self._tell, self._listener, self._grace, self._train = tell, listener, grace, train
        self._ends, self._own = ends, own
        self._token = os.urandom(8).hex()
        self._owner = {"token": self._token, "host": platform.node(), "process": os.getpid()}
        self._seen: dict[int, tuple[str, float]] = {}
        self._looked = 0.0
        self._told = -1

    def run(self) -> Snapshot:
        """Work until the study is finished, or no training may be begun any more since `ends` of the clock is past.

        Raises:
            Interrupted: SIGINT, SIGTERM or SIGHUP; the individual at work waits for whoever goes on.
        """
        with self._alive(), Heard() as signals:
            pause = 0.1
            while True:
                snapshot = self._ledger.read(self._plan.space)
                self._tell_generation(snapshot)
                if snapshot.closed:
                    if len(snapshot.generations) > self._facts["generations"]:
                        return snapshot
                    self.open_next(snapshot)
                    continue
                if signals:
                    raise self._stopped(signals)
                if self._ends is not None and time.monotonic() >= self._ends:
                    return snapshot
                trial = self._ledger.claim(self._owner)
                if trial is not None:
                    pause = 0.1
                    individuals = self._ledger.read(self._plan.space).individuals
                    if not self._work(next(one for one in individuals if one.trial == trial)):
                        time.sleep(_HELD)
                elif not self._take_up(snapshot):
                    time.sleep(pause)
                    pause = min(2.0, 1.5 * pause)

    def open_next(self, snapshot: Snapshot) -> bool:
        """Breed the next generation from the closed ones; False where another worker was first."""
        individuals, number = snapshot.individuals, len(snapshot.generations)
        table = {one.number: one for one in individuals}
        population = snapshot.generations[-1].population if number else ()
        histories = [
            [(table[n].genes, table[n].fitness) for n in generation.children] for generation in snapshot.generations
        ]
        reports = self._ledger.reports()
        pruned = {
            (closed, place): max(reports[table[n].trial].items())
            for closed, generation in enumerate(snapshot.generations)
            for place, n in enumerate(generation.children)
            if table[n].state == TrialState.PRUNED and reports.get(table[n].trial)
        }
        brood = propose(
            self._algorithm,
            self._plan.space,
            self._facts["population"],
            (self._facts["seed"], self._facts["name"]),
            histories,
            [Scored(table[n].genes, table[n].fitness) for n in population],
            pruned,
            self._own,
        )
        return self._ledger.open_generation(number, brood, population, self._plan.space)

    # -- one individual ----------------------------------------------------------------------------------

    def _work(self, one: Individual) -> bool:
        """Train an individual; False where another process holds its run, and it waits again."""
        lost = threading.Event()
        self._tell(self._describe(one, "begun"))
        judge = None if self._facts["pruning"] == "none" else self._judge(one)
        watch = Watch(self._listener, lost.is_set, judge)
        finished = False
        try:
            if self._is_hopeless(one):
                reason = f"{MOST_DEATHS} workers died over it at step {one.deaths[-1]}: out of memory, perhaps"
                outcome = Outcome(TrialState.FAIL, None, {"reason": reason})
            else:
                with self._beating(one.trial, lost):
                    outcome = self._train(self._plan, one.number, one.genes, watch, self._ledger.same_data)
            if outcome.state != TrialState.COMPLETE:
                note_outcome(self._plan, one.number, one.genes, outcome)
            finished = True
        except Lost:
            log.warning("individual %d was given to another worker: this one had not been heard of", one.number)
            return True
        except InUse as error:  # by a worker given up too early, or the lock of a machine that is gone
            log.warning("individual %d waits, %s", one.number, error)
            return False
        finally:
            if not finished and not lost.is_set():
                # What stopped us matters more than this note, and a dead worker's individual is taken up anyway.
                with suppress(ResidualError):
                    self._ledger.release(one.trial, self._token)
        if self._ledger.finish(one.trial, self._token, outcome.state, outcome.fitness, outcome.facts):
            self._tell_end(one.number)
        return True

    def _judge(self, one: Individual) -> Judge:
        """Whether a training is to be ended, by the best that closed generations had reached by the same epoch.

        Not in the first third: a schedule that rises puts those of low rates before all others there.
        """
        closed = {
            other.trial
            for other in self._ledger.read(self._plan.space).individuals
            if other.generation < one.generation
        }
        before = [figures for trial, figures in self._ledger.reports().items() if trial in closed]
        own = [0.0]

        def judge(epoch: float, epochs: float, top1: float) -> bool:
            place = round(1000 * epoch)
            self._ledger.report(one.trial, place, top1)
            own.append(top1)
            reached = [[value for at, value in figures.items() if at <= place] for figures in before]
            others = [max(values) for values in reached if values]
            return 3 * epoch > epochs and len(others) >= 3 and max(own) < statistics.median(others)

        return judge

    def _is_hopeless(self, one: Individual) -> bool:
        last = one.deaths[-MOST_DEATHS:]
        return len(last) == MOST_DEATHS and len(set(last)) == 1

    # -- signs of life -----------------------------------------------------------------------------------

    @contextmanager
    def _alive(self) -> Iterator[None]:
        folder = self._plan.folder / WORKERS
        with storage(folder):
            folder.mkdir(parents=True, exist_ok=True)
        path = _lock_of(folder, self._token)
        try:
            with lock(path, "this worker"):
                yield
        finally:
            with suppress(OSError):
                path.unlink()

    @contextmanager
    def _beating(self, trial: int, lost: threading.Event) -> Iterator[None]:
        done = threading.Event()

        def beat() -> None:
            told = False
            while not done.wait(max(1.5, self._grace / 6)):
                try:
                    if not self._ledger.beat(trial, self._token):
                        lost.set()
                        return
                    told = False
                except ResidualError as error:
                    if not told:
                        log.warning("no sign of life could be given, the training goes on: %s", error)
                    told = True

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _take_up(self, snapshot: Snapshot) -> bool:
        """Let the individuals of dead workers wait again; whether there was one."""
        running = [one for one in snapshot.individuals if one.state == TrialState.RUNNING]
        stamps, taken = self._ledger.heartbeats(), False
        now = time.monotonic()
        # While the database was away nobody could give a sign: of the time between two looks little counts.
        passed, self._looked = min(now - self._looked, _LOOK), now
        for one in running:
            token = one.owner.get("token", "")
            alive = self._holds_lock(one.owner)
            if alive is None:
                sign = f"{token} {stamps.get(one.trial)}"
                before, still = self._seen.get(one.trial, ("", 0.0))
                still = still + passed if sign == before else 0.0
                self._seen[one.trial] = (sign, still)
                alive = sign != before or still < self._grace
            if not alive:
                step = last_step(self._plan, one.number)
                if self._ledger.release(one.trial, token, death_at=step):
                    taken = True
                    self._tell(self._describe(one, "taken up") | {"step": step})
        return taken

    def _holds_lock(self, owner: Facts) -> bool | None:
        """Whether the worker is alive; None where that cannot be seen from here."""
        path = _lock_of(self._plan.folder / WORKERS, str(owner.get("token")))
        if owner.get("host") != platform.node() or not path.exists():
            return None
        try:
            with lock(path, "a worker"):
                pass
        except InUse:
            return True
        except StorageError:  # the disk refuses, which says nothing of the worker
            return None
        with suppress(OSError):
            path.unlink()
        return False

    # -- words -------------------------------------------------------------------------------------------

    def _tell_generation(self, snapshot: Snapshot) -> None:
        number = len(snapshot.generations) - 1
        if number > self._told:
            self._told = number
            generation = snapshot.generations[number]
            self._tell(
                {
                    "kind": "generation",
                    "generation": number,
                    "generations": self._facts["generations"],
                    "survivors": list(generation.survivors),
                    "children": list(generation.children),
                }
            )

    def _describe(self, one: Individual, event: str) -> Facts:
        return {
            "kind": "individual",
            "event": event,
            "number": one.number,
            "generation": one.generation,
            "genes": dict(zip(self._plan.space.paths, one.genes, strict=True)),
        }

    def _tell_end(self, number: int) -> None:
        snapshot = self._ledger.read(self._plan.space)
        one = next(other for other in snapshot.individuals if other.number == number)
        best = snapshot.best
        self._tell(
            self._describe(one, one.state.name.lower())
            | {
                "fitness": one.fitness,
                "best": best.fitness if best else None,
                "best_number": best.number if best else None,
            }
            | {"reason": one.outcome.get("reason"), **self._progress(snapshot)}
        )

    def _progress(self, snapshot: Snapshot) -> Facts:
        """Individuals done and expected, and the seconds that are left at the pace so far."""
        size, last = self._facts["population"], self._facts["generations"]
        children = size - round(self._algorithm.keep * size)
        expected = len(snapshot.individuals) + (last + 1 - len(snapshot.generations)) * children
        done = [one for one in snapshot.individuals if one.closed]
        seconds = [
            one.outcome["seconds"] for one in done if one.state == TrialState.COMPLETE and "seconds" in one.outcome
        ]
        workers = max(1, sum(one.state == TrialState.RUNNING for one in snapshot.individuals) + 1)
        left = statistics.fmean(seconds) * (expected - len(done)) / min(workers, size) if seconds else None
        return {"done": len(done), "expected": expected, "seconds_left": left}

    def _stopped(self, signals: Heard) -> Interrupted:
        number = int(signals.number or 2)
        remedy = f"residual tune --study {self._facts['name']}"
        return Interrupted("stopped while others train, nothing is left half done", self._plan.folder, remedy, number)


def _lock_of(folder: Path, token: str) -> Path:
    letters = "".join(c for c in token if c.isalnum())[:32]
    return folder / f"{letters or 'nobody'}.lock"
