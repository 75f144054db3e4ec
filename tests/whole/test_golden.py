"""A run written by an earlier release still opens: evaluated, gone on with, and left as it was."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

import residual
from residual.runs.folder import RunFolder
from residual.runs.records import timeless

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("run-format-*"))


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
def test_an_old_run_is_evaluated_without_being_changed(golden: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(golden, tmp_path / "run"))
    report = residual.evaluate(copy, device="cpu")
    assert (report.step, report.evaluation.images) == (4, 359)
    assert report.evaluation.scores["loss"] == pytest.approx(LOSS[golden.name], rel=1e-4)
    assert contents(copy) == contents(golden)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.name)
@pytest.mark.filterwarnings("default")
def test_an_old_run_is_gone_on_with_to_its_end(golden: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(golden, tmp_path / "run"))
    run = residual.resume(copy)
    result = run.result()
    assert result is not None
    assert (result["steps"], result["sessions"]) == (6, 2)
    before = timeless(RunFolder(golden).records())
    assert timeless(run.records())[: len(before)] == before


# Measured when the run was made, on another machine than yours: equal up to rounding.
LOSS = {"run-format-1": 2.379669784503395}
