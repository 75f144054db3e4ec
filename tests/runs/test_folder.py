"""The run folder: made whole or not at all, never overwritten, and the newest sound checkpoint is found."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from residual.errors import InUse, ModelError, ResidualError, StorageError, UsageError
from residual.files import Damaged
from residual.runs import folder
from residual.runs.folder import RunFolder, create_numbered, find_run, list_runs, runs_root
from residual.sealed import FORMAT, MANIFEST

FACTS = {"recipe": {"name": "x", "seed": 0}, "residual": "0.1.0"}
SPLIT = {"training": [0, 1], "validation": [2]}


def create(path, **facts):
    return RunFolder.create(path, FACTS | facts, "seed = 0\n", SPLIT)


@pytest.fixture
def run(tmp_path):
    return create(tmp_path / "runs" / "a")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of runs without a name, which does not exist yet."""
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def contents(step):
    return {"model.safetensors": step.to_bytes(4, "big") * 50, "state.json": b"{}"}


def save(run, *steps, keep=2):
    for step in steps:
        run.save_checkpoint(step, contents(step), {"step": step}, keep)


def damage(run, step):
    path = run.checkpoint_path(step) / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:7] + bytes([data[7] ^ 1]) + data[8:])


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Beginning


def test_a_new_run_holds_what_is_known_before_the_first_step(run):
    assert {entry.name for entry in run.path.iterdir()} == {"run.json", "recipe.toml", "split.json", "checkpoints"}
    assert run.facts() == FACTS | {"format": FORMAT}
    assert run.recipe_toml() == "seed = 0\n"
    assert run.split() == SPLIT
    assert (run.result(), run.records(), run.sessions(), run.steps(), run.newest_checkpoint()) == (
        None,
        [],
        [],
        [],
        None,
    )
    assert [entry.name for entry in run.path.parent.iterdir()] == ["a"]
    assert RunFolder.open(run.path).facts() == run.facts()


def test_an_empty_folder_may_become_a_run(tmp_path):
    (tmp_path / "empty").mkdir()
    assert create(tmp_path / "empty").split() == SPLIT


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (create, "a run stands there already .*continue it with --resume"),
        (lambda path: path.write_text("mine"), "not empty or not a folder"),
        (lambda path: (path.mkdir(), (path / "mine").write_text("mine")), "not empty or not a folder"),
        (lambda path: path.symlink_to("nowhere"), "not empty or not a folder"),
        (lambda path: path.symlink_to(path), "not empty or not a folder"),
    ],
    ids=["run", "file", "folder", "dangling link", "loop"],
)
def test_what_stands_there_is_never_overwritten(tmp_path, make, message):
    make(tmp_path / "a")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=message):
        create(tmp_path / "a", other=1)
    assert tree(tmp_path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_the_working_folder_is_no_place_for_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", str(tmp_path)):
        with pytest.raises(UsageError, match="a run needs a folder of its own"):
            create(Path(name))
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path, message in (
        (tmp_path / "file" / "a", "something stands there already"),
        (tmp_path / ("x" * 300), "the name is too long"),
    ):
        with pytest.raises(StorageError, match=message):
            create(path)
    assert tree(tmp_path) == {"file": b"mine"}


def test_names_of_any_kind_work(tmp_path):
    for name in ("with space", "quo'te\"", "größe-é", "-dash", "x" * 150, "new\nline"):
        assert create(tmp_path / name).name == name


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such run"):
        RunFolder.open(tmp_path / "absent")
    with pytest.raises(UsageError, match=r"this folder is not a run: it holds no run\.json"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"{}", b'{"format":"1"}', b"[" * 99_999])
def test_damaged_facts_are_refused(run, text):
    (run.path / "run.json").write_bytes(text)
    with pytest.raises(ModelError, match=r"run\.json is damaged"):
        run.facts()


def test_facts_of_a_newer_program_name_the_release(run):
    (run.path / "run.json").write_text(json.dumps({"format": FORMAT + 1, "residual": "9.9"}))
    with pytest.raises(ModelError, match=r"newer than this program .*install residual 9\.9 or newer"):
        run.facts()


def test_what_is_written_for_fifty_million_images_can_be_read(tmp_path):
    count, numbers = 1000, list(range(49_999_000, 50_000_000))
    files = [f"train/n01440764/n01440764_{number}.JPEG" for number in numbers]
    run = RunFolder.create(tmp_path / "a", FACTS, "", {"training": numbers, "files": {"training": files}})
    assert (run.path / "split.json").stat().st_size / count * 50e6 < folder._SPLIT_LIMIT


def test_missing_files_are_named(run):
    for name, read in (("run.json", run.facts), ("split.json", run.split), ("recipe.toml", run.recipe_toml)):
        (run.path / name).unlink()
        with pytest.raises(ModelError, match=name):
            read()
        (run.path / name).mkdir()
        with pytest.raises(ResidualError, match="not a regular file"):
            read()


