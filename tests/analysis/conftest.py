"""One small finished run for all tests of reports; each test that writes takes a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from residual.runs.folder import RunFolder
from residual.training.train import train

SETTINGS = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.limit": 200,
    "batch_size": 30,
    "steps": 12,
    "evaluation.every_epochs": 1,
    "compute.precision": "float32",
    "compute.threads": 1,
    "checkpoint.every_steps": 5,
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("digits", set=SETTINGS, out=tmp_path_factory.mktemp("trained") / "run").path


@pytest.fixture
def finished(trained: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "run")))
