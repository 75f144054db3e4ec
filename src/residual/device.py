"""The devices of this machine, by the names `--device` takes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from residual.errors import EnvironmentFault, log

_usable: set[str] = set()
_told: set[tuple[str, str]] = set()
_home = os.getpid()
"""The process that imported this file; in a forked child of it the number is another."""


def forked() -> bool:
    """Whether this is a forked child, where GNU OpenMP hangs if the parent has used its threads."""
    return os.getpid() != _home


def mind_fork() -> None:
    """In a forked child let torch use one thread; call it before the first large tensor."""
    if forked():
        torch.set_num_threads(1)


@contextmanager
def at_home() -> Iterator[None]:
    """Within, tensors that name no device are made on the CPU, whatever `torch.set_default_device` was told: our chance
    is drawn there, so that weights and orders are the same on all machines."""
    usual = torch.get_default_device().type == "cpu"
    with nullcontext() if usual else torch.device("cpu"):
        yield


def devices() -> list[str]:
    """cpu first, then every GPU."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def choose_device(wanted: str | torch.device) -> str:
    """The device meant: for `auto` the first GPU that can be used, where there is one.

    Raises:
        EnvironmentFault: this machine has no such device, and why, or torch cannot use it; lists those it has.
    """
    present, wanted = devices(), str(wanted)
    keep_float32()
    if wanted == "auto":
        return next(one for one in (*present[1:], "cpu") if not _passed_over(one))
    name = {"cuda": "cuda:0", "mps:0": "mps"}.get(wanted, wanted)
    if name not in present:
        none_at_all = name.startswith("cuda") and not any(one.startswith("cuda") for one in present)
        why, remedy = _absence() if none_at_all else ("", "")
        what = f"no device {wanted[:40]} here{why}"
        raise EnvironmentFault(what, "--device", f"this machine has {', '.join(present)}{remedy}")
    refuse_faulty(name)
    return name


def fault_of(name: str) -> str | None:
    """What torch says of a device that it lists and cannot use; None where it can, which is tried until it does."""
    if name == "cpu" or name in _usable:
        return None
    try:
        float(torch.zeros(1, device=name) + 1)  # no kernels for it, held by another process, its memory full
    except RuntimeError as error:
        return first_line(error)
    _usable.add(name)
    return None


def refuse_faulty(name: str) -> None:
    """See that a device can be used.

    Raises:
        EnvironmentFault: it cannot, in the words of torch.
    """
    if (fault := fault_of(name)) is not None:
        what = f"{name} cannot be used, torch says: {fault}"
        raise EnvironmentFault(what, "--device", "name another device, or give --device cpu")


def _passed_over(name: str) -> bool:
    """Whether `auto` leaves a device out; each reason is said once."""
    fault = fault_of(name)
    if fault is not None and (name, fault) not in _told:
        _told.add((name, fault))
        log.warning("%s is passed over, since torch cannot use it: %s", name, fault)
    return fault is not None


def _absence() -> tuple[str, str]:
    """Why torch sees no GPU of CUDA, and what helps."""
    if torch.version.cuda is None and torch.version.hip is None:
        return ", this build of torch is for a CPU alone", "; for a GPU install torch as pytorch.org has it"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1", "NoDevFiles"):
        return f", CUDA_VISIBLE_DEVICES={hidden.strip()} hides them all", "; unset CUDA_VISIBLE_DEVICES"
    try:
        torch.cuda.init()
    except RuntimeError as error:
        return f", torch says: {first_line(error)}", "; see that nvidia-smi lists one"
    return "", ""


def first_line(error: RuntimeError) -> str:
    """What torch says, without the advice that follows."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return " ".join(line.split(". ")[0].split())[:160]


def keep_float32() -> None:
    """Have float32 be float32 on a GPU: torch lets cuDNN round the factors of convolutions to ten bits (TF32)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer names for it
        torch.backends.cudnn.allow_tf32 = False
        for name in ("conv", "rnn"):  # else these are as CUDA's own default is
            kind: Any = getattr(torch.backends.cudnn, name, None)
            if hasattr(kind, "fp32_precision"):
                kind.fp32_precision = "ieee"


def alike(device: str, wanted: str) -> bool:
    """Whether a wanted device (`auto` among them) is of the kind of another: cuda:1 and cuda:0."""
    kind = wanted if wanted != "auto" else choose_device(wanted)
    return kind.partition(":")[0] == device.partition(":")[0]


def alike_here(device: str) -> list[str]:
    """The devices of this machine that are of the kind of another one, that one first where it is here."""
    return sorted((one for one in devices() if alike(one, device)), key=lambda one: one != device)
