"""kill -9 at random instants of a CIFAR-10 run; every resumed run must equal the one left alone.

Each killed run is a process of its own, killed once at an instant drawn from the whole length of the
run, start-up and end included, then resumed in another process. The same trial with a saver that is
not atomic (`campaigns.bad_saver`) must fail; else the trial proves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from campaigns.running import PYTHON, cifar_folder, fingerprint, finish, require, start, unlike, write_result
from residual.files import Facts

BAD = (sys.executable, "-m", "campaigns.bad_saver")
CIFAR = ("cifar10-fast", "--set", "data.limit=10000", "--set", "steps=90", "--set", "evaluation.every_epochs=0.4")
TINY = ("digits", "--set", "network.name=resnet-8", "--set", "network.widths=[4, 8, 16]")
OFTEN = ("--set", "checkpoint.every_steps=5")
WINDOW = 0.5
PRECISION = ("--set", "compute.precision=bfloat16")


def killed_run(
    arguments: Sequence[str], run: Path, instant: float, program: Sequence[str] = PYTHON, since_first_save: bool = False
) -> tuple[bool, str]:
    """Train into `run`, kill -9 after `instant` seconds (from the start, or from the first save), resume to the end.

    Returns whether the kill met a living process, and what the resuming process said if it failed.
    """
    process = start(["train", *arguments, "--log", "plain", "--out", str(run)], program)
    while since_first_save and process.poll() is None and not list(run.glob("checkpoints/step-*")):
        time.sleep(0.01)
    try:
        process.communicate(timeout=instant)
        met = False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        met = True
    # Killed before the run folder stood: there is nothing to resume, and nothing half-written under its name.
    again = ["--resume", str(run)] if (run / "run.json").is_file() else [*arguments, "--out", str(run)]
    try:
        finish(["train", *again, "--log", "plain"], program)
    except RuntimeError as error:
        return met, str(error)[-600:]
    return met, ""


def trial(
    arguments: Sequence[str], kills: int, seed: int, program: Sequence[str] = PYTHON, window: float | None = None
) -> Facts:
    """One uninterrupted run and `kills` killed ones; what differs in each is listed.

    Instants are drawn from the length of the uninterrupted run; with `window`, from that many seconds after the
    first save, so that few kills suffice to meet a save at work.
    """
    place = Path(tempfile.mkdtemp(prefix="residual-kill-"))
    try:
        seconds = finish(["train", *arguments, "--log", "plain", "--out", str(place / "whole")], program)
        reference = fingerprint(place / "whole")
        draws = random.Random(seed)
        rows = []
        for number in range(kills):
            run = place / f"killed-{number}"
            instant = round(draws.uniform(0, window or seconds), 3)
            began = time.monotonic()
            met, failure = killed_run(arguments, run, instant, program, window is not None)
            try:
                wrong = ["did not finish"] if failure else unlike(reference, run)
            except Exception as error:  # a bad saver may leave anything at all behind
                wrong = [f"unreadable: {type(error).__name__}"]
            rows.append({"instant": instant, "killed": met, "differs": wrong})
            print(f"kill {number + 1}/{kills} at {instant:.2f} s: {wrong or 'identical'}", flush=True)
            print(f"  ({time.monotonic() - began:.1f} s) {failure}" if failure else "", end="", flush=True)
            shutil.rmtree(run, ignore_errors=True)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(place)
    return {
        "arguments": list(arguments),
        "seed": seed,
        "uninterrupted_seconds": round(seconds, 1),
        "kills": kills,
        "met_a_living_process": sum(row["killed"] for row in rows),
        "identical": sum(not row["differs"] for row in rows),
        "fingerprint": reference,
        "rows": rows,
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--dropout-kills", type=int, default=5)
    parser.add_argument("--bad-kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    began = time.monotonic()
    data = ("--data", cifar_folder())
    plain = trial([*CIFAR, *data, *OFTEN, *PRECISION], options.kills, options.seed)
    dropout = trial(
        [*CIFAR, *data, *OFTEN, *PRECISION, "--set", "network.dropout=0.3"], options.dropout_kills, options.seed + 1
    )
    good = trial([*TINY, "--set", "steps=120", *OFTEN], options.bad_kills, options.seed + 2, window=WINDOW)
    bad = trial([*TINY, "--set", "steps=120", *OFTEN], options.bad_kills, options.seed + 2, BAD, window=WINDOW)
    for part in (plain, dropout, good, bad):
        part["arguments"] = ["CIFAR-10" if a == data[1] else a for a in part["arguments"]]
    parts = {"plain": plain, "dropout": dropout, "during saves": good, "during saves, non-atomic (must fail)": bad}
    write_result("kill", parts, began)
    code = require(plain["identical"], plain["kills"], "identical after kill -9")
    code |= require(dropout["identical"], dropout["kills"], "identical after kill -9, with dropout")
    code |= require(good["identical"], good["kills"], "identical after kill -9 during saves")
    caught = bad["kills"] - bad["identical"]
    print(f"the non-atomic saver was caught in {caught} of {bad['kills']}")
    return code or int(caught == 0)
