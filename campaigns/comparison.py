"""Tuning compared honestly with going without, on CIFAR-10: `residual study compare` on a proxy, by several workers.

The default recipe repeated, random search, TPE, `ga-001` and `ga`, at an equal number of trainings and steps; first, on
some settings, how well the short training ranks like a longer one. Small networks gain little by a second thread, so
every worker has one thread, and there are as many workers as asked. An interrupted campaign goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from campaigns.one_study import EVIDENCE
from campaigns.running import PYTHON, RESULTS, ROOT, cifar_folder, environment, write_result
from residual.files import Facts, readable, replace_file
from residual.studies.contest import FOUND, PAGE
from residual.studies.evidence import ENDING
from residual.studies.tuning_evidence import STUDY

NAME = "comparison"


def command(options: argparse.Namespace) -> list[str]:
    """What each worker is asked to do."""
    numbers = {
        "--epochs": options.epochs,
        "--population": options.population,
        "--generations": options.generations,
        "--searches": options.searches,
        "--fresh": options.fresh,
        "--proxy": options.proxy,
        "--longer": options.longer,
    }
    settings = ["data.limit=none" if options.limit == 0 else f"data.limit={options.limit}", *options.set]
    return [
        *("study", "compare", options.recipe, "--study", options.name, "--network", options.network),
        *(word for name, value in numbers.items() for word in (name, f"{value:g}")),
        *("--arms", options.arms, "--device", options.device),
        *(word for text in settings for word in ("--set", text)),
    ]


def work(words: Sequence[str], workers: int, own: Sequence[str]) -> int:
    """Run so many workers to their end; the first exit code that is not 0."""
    one_thread = {"OMP_NUM_THREADS": "1", **environment(), "RESIDUAL_RUNS": str(runs())}
    crew = [subprocess.Popen([*PYTHON, *words, *own], env=one_thread, cwd=ROOT) for _ in range(workers)]
    codes = []
    for one in crew:
        while True:
            try:
                codes.append(one.wait())
                break
            except KeyboardInterrupt:
                continue  # the workers have heard it too, and save
    return next((code for code in codes if code), 0)


def runs() -> Path:
    return Path(os.environ.get("RESIDUAL_RUNS", ROOT / "runs")).resolve()


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make campaign comparison", description=__doc__)
    parser.add_argument("--recipe", default="cifar10-fast")
    parser.add_argument("--network", default="resnet-8")
    parser.add_argument("--limit", type=int, default=10_000, help="training images; 0 takes all")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--arms", default="default,random,tpe,ga-001,ga")
    parser.add_argument("--population", type=int, default=10)
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--searches", type=int, default=3)
    parser.add_argument("--fresh", type=int, default=3)
    parser.add_argument("--proxy", type=int, default=10)
    parser.add_argument("--longer", type=float, default=3)
    parser.add_argument("--set", action="append", default=[], help="any setting by path")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--name", default=NAME)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options, began = parse(argv), time.monotonic()
    own = ["--data", cifar_folder()] if options.recipe.startswith("cifar") else []
    own += ["--set", "compute.threads=1"]
    code = work(command(options), options.workers, own)
    if code:
        return code
    folder = runs() / options.name
    found: Facts = json.loads((folder / FOUND).read_bytes())
    found["recipe"]["data"]["path"] = None  # where the images lie on this machine
    words = {"asked": shlex.join(["residual", *command(options)]), "workers": options.workers}
    write_result(options.name, {**found, **words, "campaign": NAME, "kind": "campaign"}, began)
    replace_file(RESULTS / f"{options.name}.html", (folder / PAGE).read_bytes())
    if found["data"] is not None and found["data"]["name"] == "cifar-10":
        evidence: Facts = json.loads((folder / f"{STUDY}{ENDING}").read_bytes())
        evidence["command"] = "make campaign comparison" + (f" ARGS={shlex.join(argv)!r}" if argv else "")
        tail = "" if options.name == NAME else f"-{options.name}"
        replace_file(EVIDENCE / f"{STUDY}{tail}{ENDING}", readable(evidence))
    print("\n".join(found["verdicts"]))
    return 0
