"""Seconds from the command to the end of its first step, on CIFAR-10 with its verified copy in the cache.

Three commands by turns, each a process of its own: `residual train`, `residual train --resume` of a run at step 1,
and of the same run at step 60,000. The second run's checkpoint is the first one's with another step: what a step
costs does not depend on the weights. The process ends itself when its first step is told to its listener.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from campaigns.running import cifar_folder, environment, write_result
from residual.errors import Interrupted
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.training.opening import open_session, stored_compute, stored_recipe
from residual.training.progress import Silent
from residual.training.signals import Signals
from residual.training.train import train

FAR = 60_000
PROGRAM = """
import os, sys, time
import residual.training.progress as progress
from residual.cli.main import run

class First(progress.Silent):
    def stepped(self, step, images):
        print(step, time.time(), flush=True)
        os._exit(0)

progress.make_listener = lambda style="auto", stream=None: First()
sys.exit(run(sys.argv[1:]))
"""


class Stop(Silent):
    """Ends the run after its first step, as Ctrl-C does."""

    def stepped(self, step: int, images: int) -> None:
        signal.raise_signal(signal.SIGINT)


def first_step(arguments: Sequence[str]) -> tuple[int, float]:
    """The number of the first step that the command finishes, and the seconds from its start until then.

    Raises:
        RuntimeError: it ended otherwise; holds what it printed.
    """
    began = time.time()
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode != 0 or len(words) < 2:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return int(words[-2]), float(words[-1]) - began


def run_at(place: Path, step: int, data: str, changes: Facts) -> Path:
    """A run of `cifar10-paper` whose newest checkpoint is at that step."""
    with suppress(Interrupted):
        train("cifar10-paper", set={"data.path": data, **changes}, out=place, listener=Stop())
    if step > 1:
        run = RunFolder.open(place)
        facts = run.facts()
        recipe, compute = stored_recipe(run, facts), stored_compute(run, facts)
        with run.hold():
            session = open_session(run, recipe, compute, Silent(), Signals())
            session.state.step = step
            session.save()
            if session.records is not None:
                session.records.close()
    return place


def measure(data: str, place: Path, rounds: int, changes: Facts, warm: int = 1) -> Facts:
    """Seconds of the three commands, turn by turn, after `warm` turns that fill caches and are thrown away.

    A resumed run ends before it saves anything, so that it can be resumed again.
    """
    near, far = (run_at(place / f"at-{step}", step, data, changes) for step in (1, FAR))
    settings = [word for path, value in changes.items() for word in ("--set", f"{path}={value}")]
    taken: dict[str, list[float]] = {"train": [], "resume at 1": [], "resume at 60,000": []}
    steps: dict[str, int] = {}
    for number in range(warm + rounds):
        commands = {
            "train": ["train", "cifar10-paper", "--data", data, *settings, "--out", str(place / f"new-{number}")],
            "resume at 1": ["train", "--resume", str(near)],
            "resume at 60,000": ["train", "--resume", str(far)],
        }
        for name, command in commands.items():
            steps[name], seconds = first_step(command)
            taken[name].append(seconds)
    kept = {name: seconds[warm:] for name, seconds in taken.items()}
    medians = {name: statistics.median(seconds) for name, seconds in kept.items()}
    return {
        "rounds": rounds,
        "seconds": medians,
        "values": kept,
        "first_steps": steps,
        "ratio": medians["resume at 60,000"] / medians["resume at 1"],
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="start-up", description="seconds to the first step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trial", action="store_true", help="write no result file")
    given = parser.parse_args(argv)
    began, data = time.monotonic(), cifar_folder()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(data, Path(folder), given.rounds, {})
    for name, seconds in found["seconds"].items():
        print(f"{name}: {seconds:.2f} s to the first step")
    if not given.trial:
        write_result("start-up", found, began)
    return 0


if __name__ == "__main__":
    sys.argv.insert(1, "start-up")  # as `make campaign start-up` gives it
    sys.exit(main(sys.argv[2:]))
