"""The devices of this machine, by the names `--device` takes."""

from __future__ import annotations

import torch

from residual.errors import EnvironmentFault


def devices() -> list[str]:
    """cpu first, then every GPU."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def choose_device(wanted: str) -> str:
    """The device meant: the first GPU for `auto` where there is one.

    Raises:
        EnvironmentFault: this machine has no such device; lists those it has.
    """
    present = devices()
    if wanted == "auto":
        return present[1] if len(present) > 1 else "cpu"
    name = "cuda:0" if wanted == "cuda" else wanted
    if name not in present:
        raise EnvironmentFault(f"no device {wanted[:40]} here", "--device", f"this machine has {', '.join(present)}")
    return name