# Records of sessions and the result


def test_sessions_grow_line_by_line(run):
    run.note_session({"event": "start"})
    run.note_session({"event": "end"})
    assert run.sessions() == [{"event": "start"}, {"event": "end"}]


def test_a_session_line_cut_by_a_crash_spoils_no_later_one(run):
    run.note_session({"event": "start"})
    with run.sessions_path.open("ab") as file:
        file.write(b'{"event":"e')
    run.note_session({"event": "resume"})
    assert run.sessions() == [{"event": "start"}, {"event": "resume"}]


def test_a_result_makes_a_run_finished(run):
    run.save_result({"top1": 0.5, "name": "é"})
    assert run.result() == {"top1": 0.5, "name": "é"}
    run.save_result({"top1": 0.6})
    assert run.result() == {"top1": 0.6}


# Checkpoints


def test_the_newest_checkpoint_is_given(run, caplog):
    save(run, 5, 10)
    assert run.newest_checkpoint() == ({"step": 10}, contents(10))
    assert caplog.messages == []


@pytest.mark.parametrize(("keep", "kept"), [(1, [5, 4]), (2, [5, 4]), (3, [5, 4, 3]), (9, [5, 4, 3, 2, 1])])
def test_the_newest_are_kept_and_at_least_two(run, keep, kept):
    save(run, 1, 2, 3, 4, 5, keep=keep)
    assert run.steps() == kept
    assert {entry.name for entry in (run.path / "checkpoints").iterdir()} == {f"step-{step:08d}" for step in kept}


def test_of_a_damaged_one_the_one_before_is_given_with_one_warning(run, caplog):
    save(run, 5, 10)
    damage(run, 10)
    assert run.newest_checkpoint() == ({"step": 5}, contents(5))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the checkpoint of step 10 is set aside, step 5 is next: the SHA-256 differs")


def test_where_all_are_damaged_nothing_is_guessed(run):
    save(run, 5, 10)
    damage(run, 5)
    shutil.rmtree(run.checkpoint_path(10) / MANIFEST, ignore_errors=True)
    (run.checkpoint_path(10) / MANIFEST).unlink()
    with pytest.raises(ModelError, match=r"no checkpoint of this run can be used; of the newest, no manifest\.json"):
        run.newest_checkpoint()


def test_a_checkpoint_under_the_name_of_another_step_is_set_aside(run, caplog):
    save(run, 5, 10)
    shutil.copytree(run.checkpoint_path(5), run.checkpoint_path(15))
    assert run.newest_checkpoint() == ({"step": 10}, contents(10))
    assert (
        "the checkpoint of step 15 is set aside, step 10 is next: it is the checkpoint of step 5" in caplog.messages[0]
    )


def test_files_of_two_steps_are_not_mixed(run):
    save(run, 5, 10)
    shutil.copy(run.checkpoint_path(5) / "model.safetensors", run.checkpoint_path(10))
    assert run.newest_checkpoint() == ({"step": 5}, contents(5))


def test_a_sound_checkpoint_is_left_and_a_damaged_one_replaced(run):
    save(run, 5)
    before = os.stat(run.checkpoint_path(5)).st_ino
    save(run, 5)
    assert os.stat(run.checkpoint_path(5)).st_ino == before
    damage(run, 5)
    save(run, 5)
    assert run.newest_checkpoint() == ({"step": 5}, contents(5))


def test_a_checkpoint_that_does_not_verify_costs_no_older_one(run, monkeypatch):
    """The disk keeps something else than was written: the older ones are not let go."""
    save(run, 1, 2)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[::-1]))
    with pytest.raises(Damaged):
        save(run, 3)
    monkeypatch.undo()
    assert run.steps() == [3, 2, 1]
    assert run.newest_checkpoint() == ({"step": 2}, contents(2))


def test_other_names_are_no_checkpoints(run):
    save(run, 5)
    for name in ("step-", "step-x", "step-7", "step-²", "step-0000000٣", "other", ".tmp-step-00000009-1"):
        (run.path / "checkpoints" / name).mkdir()
    assert run.steps() == [5]
    assert run.newest_checkpoint() == ({"step": 5}, contents(5))


def test_holding_a_run_clears_what_a_killed_one_left(run):
    save(run, 5)
    (run.path / ".tmp-1-result.json").touch()
    (run.path / ".tmp-model-1").mkdir()
    for name in (".tmp-1-result.json", ".tmp-model-1"):
        os.utime(run.path / name, (0, 0))
    (run.path / "checkpoints" / ".tmp-step-00000010-1").mkdir()
    with run.hold():
        assert run.steps() == [5]
        assert not [entry for entry in run.path.rglob(".tmp-*")]
        with pytest.raises(StorageError, match="the run a is in use by another process"), RunFolder(run.path).hold():
            pass
    with run.hold():
        pass


