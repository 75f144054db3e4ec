"""Images per second of one run by one and by several processes on this machine, turn by turn.

Real runs of `residual train`, each in processes of its own; the clock is that of the records, where every stretch
between two lines of the running figures is a figure, evaluations taken off and the first stretch thrown away. Every
process computes with one thread. On a machine with GPUs each process has one, and the batches are larger.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from campaigns.launching import together
from campaigns.running import PYTHON, write_result
from residual.files import Facts
from residual.runs.folder import RunFolder

RUN = ("train", "digits", "--progress", "json", "--set", "compute.threads=1", "--set", "checkpoint.every_seconds=none")
KINDS = ("synchronised", "per-process")


def rates(run: Path, batch: int) -> list[float]:
    """Images/s of each stretch between two lines of a run's records, but the first."""
    found, step, clock, spent = [], 0, 0.0, 0.0
    for record in RunFolder(run).records():
        if record["kind"] == "evaluation":
            spent += record["time"]["seconds"]
        elif record["kind"] == "train":
            if step:
                found.append((record["step"] - step) * batch / (record["time"]["seconds"] - clock - spent))
            step, clock, spent = record["step"], record["time"]["seconds"], 0.0
    return found[1:]


def measured(world: int, kind: str, network: str, batch: int, epochs: int, place: Path) -> list[float]:
    run = place / f"{world}-{kind}-{len(list(place.iterdir()))}"
    size = ("--network", network, "--batch-size", str(batch), "--epochs", str(epochs))
    command = [*PYTHON, *RUN, *size, "--set", f"processes.batch_norm={kind}", "--out", str(run)]
    ended = together([command] * world, place / "samples", timeout=600)
    if any(one.code for one in ended):
        raise RuntimeError(f"{world} processes failed:\n{ended[0].err[-2000:]}")
    return rates(run, batch)


def table(worlds: Sequence[int], network: str, batch: int, epochs: int, turns: int) -> list[Facts]:
    """A row for each number of processes and kind of batch normalisation; the turns alternate."""
    rows = [(world, kind) for world in worlds for kind in (KINDS if world > 1 else KINDS[:1])]
    found: dict[tuple[int, str], list[float]] = {row: [] for row in rows}
    with tempfile.TemporaryDirectory(prefix="residual-scaling-") as place:
        for turn in range(turns):
            for world, kind in rows:
                found[world, kind] += measured(world, kind, network, batch, epochs, Path(place))
                print(f"turn {turn + 1}: {world} processes, {kind}: {found[world, kind][-1]:,.0f} images/s", flush=True)
    one = statistics.median(found[rows[0]])
    return [
        {
            "processes": world,
            "batch_norm": kind if world > 1 else "of the one process",
            "images_per_second": {"median": statistics.median(values), "least": min(values), "most": max(values)},
            "stretches": len(values),
            "times_one_process": statistics.median(values) / one,
        }
        for (world, kind), values in found.items()
    ]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign processes-scaling", description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--network", default="resnet-20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--turns", type=int, default=2)
    options = parser.parse_args(argv)
    began = time.monotonic()
    rows = table(options.processes, options.network, options.batch_size, options.epochs, options.turns)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu, one thread a process"
    facts: Facts = {"network": options.network, "batch_size": options.batch_size, "device": device, "data": "digits"}
    write_result("processes-scaling", {**facts, "rows": rows}, began)
    for row in rows:
        print(f"{row['processes']} x: {row['times_one_process']:.2f} times one process", file=sys.stdout)
    return 0
