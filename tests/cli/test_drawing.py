"""Pictures that no command asks for: drawn for users, left out where the environment says so."""

from __future__ import annotations

import csv

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


def test_the_numbers_of_curves_are_a_table(finished, say, refused, here):
    said = say("curves", "run", "--out", "curves.csv")
    assert (said.code, said.out) == (0, "curves.csv\n")
    with (here / "curves.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    records = [one for one in RunFolder(here / "run").records() if one["kind"] == "train"]
    assert {row["run"] for row in rows} == {"run"}
    by_step = {int(row["step"]): row for row in rows}
    for record in records:
        row = by_step[record["step"]]
        assert float(row["training_loss"]) == pytest.approx(record["loss"], rel=1e-6)
        assert float(row["training_error"]) == pytest.approx(100 * (1 - record["top1"]), rel=1e-6)
        assert float(row["learning_rate"]) == pytest.approx(record["rate"], rel=1e-6)
    assert any(row["validation_error"] or row["test_error"] for row in rows)
    assert "will be replaced" in say("curves", "run", "--out", "curves.csv").err
    (here / "mine.csv").write_text("a,b\n")
    refused(2, ["curves", "run", "--out", "mine.csv"], "something else", "mine.csv")
