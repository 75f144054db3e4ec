"""A run is taken wherever its path is, and places are given as programs give them: text, paths, runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

import residual
from residual.device import choose_device
from residual.errors import EnvironmentFault, UsageError
from residual.runs.folder import RunFolder, find_run, list_runs
from residual.training.durations import seconds_of


def test_a_run_is_a_place(tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path / "runs" / "one", {}, "", {})
    assert os.fspath(made) == str(made.path)
    assert RunFolder(str(made.path)).path == RunFolder.open(str(made.path)).path == find_run(made).path == made.path
    with pytest.raises(UsageError, match="no such run"):
        residual.evaluate(RunFolder(tmp_path / "absent"))


def test_runs_are_listed_where_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = RunFolder.create(tmp_path / "runs" / "one", {}, "", {})
    monkeypatch.delenv("RESIDUAL_RUNS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert [run.path.resolve() for run in list_runs()] == [made.path.resolve()]
    assert [run.path for run in list_runs(str(tmp_path / "runs"))] == [made.path]
    assert list_runs(tmp_path / "absent") == []


def test_a_device_of_torch_is_one_by_its_name() -> None:
    assert choose_device(torch.device("cpu")) == "cpu"
    with pytest.raises(EnvironmentFault, match="no device xpu here"):
        choose_device(torch.device("xpu"))


def test_a_number_is_no_time() -> None:
    with pytest.raises(UsageError, match="'20' is no time"):
        seconds_of(20, "budget")  # type: ignore[arg-type]  # what a notebook may give
