"""The embedded default, as a newcomer runs it: `residual train`, over several seeds."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from campaigns.running import finish, spread, write_result
from residual.files import Facts
from residual.runs.folder import RunFolder

LEAST = 0.98
LONGEST = 120


def train_seeds(seeds: int, more: Sequence[str] = ()) -> Facts:
    """Train every seed in a process of its own; the seconds are those of the whole command.

    Args:
        more: arguments of `residual train` beside the seed.
    """
    results, seconds = [], []
    with tempfile.TemporaryDirectory() as place:
        for seed in range(seeds):
            run = Path(place) / f"digits-{seed}"
            seconds.append(round(finish(["train", *more, "--seed", str(seed), "--log", "plain", "--out", str(run)]), 1))
            result = RunFolder.open(run).result()
            if result is None:
                raise RuntimeError(f"seed {seed} did not finish")
            results.append(result)
            print(f"seed {seed}: test {result['final']['test']['top1']:.2%}, {seconds[-1]:.0f} s", flush=True)
    last = results[-1]
    return {
        "each_command": " ".join(["residual train", *more, "--seed SEED"]),
        "recipe": last["recipe"],
        "network": last["network"],
        "data": last["data"],
        "protocol": last["protocol"],
        "device": last["device"],
        "seeds": list(range(seeds)),
        "images_seen": last["images_seen"],
        "test_top1": spread([r["final"]["test"]["top1"] for r in results]),
        "validation_top1": spread([r["final"]["validation"]["top1"] for r in results]),
        "command_seconds": spread(seconds),
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign digits", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)
    began = time.monotonic()
    found = train_seeds(options.seeds)
    write_result("digits", found, began)
    mean, slowest = found["test_top1"]["mean"], max(found["command_seconds"]["values"])
    print(f"mean {mean:.2%} (at least {LEAST:.0%}), the slowest {slowest:.0f} s (at most {LONGEST} s)")
    return 0 if mean >= LEAST and slowest <= LONGEST else 1
