"""A checkpoint that may be whole is neither passed over nor deleted, whatever stands beside its files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from residual import sealed
from residual.errors import ModelError, StorageError
from residual.files import canonical, digest
from residual.runs.folder import RunFolder
from residual.sealed import MANIFEST, read_manifest


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    made = RunFolder.create(tmp_path / "a", {"recipe": {"name": "x", "seed": 0}}, "seed = 0\n", {"training": [0]})
    save(made, 5, 10)
    return made


def contents(step: int) -> dict[str, bytes]:
    return {"model.safetensors": step.to_bytes(4, "big") * 50, "state.json": b"{}"}


def save(run: RunFolder, *steps: int) -> None:
    for step in steps:
        run.save_checkpoint(step, contents(step), {"step": step}, 9)


def names(run: RunFolder) -> list[str]:
    return sorted(entry.name for entry in (run.path / "checkpoints").iterdir())


def test_a_file_of_a_file_manager_costs_no_checkpoint(run: RunFolder) -> None:
    (run.checkpoint_path(10) / ".DS_Store").touch()
    (run.checkpoint_path(10) / "Thumbs.db").touch()
    assert run.newest_checkpoint() == ({"step": 10}, contents(10))


def test_a_newest_one_that_cannot_be_read_now_is_not_passed_over(run: RunFolder) -> None:
    path = run.checkpoint_path(10) / "model.safetensors"
    path.unlink()
    path.symlink_to(path)  # cannot be opened, whoever tries
    words = (
        r"of step 10 may be whole and cannot be used: cannot read: .*; or move that folder away to go on from step 5$"
    )
    with pytest.raises(ModelError, match=words):
        run.newest_checkpoint()
    (run.checkpoint_path(10)).rename(run.path / "elsewhere")
    assert run.newest_checkpoint() == ({"step": 5}, contents(5))


def test_one_of_a_newer_program_or_with_a_strange_file_is_named(run: RunFolder) -> None:
    (run.checkpoint_path(10) / "notes.txt").touch()
    with pytest.raises(ModelError, match=r"notes\.txt does not belong here .*: take it away; or move that folder away"):
        run.newest_checkpoint()
    (run.checkpoint_path(10) / "notes.txt").unlink()
    body = read_manifest(run.checkpoint_path(10), "checkpoint") | {"format": 99}
    (run.checkpoint_path(10) / MANIFEST).write_bytes(canonical(body | {"seal": digest(canonical(body))}))
    with pytest.raises(ModelError, match="format 99 is newer than this program"):
        run.newest_checkpoint()


def test_later_ones_make_way_and_only_the_altered_are_deleted(run: RunFolder) -> None:
    save(run, 15, 20)
    os.truncate(run.checkpoint_path(15) / "model.safetensors", 3)
    (run.checkpoint_path(20) / MANIFEST).unlink()
    run.discard_after(5)
    assert names(run) == ["aside-step-00000010", "aside-step-00000020", "step-00000005"]
    save(run, 10)
    run.discard_after(5)
    assert names(run) == ["aside-step-00000010", "aside-step-00000010-2", "aside-step-00000020", "step-00000005"]
    assert run.newest_checkpoint() == ({"step": 5}, contents(5))


def test_what_this_process_wrote_is_read_back_without_a_warning(
    run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    before = os.umask(0)  # folders are 0777, as those of WSL
    try:
        save(run, 15)
    finally:
        os.umask(before)
    assert caplog.messages == []
    for _ in range(2):
        run.newest_checkpoint()
    assert [message.split(" can be ")[0] for message in caplog.messages] == [str(run.checkpoint_path(15))]


def test_an_old_one_that_someone_holds_ends_no_run(
    run: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def held(old: Path, new: Path) -> None:
        if old == run.checkpoint_path(5):
            raise PermissionError(13, "in use by a backup")
        rename(old, new)

    monkeypatch.setattr(os, "rename", held)
    for step in (15, 20):
        run.save_checkpoint(step, contents(step), {"step": step}, 2)
    assert run.steps() == [20, 15, 5]
    assert len(caplog.messages) == 1
    assert "old checkpoints stay, they cannot be removed now: cannot write: in use by a backup" in caplog.text
    monkeypatch.undo()
    run.save_checkpoint(25, contents(25), {"step": 25}, 2)
    assert run.steps() == [25, 20]


def test_a_run_whose_checkpoints_are_gone_is_not_begun_again(run: RunFolder) -> None:
    shutil.rmtree(run.path / "checkpoints")
    assert run.newest_checkpoint() is None, "nothing was written down yet"
    run.note_session({"event": "interrupted", "step": 10})
    with pytest.raises(
        ModelError, match=r"checkpoints are gone of a run that had reached step 10 .*restore that folder"
    ):
        run.newest_checkpoint()


def test_the_one_that_is_replaced_goes_when_the_new_one_is_whole(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageError("cannot write: no space left on device", "checkpoints", "free some space")

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "new_folder", full)
        with pytest.raises(StorageError):
            run.save_checkpoint(10, contents(11), {"step": 10}, 9, replaces=True)
    assert run.newest_checkpoint() == ({"step": 10}, contents(10))
    run.save_checkpoint(10, contents(11), {"step": 10}, 9, replaces=True)
    assert run.newest_checkpoint() == ({"step": 10}, contents(11))
    assert names(run) == ["step-00000005", "step-00000010"]
    run.save_checkpoint(10, contents(12), {"step": 10}, 9)
    assert run.newest_checkpoint() == ({"step": 10}, contents(11)), "a sound one stays"


def test_one_that_may_be_whole_is_set_aside_by_a_save(run: RunFolder) -> None:
    (run.checkpoint_path(10) / "notes.txt").touch()
    save(run, 10)
    assert names(run) == ["aside-step-00000010", "step-00000005", "step-00000010"]
    assert run.newest_checkpoint() == ({"step": 10}, contents(10))
