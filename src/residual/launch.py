"""What a launcher such as torchrun says of this process: its number, how many there are, where they meet.

Read from the environment, as torchrun sets it: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and
MASTER_PORT. Imports nothing heavy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from residual.errors import UsageError

_PLACE = "environment of the launcher"


@dataclass(frozen=True)
class Launch:
    """`rank` of `world` processes, `local` of `local_world` on this machine; they meet at `address`:`port`.

    `has_store` is true where the launcher keeps the store there itself, and rank 0 needs not.
    """

    rank: int
    world: int
    local: int
    local_world: int
    address: str
    port: int
    has_store: bool = False

    @property
    def command(self) -> str:
        """How such processes are begun."""
        return f"torchrun --nnodes {self.world // self.local_world} --nproc-per-node {self.local_world} -m residual"


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """The launch this process belongs to; None where it was started by itself.

    Raises:
        UsageError: half of the words are missing, or they contradict each other.
    """
    if not {"RANK", "WORLD_SIZE"} <= set(environment):
        return None
    world = _number(environment, "WORLD_SIZE", 1, 1 << 20)
    rank = _number(environment, "RANK", 0, world - 1)
    local_world = _number(environment, "LOCAL_WORLD_SIZE", 1, world, 1)
    local = _number(environment, "LOCAL_RANK", 0, local_world - 1, 0)
    if world == 1:
        return Launch(rank, world, local, local_world, "", 0)
    address = environment.get("MASTER_ADDR", "")
    if not address:
        raise UsageError("RANK is set and MASTER_ADDR is not", _PLACE, "start the processes with torchrun")
    port = _number(environment, "MASTER_PORT", 1, 65535)
    agent = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return Launch(rank, world, local, local_world, address, port, agent)


def speaks() -> bool:
    """Whether this process says and writes what several share: rank 0, or one that is alone."""
    launch = launched()
    return launch is None or launch.rank == 0


def _number(environment: Mapping[str, str], name: str, least: int, most: int, otherwise: int | None = None) -> int:
    text = environment.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not text.isdecimal() or not least <= int(text) <= most:
        what = f"{name} is {text[:40]!r}" if text is not None else f"{name} is not set"
        raise UsageError(f"{what}: it must lie in {least} to {most}", _PLACE, "start the processes with torchrun")
    return int(text)
