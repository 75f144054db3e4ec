"""The program as the campaign `processes` starts it: it writes down the samples of every step, and may fail on purpose.

RESIDUAL_SAMPLES names a folder: each process writes there, line by line, step, rank, world and the numbers of its
images. RESIDUAL_SABOTAGE is `deed:rank:step`; the deed is done once, by that rank before that step, a file in the same
folder remembers it: `kill` (kill -9), `nan` (an image that is none, every time), `hang`, `term` (SIGTERM to itself),
`disk` (no file may grow any more), `version` (another torch; from the beginning).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")

import torch

from residual import environment
from residual.cli import drawing
from residual.cli.main import run
from residual.data.batches import Batch, Batches
from residual.training import train

PLACE = Path(os.environ["RESIDUAL_SAMPLES"])
_batch_at = Batches.batch_at


def _do(deed: str, batch: Batch) -> None:
    if deed == "nan":
        batch.images[0] = torch.nan
        return
    try:
        (PLACE / f"done-{deed}").touch(exist_ok=False)
    except FileExistsError:
        return
    if deed == "hang":
        time.sleep(600)
    if deed == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        return
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM}[deed])


def batch_at(self: Batches, step: int, rank: int = 0, world: int = 1) -> Batch:
    batch = _batch_at(self, step, rank, world)
    line = json.dumps([step, rank, world, batch.samples.tolist()]) + "\n"
    with (PLACE / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(line)
    for wish in os.environ.get("RESIDUAL_SABOTAGE", "").split():
        deed, who, when = wish.split(":")
        if (rank, step) == (int(who), int(when)):
            _do(deed, batch)
    return batch


def main(arguments: Sequence[str]) -> int:
    """One command of the program, watched and sabotaged."""
    Batches.batch_at = batch_at  # type: ignore[method-assign]
    vars(drawing)["draw_run"] = lambda folder: None  # which takes longer than such a run
    if f"version:{os.environ.get('RANK')}:" in os.environ.get("RESIDUAL_SABOTAGE", ""):
        other = environment.versions() | {"torch": "2.0.0"}
        vars(train)["versions"] = lambda: other
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
