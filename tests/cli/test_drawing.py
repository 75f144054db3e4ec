"""Pictures that no command asks for: drawn for users, left out where the environment says so."""

from __future__ import annotations

import pytest

from residual.cli.drawing import VARIABLE, draw_run, wanted
from residual.runs.folder import RunFolder


@pytest.mark.parametrize(("said", "draws"), [(None, True), ("", True), ("yes", True), ("NO", False), ("0", False)])
def test_the_environment_says_whether_to_draw(monkeypatch, caplog, said, draws):
    monkeypatch.delenv(VARIABLE, raising=False)
    if said is not None:
        monkeypatch.setenv(VARIABLE, said)
    assert wanted() is draws
    assert caplog.text == ""


def test_what_is_neither_yes_nor_no_is_told(monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, "jpeg")
    assert wanted()
    assert "RESIDUAL_PICTURES is 'jpeg', neither yes nor no" in caplog.text


def test_a_training_draws_its_curves_unless_they_are_not_wanted(finished, say, monkeypatch):
    folder = RunFolder(finished)
    assert draw_run(folder) is None
    assert "curves " not in say("train", "--resume", finished).out
    assert not folder.curves_path.exists()
    monkeypatch.delenv(VARIABLE)
    assert f"curves   {folder.curves_path}" in say("train", "--resume", finished).out
    assert folder.curves_path.read_bytes().startswith(b"\x89PNG")
