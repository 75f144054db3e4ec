"""Eight workers on one study of real trainings, killed -9 at random instants until so many have been met.

A study left alone tells what its populations must be. The killed ones must equal it: no finished individual lost, none
stuck, none trained twice to the end, no "database is locked". A killed worker is replaced by a new one; where a study
ends before enough kills, another with the next seed begins. The same on PostgreSQL, whose server is stopped and started
again in the middle.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from campaigns.postgresql import Server, why_not
from campaigns.running import PYTHON, environment, require, write_result
from residual.errors import ResidualError
from residual.files import Facts
from residual.runs.folder import RunFolder
from residual.tuning.address import folder_of as study_folder
from residual.tuning.rows import Snapshot
from residual.tuning.study import Study, open_study

TINY = (
    "digits", "--sampler", "ga", "--set", "network.name=resnet-8", "--set", "network.widths=[4, 8, 16]",
    "--set", "data.limit=400", "--set", "steps=40", "--set", "checkpoint.every_steps=5", "--set", "compute.threads=1",
    "--log", "plain", "--grace", "6",
)  # fmt: skip


@contextlib.contextmanager
def runs_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("RESIDUAL_RUNS")
    os.environ["RESIDUAL_RUNS"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["RESIDUAL_RUNS"]
        else:
            os.environ["RESIDUAL_RUNS"] = before


def start(name: str, arguments: Sequence[str], storage: str, log: Path) -> subprocess.Popen[bytes]:
    where = ["--storage", storage] if storage else []
    command = [*PYTHON, "tune", *arguments, "--study", name, *where]
    with log.open("ab") as file:
        return subprocess.Popen(command, env={**environment(), "OMP_NUM_THREADS": "1"}, stdout=file, stderr=file)


def story(snapshot: Snapshot) -> list[Any]:
    """What must not depend on who trained whom, or on who was killed."""
    rows = [(i.number, i.generation, i.genes, i.state.name, i.fitness, i.how, i.parents) for i in snapshot.individuals]
    return [rows, [tuple(generation) for generation in snapshot.generations]]


def alone(name: str, arguments: Sequence[str]) -> tuple[list[Any], float]:
    """The populations of the study with one worker that is left in peace, and the seconds it took."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="residual-alone-"))
    try:
        with runs_in(folder):
            code = start(name, arguments, "", folder / "log").wait()
            if code != 0:
                raise RuntimeError((folder / "log").read_text()[-2000:])
            with closing(open_study(name)) as study:
                return story(study.read()), time.monotonic() - began
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def harassed(
    name: str, arguments: Sequence[str], workers: int, kills: int, draws: random.Random, server: Server | None = None
) -> tuple[Facts, list[Any]]:
    """The same study with several workers of which one at a time is killed, at most `kills` times."""
    folder = Path(tempfile.mkdtemp(prefix="residual-killed-"))
    storage = server.url if server is not None else ""
    log, met, restarted, lost = folder / "log", 0, server is None, 0
    crew: list[subprocess.Popen[bytes]] = []
    finished: set[int] = set()
    try:
        with runs_in(folder):
            crew = [start(name, arguments, storage, log) for _ in range(workers)]
            saved = study_folder(name)
            while not list(saved.glob("trial-*/checkpoints/step-*")) and any(one.poll() is None for one in crew):
                time.sleep(0.05)  # else the first kills would all meet workers that have not begun
            while met < kills:
                time.sleep(draws.uniform(0.05, 2.0))
                alive = [one for one in crew if one.poll() is None]
                if any(one.returncode == 0 for one in crew) or not alive:
                    break
                victim = draws.choice(alive)
                victim.send_signal(signal.SIGKILL)
                met += victim.wait() == -signal.SIGKILL
                crew = [one for one in crew if one is not victim and one.poll() is None]
                crew.append(start(name, arguments, storage, log))
                if server is not None and not restarted and met >= max(1, kills // 2):
                    server.stop()
                    time.sleep(draws.uniform(0.5, 3))
                    server.start()
                    restarted = True
                with contextlib.suppress(ResidualError):
                    with closing(open_study(name, storage, wait=5)) as study:
                        closed = {one.number for one in study.read().individuals if one.closed}
                    lost += len(finished - closed)
                    finished |= closed
            codes = [one.wait() for one in crew]
            if any(codes):  # they may have ended with the server; whoever comes next ends the study
                codes.append(start(name, arguments, storage, log).wait())
            said = log.read_text(errors="replace")
            with closing(open_study(name, storage)) as study:
                found = judge(study, said, codes[-1]) | {"kills": met, "lost": lost, "restarted": restarted}
                return found, story(study.read())
    finally:
        for one in crew:
            if one.poll() is None:
                one.kill()
                one.wait()
        shutil.rmtree(folder, ignore_errors=True)


def judge(study: Study, said: str, code: int) -> Facts:
    """What a study at its end must not have."""
    snapshot = study.read()
    runs = [RunFolder(path) for path in sorted(study.folder.glob("trial-*"))]
    ends = [sum(entry["event"] == "finished" for entry in run.sessions()) for run in runs]
    sittings = [sum(entry["event"] == "began" for entry in run.sessions()) for run in runs]
    return {
        "exit_code": code,
        "individuals": len(snapshot.individuals),
        "stuck": sum(not one.closed for one in snapshot.individuals),
        "twice_to_the_end": sum(count > 1 for count in ends),
        "taken_up": sum(len(one.deaths) for one in snapshot.individuals),
        "sittings": sum(sittings),
        "locked": said.count("locked"),
        "tracebacks": said.count("Traceback"),
    }


def trial(
    kills: int, workers: int, seed: int, population: int, generations: int, server: Server | None = None
) -> Facts:
    """Studies with seed, seed + 1 ... until so many kills met a living worker; each compared with its like in peace."""
    draws = random.Random(seed)
    rows: list[Facts] = []
    while sum(row["kills"] for row in rows) < kills:
        number = seed + len(rows)
        size = ("--population", str(population), "--generations", str(generations), "--search-seed", str(number))
        arguments, name = (*TINY, *size), f"killed-{number}"
        expected, seconds = alone(name, arguments)
        left = kills - sum(row["kills"] for row in rows)
        row, found = harassed(name, arguments, workers, left, draws, server)
        rows.append({"search_seed": number, "alone_seconds": round(seconds, 1), **row, "equal": found == expected})
        print(f"study {number}: {rows[-1]}", flush=True)
    return {"kills": sum(row["kills"] for row in rows), "workers": workers, "seed": seed, "studies": rows}


def sound(found: Facts) -> int:
    """Studies in which nothing was lost, stuck, done twice or unlike."""
    bad = ("exit_code", "stuck", "twice_to_the_end", "lost", "locked", "tracebacks")
    return sum(row["equal"] and not any(row[name] for name in bad) for row in found["studies"])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign tuning-kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--server-kills", type=int, default=25)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--population", type=int, default=12)
    parser.add_argument("--generations", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    began = time.monotonic()
    size = (options.workers, options.seed, options.population, options.generations)
    result: Facts = {"sqlite": trial(options.kills, *size)}
    if why_not():
        result["postgresql"] = {"skipped": why_not()}
    else:
        with Server() as server:
            result["postgresql"] = trial(options.server_kills, *size, server=server)
    write_result("tuning-kill", result, began)
    code = 0
    for name, found in result.items():
        if "studies" in found:
            code |= require(
                sound(found), len(found["studies"]), f"studies as if left alone, {found['kills']} kills, {name}"
            )
        else:
            print(f"{name}: {found['skipped']}")
    return code
