"""A run that does not read the test images at all: the same training, and no figure of theirs anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from residual.analysis.report import read_report
from residual.cli.words import say_result
from residual.errors import UsageError
from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from residual.runs.summary import summarise
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from residual.training.train import train

TINY = {
    "network.name": "resnet-8", "network.widths": [4, 4, 4], "data.limit": 100, "batch_size": 30, "steps": 4,
    "compute.threads": 1, "compute.precision": "float32",
}  # fmt: skip


def run(path: Path, **more: Any) -> RunFolder:
    return train("digits", set={**TINY, **more}, out=path)


def test_unread_test_images_change_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read, unread = run(tmp_path / "read"), run(tmp_path / "unread", **{"evaluation.test": False})
    whole = timeless(read.records())
    assert timeless(unread.records()) == [record for record in whole if record.get("split") != "test"] != whole
    found, usual = unread.result(), read.result()
    assert found is not None
    assert usual is not None
    assert found["final"] == {"validation": usual["final"]["validation"]}
    assert found["protocol"] == usual["protocol"] | {"test": "not read"}
    assert summarise(unread)["test_top1"] is None
    say_result(unread, "plain")
    assert "the test images were not read" in capsys.readouterr().out
    (page,) = read_report([unread], device="cpu").runs
    assert page.judged is not None
    assert page.judged.split == "validation"
    assert any("evaluation.test" in note for note in page.missing)


def test_what_is_not_read_cannot_be_watched() -> None:
    changes = [("evaluation.test", False), ("evaluation.watch_test", True)]
    with pytest.raises(UsageError, match=r"watch_test is True: .*not read at all"):
        override(RECIPES["digits"], changes)
