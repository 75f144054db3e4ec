"""Processes wait for one that gives signs of life, however long, and for no other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from campaigns.launching import free_port
from tests.conftest import subprocess_environment

pytestmark = pytest.mark.usefixtures("warm")

PROGRAM = """
import sys, time
from residual.training import processes
processes._SLACK = -14.0  # torch itself would wait for 6 s
with processes.joined(10.0) as ranks:
    if ranks.rank == 0:
        for _ in range(45):
            ranks.moved()
            time.sleep(0.2)
    with ranks.in_turn():
        pass
print("met", flush=True)
"""


@pytest.mark.timeout(180)
def test_one_that_works_is_waited_for_longer_than_torch_would() -> None:
    port = str(free_port())
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=subprocess_environment(
                {
                    **{"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
                    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"},
                }
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=150) for process in both]
    assert [out for out, _ in said] == ["met\n", "met\n"], said
