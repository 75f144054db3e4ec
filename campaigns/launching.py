"""Runs of several processes, started as a launcher starts them, and what they wrote down of their samples."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from campaigns.running import environment
from residual.data.batches import Batches
from residual.data.datasets import divide, open_dataset
from residual.data.preprocessing import measure
from residual.training.recipe import override
from residual.training.recipes import RECIPES

PROGRAM = (sys.executable, "-m", "campaigns.processes_program")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
SETTINGS = {
    "network.name": "resnet-8",
    "network.widths": [4, 8, 16],
    "batch_size": 48,
    "evaluation.every_epochs": 0.5,
    "checkpoint.every_steps": 5,
    "compute.threads": 1,
    "compute.precision": "float32",
}
_SET = [word for path, value in SETTINGS.items() for word in ("--set", f"{path}={json.dumps(value)}")]
SMALL = ("train", "digits", "--progress", "plain", *_SET)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def process(
    command: Sequence[str], samples: Path, sabotage: str = "", more: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A process in a session of its own, which writes its samples into a folder."""
    samples.mkdir(parents=True, exist_ok=True)
    told = {
        "RESIDUAL_SAMPLES": str(samples),
        "RESIDUAL_SABOTAGE": sabotage,
        "OMP_NUM_THREADS": "1",
        "TORCH_CPP_LOG_LEVEL": "FATAL",
    }
    return subprocess.Popen(
        command,
        env={**environment(), **told, **(more or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def words(rank: int, world: int, port: int) -> dict[str, str]:
    """What torchrun would tell a process of one machine."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def together(
    commands: Sequence[Sequence[str]], samples: Path, sabotage: str = "", port: int = 0, timeout: float = 240
) -> list[Ended]:
    """One process for each command, without torchrun: quicker to begin, and each ends with its own words."""
    port = port or free_port()
    begun = [
        process(command, samples, sabotage, words(rank, len(commands), port)) for rank, command in enumerate(commands)
    ]
    with cleared(begun):
        until = time.monotonic() + timeout
        said = [one.communicate(timeout=max(0.1, until - time.monotonic())) for one in begun]
    return [Ended(one.returncode, *texts) for one, texts in zip(begun, said, strict=True)]


@contextmanager
def cleared(begun: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """At the end nothing of these processes, nor of what they started, is left."""
    try:
        yield
    finally:
        for one in begun:
            if one.poll() is None:
                destroy(one)


def workers(agent: subprocess.Popen[str]) -> list[int]:
    """The processes that a torchrun has started and that live."""
    found = []
    try:
        listed = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text()
    except OSError:
        return []
    for pid in map(int, listed.split()):
        try:
            if b"processes_program" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def destroy(agent: subprocess.Popen[str]) -> None:
    """kill -9 of a torchrun and all its workers, as where a machine goes down."""
    doomed = [*workers(agent), agent.pid]
    for pid in reversed(doomed):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    agent.communicate()


def expected(total: int) -> tuple[Batches, list[list[int]]]:
    """The batches of the small run, and the samples of each step."""
    recipe = override(RECIPES["digits"], SETTINGS.items())
    dataset = open_dataset(recipe.data)
    division = divide(dataset, recipe.data)
    constants = measure(dataset.train, division.training, recipe.data.normalisation)
    data = (dataset.train, division.training, constants, recipe.data.augment)
    batches = Batches(*data, recipe.batch_size, recipe.seed)
    return batches, [batches.samples(step).tolist() for step in range(total)]


def order_faults(samples: Path, total: int) -> list[str]:
    """What the processes saw that they should not have seen, or did not see; empty where the order is that of one."""
    batches, steps = expected(total)
    whole: dict[int, dict[tuple[int, int], list[int]]] = {}
    faults = []
    for file in samples.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            step, rank, world, seen = json.loads(line)
            share = len(steps[step]) // world
            if seen != steps[step][rank * share : (rank + 1) * share]:
                faults.append(f"step {step}, rank {rank} of {world}: other samples")
            whole.setdefault(step, {})[rank, world] = seen
    for step in range(total):
        found = whole.get(step, {})
        if not any(all((r, world) in found for r in range(world)) for world in {world for _, world in found}):
            faults.append(f"step {step}: not all of its samples were seen")
    sequence = torch.tensor([sample for step in steps for sample in step])
    for epoch in sequence.split(len(batches)):
        if len(epoch) == len(batches) and not torch.equal(epoch.sort().values, batches.indices.sort().values):
            faults.append("an epoch does not see each sample exactly once")
    return faults
