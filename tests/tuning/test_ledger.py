"""The ledger: each generation once, each individual to one worker, nothing lost, whoever dies and whoever was first."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from residual.errors import InUse, ResidualError, StorageError
from residual.tuning.individual import Outcome
from residual.tuning.ledger import Ledger
from residual.tuning.study import Study, Wish, join
from residual.tuning.summary import summarise
from tests.conftest import ROOT, subprocess_environment
from tests.tuning.analytic import begin, evaluate, story, worker

pytestmark = pytest.mark.usefixtures("warm")

ME: Any = {"token": "00000000000000aa", "host": "elsewhere", "process": 1}
SHE: Any = {"token": "00000000000000bb", "host": "elsewhere", "process": 2}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))


def opened(name: str = "one", **wish: Any) -> Study:
    study = begin(name, **wish)
    assert worker(study).open_next(study.read())
    return study


def process(name: str, storage: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.tuning.analytic", name, "ga", "0", storage, "wait"]
    environment = subprocess_environment({"OMP_NUM_THREADS": "1"})
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_generation_is_opened_once_whoever_asks() -> None:
    study = begin("crowd")
    workers = [worker(begin("crowd")) for _ in range(6)]
    empty = study.read()
    with ThreadPoolExecutor(6) as pool:
        first = list(pool.map(lambda one: one.open_next(empty), workers))
    assert sum(first) == 1
    snapshot = study.read()
    assert [one.number for one in snapshot.individuals] == list(range(8))
    assert snapshot.generations[0].children == tuple(range(8))


def test_an_individual_is_claimed_by_one_worker() -> None:
    study = opened()
    ledgers = [begin("one").ledger for _ in range(4)]
    owners = [{"token": f"{n:016x}", "host": "x", "process": n} for n in range(4)]
    taken: list[int | None] = []
    barrier = threading.Barrier(4)

    def claim(n: int) -> None:
        barrier.wait()
        for _ in range(3):
            trial = ledgers[n].claim(owners[n])
            taken.append(trial)
            if trial is not None:
                assert ledgers[n].finish(trial, str(owners[n]["token"]), TrialState.COMPLETE, 0.5, {})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(claim, range(4)))
    given = [trial for trial in taken if trial is not None]
    assert len(given) == len(set(given)) == 8
    assert study.read().closed


def test_only_the_owner_finishes_releases_and_beats() -> None:
    ledger = opened().ledger
    trial = ledger.claim(ME)
    assert trial is not None
    assert ledger.claim(ME) == trial, "asked again because the answer got lost"
    assert ledger.beat(trial, ME["token"])
    assert not ledger.beat(trial, SHE["token"])
    assert not ledger.release(trial, SHE["token"])
    assert not ledger.finish(trial, SHE["token"], TrialState.COMPLETE, 0.9, {})
    assert ledger.finish(trial, ME["token"], TrialState.COMPLETE, 0.4, {})
    assert ledger.finish(trial, ME["token"], TrialState.COMPLETE, 0.4, {}), "told again because the answer got lost"
    assert not ledger.release(trial, ME["token"])


def test_a_failure_keeps_its_reason_and_survives_nothing() -> None:
    study = begin("failing")
    worker(study).run()
    snapshot = study.read()
    failed = [one for one in snapshot.individuals if one.state == TrialState.FAIL]
    assert failed
    assert {one.outcome["reason"] for one in failed} == {"the sixth of six"}
    assert not {one.number for one in failed} & {n for g in snapshot.generations for n in g.survivors}


def test_what_is_stored_can_be_read_by_optuna() -> None:
    study = opened("plots")
    worker(study).run()
    file = study.address.file
    loaded = optuna.load_study(study_name="plots", storage=f"sqlite:///{file}")
    best = study.read().best
    assert best is not None
    assert loaded.best_value == best.fitness
    assert tuple(loaded.best_params.values()) == best.genes
    assert optuna.importance.get_param_importances(loaded, evaluator=optuna.importance.PedAnovaImportanceEvaluator())


@pytest.mark.parametrize("sampler", ["ga-001", "tpe"])
def test_the_same_search_with_one_worker_four_processes_and_a_second_time(sampler: str) -> None:
    alone = begin("alone", sampler, population=6)
    worker(alone).run()
    renamed = {**alone.facts, "name": "alone"}
    again = begin("again", sampler, population=6)
    again.facts = {**again.facts, "name": renamed["name"]}  # chance follows from the name
    worker(again).run()
    assert story(again.read()) == story(alone.read())


@pytest.mark.slow
def test_fresh_processes_make_the_same_populations_alone_and_four_at_once() -> None:
    alone = begin("crew")
    worker(alone).run()
    expected = story(alone.read())
    assert alone.address.file is not None
    elsewhere = {n: f"sqlite:///{alone.folder.parent / f'crew-{n}.sqlite3'}" for n in range(2)}
    workers = [process("crew", elsewhere[n]) for n in (1, 0, 0, 0, 0)]
    for one in workers:
        assert one.stdout is not None
        assert one.stdout.readline() == "here\n"
    for one in workers:  # a worker that starts first must not find the whole study for itself
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate(timeout=120)[1] for one in workers]
    assert [one.returncode for one in workers] == [0] * 5, "\n".join(said)
    assert "locked" not in "".join(said)
    found = [begin("crew", storage=address).read() for address in elsewhere.values()]
    assert [story(snapshot) for snapshot in found] == [expected] * 2
    owners = [len({one.owner["token"] for one in snapshot.individuals}) for snapshot in found]
    assert owners[1:] == [1]
    assert owners[0] > 1, "more than one of the four had a share"


def test_the_individual_of_a_dead_worker_is_taken_up_at_once_on_the_same_machine() -> None:
    study = opened("orphan")
    dead = subprocess.run([sys.executable, "-c", "print()"], check=True)
    assert dead.returncode == 0
    living = worker(study)
    folder = study.folder / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    owner = {**living._owner, "token": "00000000000000cc", "process": 1}
    trial = study.ledger.claim(owner)
    (folder / f"{owner['token']}.lock").touch()  # nobody holds it
    events: list[Any] = []
    worker(study, tell=events.append, grace=3600).run()
    taken = [event for event in events if event.get("event") == "taken up"]
    assert [event["number"] for event in taken] == [0]
    one = study.read().individuals[0]
    assert (one.trial, one.state, one.deaths) == (trial, TrialState.COMPLETE, (0,))


def test_a_worker_elsewhere_is_dead_only_after_a_time_without_any_sign() -> None:
    study = opened("far")
    trial = study.ledger.claim(ME)
    assert trial is not None
    waiting = worker(study, grace=0.3)
    assert not waiting._take_up(study.read()), "the first look proves nothing, whatever any clock says"
    assert not waiting._take_up(study.read())
    assert study.read().individuals[0].state == TrialState.RUNNING
    threading.Event().wait(0.35)
    assert waiting._take_up(study.read())
    assert study.read().individuals[0].state == TrialState.WAITING
    assert not study.ledger.beat(trial, ME["token"]), "and when it wakes up, it is told"


def test_time_in_which_the_database_was_away_kills_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened("outage")
    assert study.ledger.claim(ME) is not None
    waiting = worker(study, grace=0.3)
    monkeypatch.setattr("residual.tuning.worker._LOOK", 0.05)
    assert not waiting._take_up(study.read())
    threading.Event().wait(0.5)  # no look succeeds, and no sign can be given
    assert not waiting._take_up(study.read())
    looks = 0
    while not waiting._take_up(study.read()):
        threading.Event().wait(0.06)
        looks += 1
        assert looks < 100
    assert looks >= 4, "and who gives no sign after it is dead all the same"


def test_an_individual_over_which_worker_after_worker_dies_fails_with_that_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("residual.tuning.worker.MOST_DEATHS", 3)
    study = opened("deadly", generations=0)
    for _ in range(3):
        trial = study.ledger.claim(ME)
        assert trial is not None
        study.ledger.release(trial, ME["token"], death_at=40)
    worker(study).run()
    one = study.read().individuals[0]
    assert one.state == TrialState.FAIL
    assert "3 workers died over it at step 40" in one.outcome["reason"]


def test_whatever_stops_a_worker_leaves_its_individual_waiting() -> None:
    study = begin("stopped")

    def stop(error: BaseException) -> Callable[..., Outcome]:
        def train(*_: Any) -> Outcome:
            raise error

        return train

    for error in (StorageError("the disk is full"), KeyboardInterrupt(), RuntimeError("a fault of the program")):
        with pytest.raises(type(error)):
            worker(study, train=stop(error)).run()
        assert all(one.state == TrialState.WAITING for one in study.read().individuals)
    assert worker(study).run().closed


def test_an_individual_whose_run_is_held_waits_and_its_worker_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("residual.tuning.worker._HELD", 0.01)
    study = begin("held")
    held: list[int] = []

    def train(plan: Any, number: int, *rest: Any) -> Outcome:
        if len(held) < 2:
            held.append(number)
            raise InUse("the run trial-0000 is in use by another process", "process 1 on elsewhere", "wait for it")
        return evaluate(plan, number, *rest)

    assert worker(study, train=train).run().closed
    assert held == [0, 0]
    assert study.read().individuals[0].state == TrialState.COMPLETE


def test_a_database_that_vanishes_is_named_and_a_new_one_has_the_same_search() -> None:
    study = begin("lost")
    worker(study).run()
    expected = story(study.read())
    file = study.address.file
    assert file is not None
    for tail in ("", "-wal", "-shm"):
        file.with_name(file.name + tail).unlink(missing_ok=True)
    with pytest.raises(ResidualError, match="taken away"):
        study.read()
    anew = begin("lost")
    worker(anew, evaluate).run()
    assert story(anew.read()) == expected


def test_a_trial_that_another_program_put_into_the_study_is_left_to_it() -> None:
    study = opened("foreign", generations=1)
    loaded = optuna.load_study(study_name="foreign", storage=f"sqlite:///{study.address.file}")
    for _ in range(2):
        loaded.enqueue_trial({"schedule.peak": 0.1})
    found = worker(study).run()
    assert [len(generation.children) for generation in found.generations] == [8, 4]
    assert [one.number for one in found.individuals] == [*range(8), *range(10, 14)], "numbers leave theirs out"
    assert found.closed
    assert [trial.state for trial in loaded.get_trials(deepcopy=False)][8:10] == [TrialState.WAITING] * 2
    assert summarise(study)["populations"][1]["members"] == list(found.generations[1].population)


def test_a_disk_that_refuses_says_nothing_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    study = opened("refusing")
    living = worker(study)
    folder = study.folder / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{ME['token']}.lock").touch()

    def refuse(*_: Any) -> None:
        raise StorageError("cannot write: No space left on device")

    monkeypatch.setattr("residual.tuning.worker.lock", refuse)
    assert living._holds_lock({**living._owner, "token": ME["token"]}) is None


def test_of_two_who_prolong_a_study_the_larger_number_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    study = begin("longer", generations=3)
    assert join("longer", Wish(generations=6)).facts["generations"] == 6
    read = Ledger.facts
    (study.folder / "study.json").unlink()

    def late(self: Ledger) -> Any:
        return read(self) and study.facts  # as they were before the other prolonged it

    monkeypatch.setattr(Ledger, "facts", late)
    assert join("longer", Wish(generations=4)).facts["generations"] == 6
