"""Studies of real trainings: begun, interrupted, gone on with, joined, refused where they differ."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from residual.analysis.tuning_figures import draw_study, history
from residual.errors import EnvironmentFault, Interrupted, NonFiniteError, StorageError, UsageError
from residual.runs.folder import RunFolder
from residual.training import launching
from residual.training.train import train
from residual.tuning.study import Study, Wish, begin_facts, free_name, join, open_study, tune, unlike
from residual.tuning.summary import summarise
from tests.tuning.analytic import begin, evaluate, story, worker

TINY = (
    ("network.widths", [4, 8, 16]),
    ("network.name", "resnet-8"),
    ("data.limit", 100),
    ("batch_size", 30),
    ("steps", 4),
)
OFTEN = (("checkpoint.every_steps", 1), ("compute.threads", 1))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))


def tiny(**more: Any) -> Wish:
    return Wish("digits", TINY, **{"sampler": "ga-001", "population": 3, "generations": 1, **more})


def sessions(study: Study, event: str) -> list[int]:
    folders = sorted(study.folder.glob("trial-*"))
    return [sum(entry["event"] == event for entry in RunFolder(folder).sessions()) for folder in folders]


def test_a_study_is_interrupted_in_a_training_and_ends_as_if_it_had_not_been(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tune("whole", tiny(), own=OFTEN)
    expected = story(whole.read())
    monkeypatch.setenv("RESIDUAL_RUNS", os.environ["RESIDUAL_RUNS"] + "-again")
    steps = 0

    class Stop(Exception):
        pass

    class Third:
        def stepped(self, step: int, images: int) -> None:
            nonlocal steps
            steps += 1
            if steps == 7:  # the third step of the second individual
                raise Stop

        def began(self, plan: Any) -> None: ...

        def recorded(self, record: Any) -> None: ...

        def saved(self, step: int) -> None: ...

        def ended(self) -> None: ...

    with pytest.raises(Stop):
        tune("whole", tiny(), own=OFTEN, listener=Third())
    half = open_study("whole")
    assert [one.state for one in half.read().individuals] == [TrialState.COMPLETE] + [TrialState.WAITING] * 2
    again = tune("whole", own=OFTEN)
    assert story(again.read()) == expected
    assert sessions(again, "finished") == [1] * 4, "none was trained twice to the end"
    assert sessions(again, "began") == [1, 2, 1, 1], "the second went on from its checkpoint"
    assert RunFolder(again.folder / "trial-0001").facts()["recipe"]["schedule"]["peak"] == expected[0][1][2][0]
    for tail in ("", "-wal", "-shm"):
        (again.folder / f"study.sqlite3{tail}").unlink(missing_ok=True)
    anew = tune("whole")
    assert story(anew.read()) == expected
    assert sessions(anew, "began") == [1, 2, 1, 1], "made anew from finished runs, nothing trained again"
    summary = summarise(anew)
    fitness = [one[4] for one in expected[0]]
    assert summary["status"] == "finished"
    assert summary["best_so_far"] == [max(fitness[: n + 1]) for n in range(4)]
    found = history(json.loads(json.dumps(summary)))
    assert found.winner == fitness.index(max(fitness))
    assert found.genes["schedule.peak"] == tuple(one[2][0] for one in expected[0])
    draw_study(found, anew.folder / "study.svg", "whole")
    assert (anew.folder / "study.svg").read_bytes().startswith(b"<?xml")


def test_what_cannot_be_trained_fails_with_its_reason_and_the_study_goes_on() -> None:
    wish = tiny(
        genes=("schedule.momentum_low=linear:0.9:1.5", "schedule.peak=log:900:1000"), generations=0, population=4
    )
    study = tune("doomed", wish)
    reasons = [one.outcome.get("reason", "") for one in study.read().individuals]
    assert all(one.state == TrialState.FAIL for one in study.read().individuals if one.genes[0] >= 1)  # type: ignore[operator]
    assert any("schedule.momentum_low is 1." in reason and "less than 1" in reason for reason in reasons)


def test_a_batch_above_the_number_of_images_fails_that_individual() -> None:
    settings = tuple(one for one in TINY if one[0] != "batch_size")
    wish = Wish("digits", settings, "ga-001", genes=("batch_size=choice:64,100000",), generations=0, population=6)
    study = tune("large", wish)
    found = study.read().individuals
    large = [one for one in found if one.genes == (100_000,)]
    assert 0 < len(large) < len(found)
    assert all(one.state == TrialState.FAIL for one in large)
    assert all("fewer than one batch of 100000" in one.outcome["reason"] for one in large)
    assert all(one.state == TrialState.COMPLETE for one in found if one not in large)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NonFiniteError("the loss became infinite", "step 3", "lower the rate"), "infinite"),
        (MemoryError("cannot allocate memory"), "out of memory at batch size 64"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory"),
    ],
)
def test_a_divergence_and_a_lack_of_memory_are_the_individuals_own(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(launching, "train", fail)
    study = tune("failing", Wish(population=2, generations=0))
    assert [one.state for one in study.read().individuals] == [TrialState.FAIL] * 2
    assert all(words in one.outcome["reason"] for one in study.read().individuals)
    assert summarise(study)["best"] is None


@pytest.mark.parametrize(
    "error",
    [StorageError("full"), EnvironmentFault("no GPU"), Interrupted("stopped", "x", "y", 15), RuntimeError("bug")],
)
def test_what_is_wrong_with_the_machine_is_no_failure(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(launching, "train", fail)
    with pytest.raises(type(error)):
        tune("stopped", Wish(population=2, generations=0))
    assert [one.state for one in open_study("stopped").read().individuals] == [TrialState.WAITING] * 2


def test_network_parts_shapes_and_augmentation_are_genes_too_and_seeds_are_averaged() -> None:
    genes = ("network.shortcut=choice:A,B", "schedule.shape=choice:cosine,linear", "data.augment.shift=int:0:4")
    study = tune("parts", tiny(genes=genes, seeds=2, sampler="ga", generations=0, population=2))
    for one in study.read().individuals:
        runs = [RunFolder(study.folder / name) for name in one.outcome["runs"]]
        recipes = [run.facts()["recipe"] for run in runs]
        assert [recipe["seed"] for recipe in recipes] == [0, 1]
        for recipe in recipes:
            found = (recipe["network"]["shortcut"], recipe["schedule"]["shape"], recipe["data"]["augment"]["shift"])
            assert found == one.genes
        top1 = [(run.result() or {})["final"]["validation"]["top1"] for run in runs]
        assert one.fitness == pytest.approx(sum(top1) / 2)


def test_a_run_that_is_not_the_individuals_is_never_counted_for_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "taken"
    train("digits", set=[*TINY], out=folder / "trial-0000")
    with pytest.raises(StorageError, match="not that of the individual") as caught:
        tune("taken", tiny())
    assert "schedule.peak 0.2, not" in str(caught.value)


def test_a_study_with_other_settings_is_refused_with_the_differences() -> None:
    begin("mine", "ga-001", population=4)
    others = {
        "epochs: 24.0 in the study, 3 asked": Wish("digits", (("epochs", 3),)),
        "gene schedule.peak: 'log:0.01:3' in the study, 'linear:1e-06:0.01' asked": Wish(space="seed001"),
        "sampler threshold: 0.5 in the study, 0.4 asked": Wish(rules={"threshold": 0.4}),
        "sampler name: 'ga-001' in the study, 'tpe' asked": Wish(sampler="tpe"),
        "population: 4 in the study, 5 asked": Wish(population=5),
        "generations: 3 in the study, 2 asked": Wish(generations=2),
        "seed: 0 in the study, 7 asked": Wish(seed=7),
    }
    for words, wish in others.items():
        with pytest.raises(UsageError) as caught:
            join("mine", wish)
        found = str(caught.value)
        assert words.replace(", 3 asked", ", 3") in found.replace(", 3.0 asked", ", 3"), found
    same = join(
        "mine", Wish("digits", (("compute.threads", 1), ("data.path", None)), sampler="ga-001", space="default")
    )
    assert same.facts["population"] == 4
    more = join("mine", Wish(generations=5))
    assert more.facts["generations"] == join("mine", Wish()).facts["generations"] == 5


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(population=1), "population is 1"),
        (Wish(set=(("data.validation", 0.0),)), "fitness is read there"),
        (Wish(set=(("schedule.peak", 0.1),)), "it is a gene as well"),
        (Wish(seeds=2, pruning="median"), "single trainings"),
        (Wish(recipe="digit"), "did you mean digits"),
        (Wish(set=(("epoch", 3),)), "did you mean epochs"),
        (Wish(seeds=2, genes=("seed=int:0:9",)), "trained with several already"),
        (Wish(sampler="ga-001", rules={"cut": 7}), "cut is 7: 3 genes are not cut there"),
        (Wish(sampler="ga", rules={"keep": 0.9}, population=4), "keep is 0.9: nothing of 4 would be trained"),
        (Wish(sampler="tpe", rules={"keep": 0.9}, population=4), "keep is 0.9: nothing of 4 would be trained"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_written(wish: Wish, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        join("never", wish)
    assert not (tmp_path / "runs").exists()


def test_pruning_compares_with_closed_generations_alone() -> None:
    study = begin("pruned", pruning="median", population=4, generations=1)
    one = worker(study)
    assert one.open_next(study.read())
    first = study.read().individuals
    for place, individual_ in enumerate(first):
        assert not one._judge(individual_)(1.0, 1.2, 0.2 * place), "the first generation has none before it"
    owner: Any = {"token": "00000000000000aa", "host": "x", "process": 1}
    for _ in first:
        trial = study.ledger.claim(owner)
        assert trial is not None
        study.ledger.finish(trial, owner["token"], TrialState.COMPLETE, 0.5, {})
    assert one.open_next(study.read())
    judge = one._judge(study.read().individuals[-1])
    assert judge(1.0, 1.2, 0.29), "behind the median of 0, .2, .4, .6"
    assert not judge(1.0, 1.2, 0.31)
    assert not judge(2.0, 2.4, 0.0), "what it had reached before counts"
    judge = one._judge(study.read().individuals[-1])
    assert not judge(0.5, 1.2, 0.0), "no one before it was seen so early"
    assert judge(1.9, 2.4, 0.29), "the others were last seen at epoch 1"
    judge = one._judge(study.read().individuals[-1])
    assert not judge(2.0, 6.0, 0.29), "in the first third none is ended"
    assert judge(2.1, 6.0, 0.29)


def test_a_study_that_reads_the_test_images_is_gone_on_with_and_one_may_ask_for_it() -> None:
    facts = begin_facts("x", tiny())
    assert facts["recipe"]["evaluation"]["test"] is False
    assert unlike(facts, tiny()) == {}
    before = {**facts, "recipe": {**facts["recipe"], "evaluation": {**facts["recipe"]["evaluation"], "test": True}}}
    assert unlike(before, tiny()) == {}, "of an earlier release"
    asking = Wish("digits", (*TINY, ("evaluation.test", True)), sampler="ga-001", population=3, generations=1)
    assert begin_facts("x", asking)["recipe"]["evaluation"]["test"] is True
    assert unlike(facts, asking) == {"evaluation.test": (False, True)}


def test_names_are_numbered_and_a_first_study_is_small() -> None:
    assert free_name() == "tune-1"
    begin("tune-1")
    assert free_name() == "tune-2"
    with pytest.raises(UsageError, match="is empty"):
        tune("")
    facts = begin_facts("quick", Wish())
    assert (facts["recipe"]["network"]["name"], facts["population"], facts["generations"]) == ("resnet-8", 6, 3)
    assert begin_facts("full", Wish("digits"))["population"] == 10


def test_an_unknown_study_cannot_be_shown() -> None:
    with pytest.raises(UsageError, match="no study is named"):
        open_study("nothing")


def test_evaluations_are_told_apart_from_failures() -> None:
    study = begin("told", generations=1)
    events: list[Any] = []
    worker(study, evaluate, tell=events.append).run()
    ends = [event for event in events if event["kind"] == "individual" and event["event"] != "begun"]
    assert {event["event"] for event in ends} == {"complete", "fail"}
    assert [event["done"] for event in ends] == list(range(1, len(ends) + 1))
    assert ends[-1]["expected"] == len(ends)
    assert [event["generation"] for event in events if event["kind"] == "generation"] == [0, 1]


def test_a_name_that_a_database_of_several_has_is_not_free(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.sqlite3'}"
    assert free_name(storage=storage) == "tune-1", "where nothing is yet"
    for name in ("tune-1", "compare-1-ga-0"):
        study = begin(name, storage=storage)
        study.close()
        (study.folder / "study.json").unlink()
        study.folder.rmdir()  # it was begun on another machine
    assert [free_name(), free_name(storage=storage)] == ["tune-1", "tune-2"]
    assert free_name("compare", storage) == "compare-2"


def test_the_folder_of_a_comparison_is_no_place_for_a_study(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "worth"
    folder.mkdir(parents=True)
    (folder / "comparison.json").write_text("{}")
    with pytest.raises(UsageError, match="a comparison of searches stands"):
        join("worth", tiny())
    assert [path.name for path in folder.iterdir()] == ["comparison.json"]


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (("compute.thread", 1), "did you mean threads"),
        (("optimiser.momentum", 0.5), "the same for all workers"),
        (("compute.compile", "auto"), "a gene as well"),
    ],
)
def test_a_worker_with_settings_of_its_own_that_cannot_be_ends_before_it_begins(
    own: Any, words: str, tmp_path: Path
) -> None:
    wish = tiny(genes=("compute.compile=choice:none,auto",))
    with pytest.raises(UsageError, match=words):
        tune("mine", wish, own=[own])
    assert not (tmp_path / "runs").exists()
    study = join("mine", wish)
    with pytest.raises(UsageError, match=words):
        tune("mine", own=[own])
    assert study.read().individuals == (), "nor is anything claimed of a study that is there"


def test_only_what_the_genes_cause_is_the_individuals_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Three:
        def __init__(self, *_: Any) -> None: ...

        def __call__(self, *_: Any) -> RunFolder:
            what = "a batch of 64 cannot be shared equally by 3 processes"
            raise UsageError(what, "batch_size", "choose a multiple of 3")

    wish = tiny(genes=("schedule.first=choice:0,3",), population=4, generations=0, sampler="random")
    with monkeypatch.context() as patch:
        patch.setattr("residual.tuning.study.Launched", Three)
        with pytest.raises(UsageError, match="by 3 processes"):
            tune("shared", wish, own=OFTEN, launch=("torchrun", "--nproc-per-node", "3"))
    before = [(one.state, one.genes) for one in open_study("shared").read().individuals]
    assert {genes for _, genes in before} == {(0,), (3,)}, "both are met below"
    assert (TrialState.WAITING, (0,)) in before
    study = tune("shared", own=OFTEN)
    for one in study.read().individuals:
        assert one.state == (TrialState.FAIL if one.genes == (3,) else TrialState.COMPLETE)
        assert one.genes == (0,) or "where another run has ended" in one.outcome["reason"]


def lose(study: Study) -> None:
    study.close()
    for tail in ("", "-wal", "-shm"):
        (study.folder / f"study.sqlite3{tail}").unlink(missing_ok=True)


def test_a_lost_database_has_again_what_was_pruned_and_what_pruning_was_judged_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("residual.tuning.worker.statistics.median", lambda others: 1.0)  # ten images tell few apart
    wish = Wish("digits", (*TINY[:-1], ("steps", 7)), sampler="random", population=4, generations=1, pruning="median")
    study = tune("pruning", wish, own=OFTEN)
    expected, reports = story(study.read()), study.ledger.reports()
    pruned = [one.number for one in study.read().individuals if one.state == TrialState.PRUNED]
    assert pruned == [4, 5], "whatever is judged, once three have been there"
    before = sessions(study, "began")
    lose(study)
    anew = tune("pruning", own=OFTEN)
    assert story(anew.read()) == expected
    assert anew.ledger.reports() == reports
    assert sessions(anew, "began") == before, "nothing is trained twice"


def test_a_lost_database_has_again_what_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise NonFiniteError("the loss became infinite", "step 3", "lower the rate")

    with monkeypatch.context() as patch:
        patch.setattr(launching, "train", fail)
        study = tune("failed", tiny(generations=0))
    expected = [(one.state, one.outcome["reason"]) for one in study.read().individuals]
    lose(study)
    found = tune("failed").read().individuals
    assert [(one.state, one.outcome["reason"]) for one in found] == expected
    note = study.folder / "outcomes" / "0001.json"
    facts = json.loads(note.read_bytes())
    facts["settings"]["schedule.peak"] = 9.0
    note.write_text(json.dumps(facts))
    lose(study)
    with pytest.raises(StorageError, match=r"not that of this training: schedule\.peak 9\.0, not"):
        tune("failed")
