"""A run in one row; a damaged run is named and hides no other."""

import json

import pytest

from residual.errors import ModelError
from residual.files import Appender
from residual.runs.folder import RunFolder, list_runs
from residual.runs.records import evaluation_record, train_record
from residual.runs.summary import compare, names_of, spelt, summarise

SCORES = {"loss": 0.5, "top1": 0.8, "top3": 0.9, "top5": 1.0}


def facts(seed=3, rate=0.1, **recipe):
    return {
        "recipe": {"name": "digits", "seed": seed, "optimiser": {"rate": rate, "momentum": 0.9}, **recipe},
        "chosen": {"steps": 100, "device": "cpu"},
        "network": {"name": "resnet-20", "shortcut": "A"},
        "data": {"name": "digits"},
        "versions": {"torch": "2.13"},
        "created": "2026-01-01T00:00:00Z",
    }


@pytest.fixture
def make(tmp_path):
    def make(name, **changes):
        return RunFolder.create(tmp_path / name, facts(**changes), "", {})

    return make


def record(run, *records):
    book = Appender(run.records_path)
    for line in records:
        book.append(line)
    book.close()


def test_a_run_that_has_just_begun(make):
    assert summarise(make("a")) == {
        "run": "a",
        "recipe": "digits",
        "network": "resnet-20 A",
        "data": "digits",
        "seed": 3,
        "step": 0,
        "steps": 100,
        "status": "not finished",
        "seconds": None,
        "created": "2026-01-01T00:00:00Z",
        "validation_top1": None,
        "test_top1": None,
    }


def test_a_run_that_is_held_is_in_training(make):
    run = make("a")
    with run.hold():
        assert summarise(run)["status"] == "training"
    assert summarise(run)["status"] == "not finished"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"name": "folder", "origin": "/home/me/cats and dogs"}, "cats and dogs"),
        ({"name": "folder", "origin": "/home/me/birds.tar.gz/"}, "birds.tar.gz"),
        ({"name": "folder", "origin": "C:\\photos\\birds"}, "birds"),
        ({"name": "folder", "origin": "/"}, "folder"),
        ({"name": "folder"}, "folder"),
        ({"name": "cifar-10", "origin": "/data/c10"}, "cifar-10"),
    ],
    ids=str,
)
def test_folders_of_photographs_can_be_told_apart(tmp_path, data, shown):
    run = RunFolder.create(tmp_path / "a", facts() | {"data": data}, "", {})
    assert summarise(run)["data"] == shown


def test_a_run_under_way_shows_its_last_step_and_figure(make):
    run = make("a")
    record(
        run,
        evaluation_record("validation", 10, 1.0, 9, SCORES, False, {}),
        evaluation_record("validation", 20, 2.0, 9, SCORES | {"top1": 0.9}, False, {}),
        train_record(25, 2.5, 9, SCORES, 0.1, 0.9, {}),
    )
    row = summarise(run)
    assert (row["step"], row["validation_top1"], row["test_top1"]) == (25, 0.9, None)
    run.save_checkpoint(30, {}, {"step": 30}, 2)
    assert summarise(run)["step"] == 30


def test_a_run_cut_between_its_last_lines_and_its_result_shows_both_figures(make):
    run = make("a", evaluation={"watch_test": False})
    record(
        run,
        evaluation_record("validation", 100, 9.0, 9, SCORES | {"top1": 0.7}, True, {}),
        evaluation_record("test", 100, 9.0, 9, SCORES, True, {}),
    )
    row = summarise(run)
    assert (row["status"], row["validation_top1"], row["test_top1"]) == ("not finished", 0.7, 0.8)


def test_settings_of_the_recipe_come_along_when_asked_for(make):
    row = summarise(make("a"), ["optimiser.rate", "optimiser.nothing"])
    assert row["optimiser.rate"] == 0.1
    assert "optimiser.nothing" not in row


def test_a_finished_run(make):
    run = make("a")
    record(run, evaluation_record("test", 100, 9.0, 9, SCORES, True, {}))
    run.save_result({"seconds": 12.5})
    row = summarise(run)
    assert (row["status"], row["step"], row["seconds"], row["test_top1"]) == ("finished", 100, 12.5, 0.8)


BEGUN = {"format": 1, **facts()}


def spoil(name, text):
    def change(path):
        (path / name).write_bytes(text)

    return change


def folder_of_records(path):
    (path / "records.jsonl").mkdir()


DAMAGE = {
    "no JSON": (spoil("run.json", b"{"), "run.json is damaged"),
    "newer": (spoil("run.json", b'{"format":99}'), "newer than this program"),
    "another program's": (spoil("run.json", b'{"format":1}'), "recipe"),
    "a word for a table": (spoil("run.json", json.dumps({"format": 1, "recipe": "x"}).encode()), "not as written"),
    "records": (spoil("records.jsonl", b"nonsense\n"), "line 1 is not a JSON object"),
    "a record without a kind": (spoil("records.jsonl", b'{"step":1}\n'), "kind"),
    "a record of words": (spoil("records.jsonl", b'{"step":"x","kind":"train"}\n'), None),
    "a folder for records": (folder_of_records, "not a regular file"),
    "a length of words": (spoil("run.json", json.dumps({**BEGUN, "chosen": {"steps": "x"}}).encode()), "steps is 'x'"),
    "a number for a name": (spoil("run.json", json.dumps({**BEGUN, "data": {"name": 5}}).encode()), "data is 5"),
    "result": (spoil("result.json", b"[]"), "result.json is damaged"),
    "empty result": (spoil("result.json", b"{}"), "seconds"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_run_is_named_and_hides_no_other(make, tmp_path, damage, reason):
    make("a")
    damage(make("b").path)
    make("c")
    rows = [summarise(run) for run in list_runs(tmp_path)]
    assert sorted(row["run"] for row in rows) == ["a", "b", "c"]
    by_name = {row["run"]: row for row in rows}
    assert "damaged" not in by_name["a"] | by_name["c"]
    if reason is not None:
        assert reason in by_name["b"]["damaged"]
        assert len(by_name["b"]["damaged"]) < 200


def test_comparing_shows_only_what_is_not_the_same(make):
    runs = [make("a"), make("b", seed=4), make("c", seed=5, rate=0.2)]
    assert compare(runs) == {"seed": [3, 4, 5], "optimiser.rate": [0.1, 0.1, 0.2]}
    assert compare(runs[:1]) == {}
    assert compare([]) == {}


def test_comparing_with_a_damaged_run_is_refused(make):
    run = make("a")
    (run.path / "run.json").write_bytes(b'{"format":1}')
    with pytest.raises(ModelError, match=r"run\.json lacks 'recipe'"):
        compare([run, make("b")])


def test_two_runs_of_one_name_are_numbered(make):
    assert names_of([make("a"), make("b")]) == ["a", "b"]
    assert names_of([run := make("c"), run]) == ["c (1)", "c (2)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "none"),
        (0.1, "0.1"),
        (1e-4, "0.0001"),
        (1 / 3, str(1 / 3)),
        (64, "64"),
        ((1, "a", None), "[1, a, none]"),
        ("A", "A"),
    ],
)
def test_values_are_spelt_as_set_takes_them(value, text):
    assert spelt(value) == text
