"""`residual tensorboard`."""

from __future__ import annotations

import os
from pathlib import Path


def tensorboard(*runs: str, out: str | None = None) -> int:
    """Write event files for TensorBoard from the records of runs, finished or not.

    `residual train --tensorboard` writes the same while the run is at work.

    Parameters
    ----------
    runs
        The runs; without any, the last one.
    out
        A folder that receives one folder for each run; without it, the folder tensorboard/ of each run.
    """
    from residual.cli.text import printable
    from residual.errors import UsageError, argument
    from residual.runs.folder import find_run
    from residual.training.tensorboard import FOLDER, write_events

    chosen = [find_run(name) for name in runs or ("last",)]
    folder = None if out is None else Path(os.path.expanduser(out))
    names = [run.path.resolve().name for run in chosen]
    twice = sorted({name for name in names if names.count(name) > 1})
    if folder is not None and twice:
        raise UsageError(f"two runs are named {twice[0]}", "tensorboard", "give each a --out of its own")
    for run, name in zip(chosen, names, strict=True):
        if folder is not None:
            write_events(run, folder / name)
        else:
            with run.hold():
                write_events(run, run.path / FOLDER)
    place = folder if folder is not None else chosen[0].path / FOLDER if len(chosen) == 1 else None
    told = argument(place) if place is not None else "FOLDER"
    print(printable(f"events of {len(chosen):,} {'run' if len(chosen) == 1 else 'runs'}: tensorboard --logdir {told}"))
    return 0
