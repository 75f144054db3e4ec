"""Randomness is an address, not a state: the same address gives the same draws, always.

Nothing in a run stores the state of a generator. The order of the images is drawn at
(seed, "order", epoch), their augmentation at (seed, "augment", epoch), a weight at
(seed, "initialise", its name), so any of them can be had again at any time at the same cost.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Generator

Address = str | int


def derive(seed: int, *address: Address) -> int:
    """A 63-bit integer for one place in a run."""
    digest = hashlib.sha256(repr((seed, *address)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *address: Address) -> Generator:
    """A fresh CPU generator for one place in a run: same address, same draws."""
    return Generator().manual_seed(derive(seed, *address))


def seed_device(seed: int, device: torch.device) -> None:
    """Give torch's own generators, of the CPU and of this device, the state of a seed: what dropout draws from.

    The same draws as after `torch.manual_seed`, which asks every kind of device there is, at many times the cost.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.init()  # before it there are no generators
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
