"""The newcomer's way: a fresh clone in an empty folder, `make demo` and `make test` as the README prints them."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from campaigns.running import ROOT, write_result
from residual.files import Facts

DROPPED = ("PYTHONPATH", "VIRTUAL_ENV", "RESIDUAL_CACHE", "RESIDUAL_DATA", "RESIDUAL_RUNS", "MAKEFLAGS", "MAKELEVEL")


def timed(target: str, folder: Path) -> Facts:
    """Seconds and last line of a make target in `folder`."""
    kept = {name: value for name, value in os.environ.items() if name not in DROPPED}
    kept.setdefault("RESIDUAL_SHARED", str(ROOT.parent / "shared"))
    began = time.monotonic()
    done = subprocess.run(["make", target], cwd=folder, env=kept, capture_output=True, text=True, check=False)
    seconds = round(time.monotonic() - began, 1)
    print(done.stdout, done.stderr, sep="\n", flush=True)
    if done.returncode != 0:
        raise RuntimeError(f"make {target} ended with {done.returncode}")
    return {"seconds": seconds, "last_line": done.stdout.rstrip().splitlines()[-1].strip("= ")}


def main(argv: list[str]) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="residual-fresh-") as place:
        clone = Path(place) / "residual"
        subprocess.run(["git", "clone", "-q", f"file://{ROOT}", str(clone)], check=True)
        demo, test = timed("demo", clone), timed("test", clone)
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped)", test["last_line"])}
    write_result("fresh", {"demo": demo, "test": test, "tests": counts}, began)
    return 0
