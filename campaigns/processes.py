"""Several processes on one run: against one process, killed at random instants, in other numbers, with every fault.

Two agents on one machine stand for two machines. A killed agent goes down with its worker, and is started again as a
scheduler would; torchrun starts the workers again, and `--out` finds the run. Every finished run must equal the one
left alone, bit for bit, and every epoch must have seen each sample exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from campaigns.launching import (
    PROGRAM,
    SMALL,
    TORCHRUN,
    cleared,
    destroy,
    free_port,
    order_faults,
    process,
    together,
    workers,
)
from campaigns.processes_faults import FAULTS, fault
from campaigns.running import RESULTS, fingerprint, require, unlike, write_result
from residual.files import Facts

CHECK = (sys.executable, "-m", "campaigns.processes_check")
PATIENCE = 600.0
BOUND_DOUBLE, BOUND_SINGLE = 1e-8, 1e-5


def compared(place: Path, steps: int) -> Facts:
    """What the check program found with two processes."""
    first, *others = together([[*CHECK, str(steps)]] * 2, place / "check")
    if first.code or any(other.code for other in others):
        raise RuntimeError(f"the check failed:\n{first.err[-2000:]}\n{others[0].err[-2000:]}")
    found: Facts = json.loads(first.out.splitlines()[-1])
    found["sound"] = (
        not found["evaluations_unequal"]
        and found["layer_apart_float64"] < BOUND_DOUBLE
        and found["steps_apart_float64"] < BOUND_DOUBLE
        and found["one_step_apart_float32"] < BOUND_SINGLE
    )
    return found


def command(run: Path, steps: int) -> tuple[str, ...]:
    return (*SMALL, "--set", f"steps={steps}", "--out", str(run))


def agents(number: int, run: Path, port: int, words: Sequence[str]) -> list[tuple[str, ...]]:
    """The command of each of one or two torchruns, for two workers in all."""
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", run.name)
    lively = ("--rdzv-conf", "keep_alive_interval=1,keep_alive_max_attempt=3,join_timeout=120")
    size = ("--nnodes", str(number), "--nproc-per-node", str(2 // number), "--max-restarts", "9")
    return [(*TORCHRUN, *size, *meeting, *lively, *words)] * number


def kill_worker(begun: list[subprocess.Popen[str]], draws: random.Random) -> bool:
    pids = [pid for agent in begun for pid in workers(agent)]
    if not pids:
        return False
    try:
        os.kill(draws.choice(pids), signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kill_agent(begun: list[subprocess.Popen[str]], draws: random.Random) -> bool:
    alive = [agent for agent in begun if agent.poll() is None]
    if not alive:
        return False
    destroy(draws.choice(alive))
    return True


Killer = Callable[[list[subprocess.Popen[str]], random.Random], bool]
KILLERS: dict[str, tuple[int, Killer]] = {"worker": (1, kill_worker), "agent": (2, kill_agent)}


def killed_run(kind: str, run: Path, samples: Path, steps: int, instant: float, draws: random.Random) -> Facts:
    """A run whose worker or agent is killed `instant` seconds after its folder stands; agents are begun again."""
    number, kill = KILLERS[kind]
    commands = agents(number, run, free_port(), (*PROGRAM[1:], *command(run, steps)))
    begun = [process(one, samples) for one in commands]
    met, again, until = False, 0, time.monotonic() + PATIENCE
    failure = ""
    with cleared(begun):
        while not (run / "run.json").is_file() and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(instant)
        met = kill(begun, draws)
        while not _finished(run, begun) and not failure:
            # An agent that comes back after the last step is told by torchrun that the meeting is closed; the one
            # that saw the end waits for it up to five minutes, and needs it not.
            whole = (run / "result.json").is_file() and any(agent.poll() is None for agent in begun)
            for place, agent in enumerate(begun):
                if agent.poll() not in (None, 0) and not whole:
                    failure = agent.communicate()[1][-1500:] if again >= 8 else ""
                    begun[place], again = process(commands[place], samples), again + 1
            if time.monotonic() > until:
                failure = "not finished in time"
            time.sleep(0.1)
    return {"killed": met, "agents_begun_again": again, "failure": failure}


def _finished(run: Path, begun: list[subprocess.Popen[str]]) -> bool:
    """Whether the run is whole and some agent has seen its end; one killed after that is not needed any more."""
    return (run / "result.json").is_file() and any(agent.poll() == 0 for agent in begun)


def alone(place: Path, steps: int) -> tuple[dict[str, str], float]:
    """The fingerprint of the run of two processes that nobody kills, and the seconds it took from its folder on."""
    run = place / "whole"
    ended = together([[*PROGRAM, *command(run, steps)]] * 2, place / "whole-samples")
    if any(one.code for one in ended):
        raise RuntimeError(f"the run failed:\n{ended[0].err[-2000:]}")
    return fingerprint(run), max(1.0, time.time() - (run / "run.json").stat().st_mtime)


def kill_trial(kind: str, kills: int, seed: int, steps: int, place: Path) -> Facts:
    """Killed runs against the one left alone."""
    reference, seconds = alone(place, steps)
    shutil.rmtree(place / "whole")
    draws = random.Random(seed)
    rows = []
    for number in range(kills):
        run, samples = place / f"{kind}-{number}", place / f"{kind}-{number}-samples"
        instant = round(draws.uniform(0, seconds), 3)
        row = killed_run(kind, run, samples, steps, instant, draws)
        differs = ["did not finish"] if row["failure"] else unlike(reference, run)
        rows.append({"instant": instant, **row, "differs": differs, "order": order_faults(samples, steps)[:3]})
        print(f"{kind} {number + 1}/{kills} at {instant:.2f} s: {rows[-1]}", flush=True)
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(samples, ignore_errors=True)
    return {
        "kills": kills,
        "seed": seed,
        "steps": steps,
        "met_a_living_process": sum(row["killed"] for row in rows),
        "identical": sum(not row["differs"] for row in rows),
        "each_sample_once_an_epoch": sum(not row["order"] for row in rows),
        "rows": rows,
    }


def renumbered(place: Path, worlds: tuple[int, ...], steps: int) -> Facts:
    """One run by several numbers of processes in turn: one hears SIGTERM, all stop at one step, others go on."""
    run, samples = place / "renumbered", place / "renumbered-samples"
    said = []
    for part, world in enumerate(worlds):
        last = part == len(worlds) - 1
        (samples / "done-term").unlink(missing_ok=True)
        stop = f"term:{world - 1}:{(part + 1) * steps // len(worlds)}" if not last else ""
        words = ("train", "--resume", str(run), "--progress", "plain") if last else command(run, steps)
        ended = together([[*PROGRAM, *words]] * world, samples, stop)
        codes = [one.code for one in ended]
        if codes != [0 if last else 143] * world:
            raise RuntimeError(f"{world} processes ended with {codes}:\n{ended[0].err[-2000:]}")
        said += [line for line in ended[0].err.splitlines() if line.startswith("warning: ") and "processes" in line]
    return {"worlds": list(worlds), "steps": steps, "order": order_faults(samples, steps), "said": said}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign processes", description=__doc__)
    parser.add_argument("--worker-kills", type=int, default=20)
    parser.add_argument("--agent-kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=81, help="of each killed run: three epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(KILLERS), help="one kind of kill; all other figures stay as they are")
    options = parser.parse_args(argv)
    began = time.monotonic()
    kills = {"worker": options.worker_kills, "agent": options.agent_kills}
    found: Facts = {}
    kept: Facts | None = None
    with tempfile.TemporaryDirectory(prefix="residual-processes-") as name:
        place = Path(name)
        if options.only is None:
            found["against_one"] = compared(place, 50)
            print(found["against_one"], flush=True)
            found["renumbered"] = renumbered(place, (4, 2, 4), 54)
            print(found["renumbered"], flush=True)
            found["faults"] = {title: fault(title, place) for title in FAULTS}
        else:
            kept = json.loads((RESULTS / "processes.json").read_bytes())
            found |= {part: kept[part] for part in ("against_one", "renumbered", "faults", *KILLERS)}
        for kind in KILLERS if options.only is None else (options.only,):
            found[kind] = kill_trial(kind, kills[kind], options.seed, options.steps, place)
    write_result("processes", found, began, kept)
    code = require(int(found["against_one"]["sound"]), 1, "two processes agree with one")
    code |= require(int(not found["renumbered"]["order"]), 1, "the order stays with 4, 2 and 4 processes")
    code |= require(sum(row["sound"] for row in found["faults"].values()), len(FAULTS), "faults ended as they should")
    for kind in KILLERS:
        code |= require(found[kind]["identical"], found[kind]["kills"], f"identical after kill -9 of a {kind}")
        code |= require(
            found[kind]["each_sample_once_an_epoch"], found[kind]["kills"], f"epochs see each sample once, {kind}"
        )
    return code
