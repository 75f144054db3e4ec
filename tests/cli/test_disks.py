"""Real file systems that refuse: full, out of inodes, read-only. Each is a small tmpfs of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from residual.runs.folder import RunFolder
from tests.cli.conftest import SIX, only_error

MOUNT = shutil.which("mount")


def remount(options: str, place: Path) -> None:
    subprocess.run([str(MOUNT), "-o", f"remount,{options}", place], check=True)


@pytest.fixture
def disk(here: Path) -> Iterator[Path]:
    """A file system of 64 MB that the test may mount anew with other limits."""
    place = here / "disk"
    place.mkdir()
    if MOUNT is None or os.geteuid() != 0:
        pytest.skip("only root may mount a file system of its own")
    done = subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=64m", "residual-test", place], check=False)
    if done.returncode != 0:
        pytest.skip("this machine lets no file system be mounted")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("limit", ["size=128k", "size=60k", "nr_inodes=26", "nr_inodes=18"])
def test_a_disk_that_fills_up_costs_no_step_that_was_saved(say, here, disk, limit):
    assert say(*SIX, "--out", "whole").code == 0
    remount(limit, disk)
    said = say(*SIX, "--out", "disk/run")
    line = only_error(said)
    assert (said.code, "No space left on device (disk/run" in line, "free some space" in line) == (5, True, True), line
    run = disk / "run"
    if run.exists():
        RunFolder(run).newest_checkpoint()  # whole, or there was none yet; never a damaged one
    remount("size=64m,nr_inodes=10000", disk)
    again = ["train", "--resume", "disk/run", "--log", "plain"] if run.exists() else [*SIX, "--out", "disk/run"]
    assert say(*again).code == 0
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (here / "whole", run)]
    assert weights[0] == weights[1]
    assert not list(disk.rglob(".tmp-*"))


def test_a_file_system_that_is_read_only(refused, say, here, disk):
    assert say(*SIX, "--out", "disk/run").code == 0
    (disk / "run" / "result.json").unlink()
    remount("ro", disk)
    refused(5, [*SIX, "--out", "disk/other"], "read-only", "disk/other", "--out")
    refused(5, ["train", "--resume", "disk/run"], "read-only", "disk/run")
    assert say("evaluate", "disk/run").code == 0
    assert say("runs", "disk").code == 0
    remount("rw", disk)
    assert sorted(os.listdir(disk)) == ["run"]
