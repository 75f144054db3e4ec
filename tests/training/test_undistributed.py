"""A build of torch without torch.distributed trains in one process, and says what it lacks where there are several."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import subprocess_environment

PROGRAM = """
import sys
import torch

torch.distributed.is_available = lambda: False
del torch.distributed.PrefixStore, torch.distributed.TCPStore
sys.modules["torch.distributed.distributed_c10d"] = None

import residual.training.train
from residual.errors import EnvironmentFault
from residual.training.processes import joined

try:
    with joined() as ranks:
        print(ranks.world)
except EnvironmentFault as error:
    print(error)
"""
ALONE = {"RANK", "WORLD_SIZE"}
SEVERAL = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29400"}


def said(launch: dict[str, str]) -> str:
    environment = {name: value for name, value in subprocess_environment().items() if name not in ALONE} | launch
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_process_needs_no_distributed() -> None:
    assert said({}) == "1\n"


def test_several_processes_are_told_that_it_is_missing() -> None:
    assert said(SEVERAL).startswith("this build of torch has no torch.distributed")
