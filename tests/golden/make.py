"""Make the run kept in `run-format-1/`: interrupted after 4 of 6 steps, as release 0.1.0 writes it.

Run it only when a new format is introduced, into a folder of that format's name; the old ones stay, since
every later release must go on with them.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from residual.errors import Interrupted
from residual.training.progress import Silent
from residual.training.train import train

SETTINGS = {
    "network.name": "resnet-8",
    "network.widths": [2, 2, 2],
    "batch_size": 32,
    "steps": 6,
    "data.limit": 100,
    "checkpoint.every_steps": 2,
    "compute.threads": 1,
    "compute.precision": "float32",
    "compute.device": "cpu",
}


class StopAt4(Silent):
    def stepped(self, step: int, images: int) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    place = Path(__file__).parent / sys.argv[1]
    shutil.rmtree(place, ignore_errors=True)
    try:
        train("digits", set=SETTINGS, out=place, listener=StopAt4(), command="python tests/golden/make.py")
    except Interrupted as stopped:
        print(stopped.what)
    for name in ("lock", "lock.holder"):
        (place / name).unlink(missing_ok=True)
