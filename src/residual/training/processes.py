"""Several processes that train one run: the only file that knows torch.distributed.

They are begun by a launcher such as torchrun, meet at the address it names, and are given to everyone else as `Ranks`.
Tensors of a GPU travel by nccl where each process has one of its own, all else by gloo. Whoever ends with an error
leaves it to the others (`watch.py`); each ends with the first cause and its exit code.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from pydantic import BaseModel, Field
from torch import Tensor

from residual.errors import EnvironmentFault, ResidualError, UsageError, log
from residual.files import canonical
from residual.launch import Launch, launched
from residual.ranks import ALONE, Ranks, own_gpu
from residual.training.watch import Watch

if dist.is_available():  # torch can be built without, and trains in one process
    from torch.distributed.distributed_c10d import _set_pg_timeout

    PrefixStore, TCPStore = dist.PrefixStore, dist.TCPStore  # type: ignore[attr-defined]  # the stubs leave them out
T = TypeVar("T")
TIMEOUT = 600.0
"""Seconds without a sign of life after which a process is given up."""
BatchNorm = Literal["synchronised", "per-process"]
_SLACK = 60.0
"""Seconds that a network has to connect all processes beyond what the watch allows."""
_LAST = 10.0
"""Seconds that the one who keeps the store waits for the others to read the cause."""


class ProcessSettings(BaseModel, frozen=True, extra="forbid"):
    """What a recipe's `[processes]` table holds; for one process nothing follows from it."""

    batch_norm: BatchNorm = Field(
        "synchronised",
        description="batch normalisation sees the whole batch, as one process would, or its process's share of it",
    )
    timeout: float = Field(
        TIMEOUT, ge=1, le=1e6, description="seconds without a sign of life after which a process is given up"
    )


class Group(Ranks):
    """Processes that meet by torch.distributed."""

    def __init__(self, launch: Launch, watch: Watch, direct: bool = True) -> None:
        self.rank, self.world, self.local, self.direct = launch.rank, launch.world, launch.local, direct
        self.watch = watch

    def add(self, *tensors: Tensor) -> None:
        with self.watch.meeting():
            for tensor in tensors:
                dist.all_reduce(tensor)

    def largest(self, number: int) -> int:
        found = torch.tensor(number)
        with self.watch.meeting():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def first(self, make: Callable[[], T]) -> T:
        value: T = json.loads(self._told(canonical(make()) if self.rank == 0 else b""))
        return value

    def first_files(self, make: Callable[[], Mapping[str, bytes]]) -> Mapping[str, bytes]:
        files = make() if self.rank == 0 else {}
        names = self.first(lambda: list(files))
        return {name: self._told(files[name] if self.rank == 0 else b"") for name in names}

    def _told(self, data: bytes) -> bytes:
        """The bytes of rank 0."""
        length = torch.tensor(len(data))
        with self.watch.meeting():
            dist.broadcast(length, 0)
        if not int(length):
            return b""
        # A copy, since torch asks for memory that may be written to.
        content = torch.frombuffer(bytearray(data or bytes(int(length))), dtype=torch.uint8)
        with self.watch.meeting():
            dist.broadcast(content, 0)
        return content.numpy().tobytes()

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        if self.local:
            self.meet()
        yield
        if not self.local:
            self.meet()

    def meet(self) -> None:
        self.largest(0)

    def moved(self, step: int | None = None) -> None:
        self.watch.moved(step)

    def be_patient(self, seconds: float) -> None:
        self.watch.timeout = seconds


