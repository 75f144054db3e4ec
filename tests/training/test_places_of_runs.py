"""Where Windows takes no names as long as those of a run, which is found out before any image is read."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from residual.errors import UsageError
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
