"""Where no run can be made, as under names too long for Windows: found out before any image is read."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from residual.errors import UsageError
from residual.runs.folder import RunFolder
from residual.training.places import refuse_unmakeable


def set_up(monkeypatch: pytest.MonkeyPatch, enabled: int | None) -> None:
    """A Windows with that entry in its registry."""

    def query(key: Any, name: str) -> tuple[int, int]:
        if enabled is None:
            raise FileNotFoundError(2, name)
        return enabled, 4

    registry = SimpleNamespace(HKEY_LOCAL_MACHINE=0, OpenKey=lambda *_: contextlib.nullcontext(), QueryValueEx=query)
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(sys, "platform", "win32")


def run_of(length: int, folder: Path) -> Path:
    """A run whose folder has a name of so many characters."""
    return folder / ("r" * (length - len(str(folder)) - 1))


@pytest.mark.skipif(os.name != "posix", reason="its folder for tests may be long")
@pytest.mark.parametrize(("enabled", "refused"), [(None, True), (0, True), (1, False)])
def test_a_name_too_long_for_windows_is_refused(
    enabled: int | None, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, enabled)
    path = run_of(200, tmp_path)
    with (
        pytest.raises(UsageError, match=r"of 2\d\d characters, and Windows takes 259")
        if refused
        else contextlib.nullcontext()
    ):
        refuse_unmakeable(path)


@pytest.mark.skipif(os.name != "posix", reason="its folder for tests may be long")
def test_a_short_name_is_none_of_its_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(monkeypatch, 0)
    refuse_unmakeable(run_of(170, tmp_path))


def test_elsewhere_names_may_be_longer(tmp_path: Path) -> None:
    if sys.platform == "linux":
        refuse_unmakeable(run_of(240, tmp_path))


def test_what_stands_there_is_found_out_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(UsageError, match="the output folder is not empty"):
        refuse_unmakeable(tmp_path / "full")
    (tmp_path / "volume").mkdir()
    refuse_unmakeable(tmp_path / "volume")
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "volume")
    with pytest.raises(UsageError, match=r"root of a file system .*: name a folder in it, as in --out .*volume.run"):
        refuse_unmakeable(tmp_path / "volume")


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
def test_a_link_to_an_empty_folder_is_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    refuse_unmakeable(tmp_path / "run")
    made = RunFolder.create(tmp_path / "run", {"seed": 0}, "", {})
    assert made.path == tmp_path / "run"
    assert RunFolder.open(tmp_path / "elsewhere").facts()["seed"] == 0
