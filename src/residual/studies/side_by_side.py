"""The runs of a study, shared by all processes to which the same command was given.

A run is at work in one process at a time, which its lock says; another process takes the next one that is free, and at
the end waits for those of the others. The lock goes with its holder, so a run whose process died is taken up by the
next to look. Processes on several machines must see the folder, and its file system must have locks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from residual.errors import Elsewhere, Interrupted, InUse, NonFiniteError, UsageError, log
from residual.launch import launched
from residual.runs.folder import RUN, RunFolder

WAIT = 2.0
"""Seconds between two looks at runs that are at work elsewhere."""


@dataclass(frozen=True)
class Job:
    """One run of a study: its folder, what it is called, and the training that begins it or goes on with it."""

    place: Path
    name: str
    train: Callable[[], RunFolder]


Ended = RunFolder | NonFiniteError
"""How a run ends: finished, or with a loss that is no number, which the other runs do not wait for."""


def train_all(jobs: Sequence[Job]) -> list[RunFolder]:
    """Every run, finished, in the order of the jobs; those that other processes train meanwhile are waited for.

    Raises:
        what a training raises; the runs of other processes go on. Where a loss is no number all others are trained
        first.
    """
    ended = end_all(jobs)
    for one in ended:
        if isinstance(one, NonFiniteError):
            raise one
    return [one for one in ended if isinstance(one, RunFolder)]


def end_all(jobs: Sequence[Job]) -> list[Ended]:
    """As `train_all`, but a run whose loss became no number is given back as its error."""
    if launched() is not None:  # these processes share every single training, and take them in one order
        return [_train(job) for job in jobs]
    done: dict[Path, Ended] = {}
    told: set[Path] = set()
    while True:
        before = len(done)
        for job in jobs:
            if job.place in done:
                continue
            found = _trained(job)
            if not isinstance(found, str):
                done[job.place] = found
            elif job.place not in told:
                told.add(job.place)
                log.info("%s is at work in %s, the next one is taken", job.name, found)
        if len(done) == len(jobs):
            return [done[job.place] for job in jobs]
        if len(done) == before:
            time.sleep(WAIT)


def _train(job: Job) -> Ended:
    try:
        return job.train()
    except NonFiniteError as error:
        log.warning("%s did not train: %s", job.name, error)
        return error
    except Elsewhere as error:  # rank 0 alone looks at what it saves, and the others hear of it
        if error.exit_code != NonFiniteError.exit_code:
            raise
        return NonFiniteError(error.what, error.where, error.remedy)
    except Interrupted as error:  # to go on with this run alone would leave out the others
        remedy = "give the same command again, it goes on with this run and then takes the others"
        raise Interrupted(error.what, error.where, remedy, error.exit_code - 128) from None


def _trained(job: Job) -> Ended | str:
    """The run at its end, or who is at work on it."""
    stood = os.path.lexists(job.place / RUN)
    try:
        if stood:
            with RunFolder(job.place).hold():
                pass
        return _train(job)
    except InUse as error:
        return error.where
    except UsageError:
        if stood or not os.path.lexists(job.place / RUN):
            raise
        return "another process"  # which has begun it between our look and our own beginning
