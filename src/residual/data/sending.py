"""From the host to the device of a batch."""

from __future__ import annotations

from collections import deque
from typing import Final

import torch
from torch import Tensor

LARGE: Final = 1 << 22
"""Bytes from which on it counts how many copies wait."""
WAITING: Final = 4
_copies: deque[torch.cuda.Event] = deque()


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on a device; to a GPU they travel from pinned memory, so that the host does not wait for its queue.

    Of large ones a few wait at a time: the host may be many steps ahead, and pinned memory is the machine's own.
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    if values.nbytes < LARGE:
        return values.pin_memory().to(device, non_blocking=True)
    while len(_copies) >= WAITING:
        _copies.popleft().synchronize()
    found = values.pin_memory().to(device, non_blocking=True)
    _copies.append(torch.cuda.current_stream(device).record_event())
    return found
