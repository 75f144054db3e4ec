"""The devices of this machine, by the names `--device` takes."""

from __future__ import annotations

import os
import warnings

import torch

from residual.errors import EnvironmentFault

_home = os.getpid()
"""The process that imported this file; in a forked child of it the number is another."""


def forked() -> bool:
    """Whether this is a forked child, where GNU OpenMP hangs if the parent has used its threads."""
    return os.getpid() != _home


def mind_fork() -> None:
    """In a forked child let torch use one thread; call it before the first large tensor."""
    if forked():
        torch.set_num_threads(1)


def devices() -> list[str]:
    """cpu first, then every GPU."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def choose_device(wanted: str | torch.device) -> str:
    """The device meant: the first GPU for `auto` where there is one.

    Raises:
        EnvironmentFault: this machine has no such device; lists those it has.
    """
    present, wanted = devices(), str(wanted)
    keep_float32()
    if wanted == "auto":
        return present[1] if len(present) > 1 else "cpu"
    name = "cuda:0" if wanted == "cuda" else wanted
    if name not in present:
        raise EnvironmentFault(f"no device {wanted[:40]} here", "--device", f"this machine has {', '.join(present)}")
    return name


def keep_float32() -> None:
    """Have float32 be float32 on a GPU: torch lets cuDNN round the factors of convolutions to ten bits (TF32)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a newer name for it, which leaves the one for recurrent layers as it was
        torch.backends.cudnn.allow_tf32 = False


def alike(device: str, wanted: str) -> bool:
    """Whether a wanted device (`auto` among them) is of the kind of another: cuda:1 and cuda:0."""
    kind = wanted if wanted != "auto" else choose_device(wanted)
    return kind.partition(":")[0] == device.partition(":")[0]


def alike_here(device: str) -> list[str]:
    """The devices of this machine that are of the kind of another one, that one first where it is here."""
    return sorted((one for one in devices() if alike(one, device)), key=lambda one: one != device)