@contextmanager
def joined(timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """The processes of this launch, met and together until the end of the block; alone, where there is no launcher.

    What is raised within ends all of them, each with the first cause.

    Raises:
        UsageError: the program has begun torch.distributed itself.
        EnvironmentFault: they do not meet within `timeout` seconds, which names who is missing; or torch cannot.
        Elsewhere: another process has ended with an error, or is gone.
    """
    launch = launched()
    if launch is None or launch.world == 1:
        yield ALONE
        return
    if not dist.is_available():
        what = "this build of torch has no torch.distributed, by which processes meet"
        raise EnvironmentFault(what, "torch", "install another, or train in one process")
    if dist.is_initialized():
        what = "torch.distributed is in use by this program, and a training of several processes begins it itself"
        raise UsageError(what, "residual.train", "train before init_process_group, or after destroy_process_group")
    store, name = _meet(launch, timeout)
    watch = Watch(PrefixStore(name, store.clone()), launch.rank, launch.world, timeout)
    store = PrefixStore(name, store)
    level = log.level
    try:
        watch.start()
        group = Group(launch, watch, _begin(launch, store, timeout))
        group.meet()
        if launch.rank:
            log.setLevel(logging.ERROR)  # rank 0 says it for all
        yield group
        group.meet()
    except Exception as error:
        cause, own = watch.fail(error)
        if not own:
            raise cause from error
        if isinstance(error, ResidualError):
            error.what = cause.what
        raise
    finally:
        log.setLevel(level)
        _end(launch, store, watch)


def _meet(launch: Launch, timeout: float) -> tuple[Any, str]:
    """A store, and a name under which it holds what these very processes put there, whoever met there before.

    Every process comes with a token of its own, which rank 0 answers with the name of this meeting.
    """
    until, where = time.monotonic() + timeout, f"{launch.address}:{launch.port}"
    hosts = launch.rank == 0 and not launch.has_store
    store = _connected(launch, hosts, timeout, where)
    missing = set(range(1, launch.world))
    name, token = uuid.uuid4().hex, uuid.uuid4().hex
    try:
        if launch.rank == 0:
            while missing and time.monotonic() < until:
                _answer(store, launch, name)
                missing = {rank for rank in missing if not store.check([f"{name}/here/{rank}"])}
                time.sleep(0.02)
            if missing:
                who = ", ".join(map(str, sorted(missing)[:8]))
                what = f"rank {who} of {launch.world} did not come within {timeout:g} s"
                raise EnvironmentFault(what, where, "see that it has started, and what it said")
        else:
            store.set(f"residual/token/{launch.rank}", token)
            while not store.check([f"residual/answer/{token}"]):
                if time.monotonic() > until:
                    what = f"rank 0 of {launch.world} gave no answer within {timeout:g} s"
                    raise EnvironmentFault(what, where, "see that it has started, and what it said")
                time.sleep(0.02)
            name = store.get(f"residual/answer/{token}").decode()
            store.set(f"{name}/here/{launch.rank}", "")
    except RuntimeError:
        raise EnvironmentFault("the processes lost each other at the start", where, "begin again") from None
    return store, name


def _connected(launch: Launch, hosts: bool, timeout: float, where: str) -> Any:
    """The store at the address of the launch. Another program that listens there may never answer: nobody waits on."""
    found: list[Any] = []

    def connect() -> None:
        try:
            # Of several tenants, so that one process can meet a second time.
            wait = timedelta(seconds=timeout)
            libuv = sys.platform != "win32"  # torch for Windows is built without it
            found.append(
                TCPStore(launch.address, launch.port, None, hosts, wait, False, multi_tenant=True, use_libuv=libuv)
            )
        except RuntimeError as error:
            found.append(error)

    thread = threading.Thread(target=connect, daemon=True, name="residual-connect")
    thread.start()
    thread.join(timeout + 1)
    if found and not isinstance(found[0], RuntimeError):
        return found[0]
    if hosts and found:
        what = f"port {launch.port} cannot be used"
        raise EnvironmentFault(f"{what}: {_reason(found[0])}", "MASTER_PORT", "choose another one")
    what = f"rank {launch.rank} cannot reach rank 0 within {timeout:g} s"
    raise EnvironmentFault(what, where, "see that rank 0 has started, and what lies between the machines")


def _reason(error: RuntimeError) -> str:
    text = str(error)
    return "it is in use" if "EADDRINUSE" in text or "already in use" in text else " ".join(text.split())[:200]


def _answer(store: Any, launch: Launch, name: str) -> None:
    for rank in range(1, launch.world):
        if store.check([f"residual/token/{rank}"]):
            token = store.get(f"residual/token/{rank}").decode()
            store.set(f"residual/answer/{token}", name)


def _begin(launch: Launch, store: Any, timeout: float) -> bool:
    """Set torch.distributed up; once connected, its own timeouts are none: it sees no signs of life, the watch does.

    Returns whether tensors of GPUs travel by nccl.
    """
    try:
        direct = _each_has_a_gpu(launch, store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if direct else "gloo",
            store=PrefixStore("torch", store),
            rank=launch.rank,
            world_size=launch.world,
            timeout=timedelta(seconds=2 * timeout + _SLACK),
        )
        _set_pg_timeout(timedelta(days=3650))
    except RuntimeError as error:
        text = " ".join(str(error).split())[:200]
        what = f"the processes cannot be connected: {text}"
        raise EnvironmentFault(what, "network", "name the network with GLOO_SOCKET_IFNAME, as in eth0") from None
    return direct


def _each_has_a_gpu(launch: Launch, store: Any) -> bool:
    """Whether every process has a GPU of its own, and nccl; all come to the same answer, from what all have told.

    A launcher may show each process every GPU of the machine, or its own alone.
    """
    own = ""
    if torch.cuda.is_available() and dist.is_nccl_available():
        gpu = torch.cuda.get_device_properties(own_gpu(launch.local, torch.cuda.device_count()))
        own = f"{platform.node()} {gpu.uuid}"
    store.set(f"gpu/{launch.rank}", own)
    told = {store.get(f"gpu/{rank}") for rank in range(launch.world)}
    return len(told) == launch.world and b"" not in told


def _end(launch: Launch, store: Any, watch: Watch) -> None:
    """Part: connections first, so that whoever still waits in a meeting comes back from it."""
    if dist.is_initialized():
        dist.destroy_process_group()
    watch.stop()
    with suppress(RuntimeError):
        store.set(f"left/{launch.rank}", "")
        if launch.rank == 0 and not launch.has_store:
            until = time.monotonic() + _LAST
            while not store.check([f"left/{rank}" for rank in range(launch.world)]) and time.monotonic() < until:
                time.sleep(0.02)