def test_what_a_report_is_just_writing_is_left_to_it(run):
    (run.path / ".tmp-1-report.html").touch()
    (run.path / ".tmp-predictions-test-1").mkdir()
    (run.path / ".tmp-predictions-test-1" / "predictions.safetensors").touch()
    os.utime(run.path / ".tmp-predictions-test-1", (0, 0))  # what is in it grows, the folder does not change
    before = tree(run.path)
    with run.hold():
        assert tree(run.path).keys() >= before.keys()
    run.save_result({})
    os.utime(run.path / ".tmp-1-report.html", (0, 0))
    with run.hold():  # a study looks at each of its finished runs
        assert (run.path / ".tmp-1-report.html").exists()


HOLDER = """
import sys
from pathlib import Path
from residual.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).hold():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_another_process_holds_is_at_work(run):
    assert not run.at_work()
    arguments = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert [run.at_work() for _ in range(3)] == [True] * 3
        assert repr(run) == f"<RunFolder {run.path}: training>"
        with pytest.raises(InUse), run.hold():
            pass
        holder.kill()
    assert (run.path / "lock.holder").exists()
    assert not run.at_work()  # it was killed, and left its note
    with run.hold():
        assert run.at_work()


def test_a_lock_that_cannot_be_tried_is_not_held(run):
    (run.path / "lock.holder").write_text("process 1 on here")
    assert not run.at_work()
    os.mkfifo(run.path / "lock")
    assert not run.at_work()
    (run.path / "lock").unlink()
    (run.path / "lock").symlink_to("nowhere")
    assert not run.at_work()


def test_in_python_a_run_shows_its_path_and_state(run, tmp_path):
    assert repr(run) == f"<RunFolder {run.path}: not finished>"
    run.save_result({})
    assert repr(run) == f"<RunFolder {run.path}: finished>"
    assert repr(RunFolder(tmp_path / "none")) == f"<RunFolder {tmp_path / 'none'}: no run>"


def test_the_final_model_comes_first(run):
    save(run, 5, 10)
    assert run.models() == [run.checkpoint_path(10), run.checkpoint_path(5)]
    for step in (10, 11):
        run.save_model(contents(step), {"step": step})
        assert (run.model_path / "model.safetensors").read_bytes() == contents(step)["model.safetensors"]
    assert run.models() == [run.model_path, run.checkpoint_path(10), run.checkpoint_path(5)]


# Finding runs


def dated(root, name, time):
    run = create(root / name)
    os.utime(run.path / "run.json", ns=(time, time))
    return run


def test_runs_are_listed_oldest_first(root):
    assert list_runs(root) == []
    for name, time in (("new", 30), ("old", 10), ("b", 20), ("a", 20)):
        dated(root, name, time)
    (root / "no run").mkdir()
    (root / "file").touch()
    (root / "link").symlink_to("x" * 300)
    shutil.copytree(root / "old", root / ".tmp-old-1")
    assert [run.name for run in list_runs(root)] == ["old", "a", "b", "new"]


def test_a_run_is_found_by_path_by_name_and_as_the_last(root, tmp_path, monkeypatch):
    first, second = dated(root, "first", 10), dated(root, "second", 20)
    monkeypatch.chdir(tmp_path)
    for name, expected in (("first", first), (str(second.path), second), ("runs/second", second)):
        assert find_run(name).path.resolve() == expected.path
    assert find_run(None).path == find_run("last").path == second.path
    first.records_path.write_bytes(b"")  # touched now
    assert find_run("last").path == first.path


def test_a_folder_here_is_preferred_to_a_name(root, tmp_path, monkeypatch):
    dated(root, "a", 10)
    here = create(tmp_path / "here" / "a")
    monkeypatch.chdir(tmp_path / "here")
    assert find_run("a").path.resolve() == here.path


@pytest.mark.parametrize("name", [None, "last", "absent", "x" * 5000, "~no-such-user/a", "a\0b", "../..", ""])
def test_a_run_that_is_none_is_refused_in_one_line(root, name):
    with pytest.raises(UsageError, match=r"no such run|there is no run yet|not a run") as caught:
        find_run(name)
    assert len(str(caught.value)) < 400


def test_a_free_name_is_one_above_the_highest(root):
    assert runs_root() == root
    assert create_numbered("digits") == root / "digits-1"
    for name in ("digits-2", "digits-10", "digits-x", "digits-²", "digits", "other-99"):
        (root / name).mkdir(parents=True)
    assert create_numbered("digits") == root / "digits-11"
