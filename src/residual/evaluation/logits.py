"""What is asked of logits before anything follows from them, and the probabilities that do."""

from __future__ import annotations

import math

from torch import Tensor

from residual.errors import ModelError, UsageError

_COLDEST = 1e-30


def finite(logits_NK: Tensor, where: object) -> Tensor:
    """The logits as they are.

    Raises:
        ModelError: one is not finite, so that nothing follows from them.
    """
    if not bool(logits_NK.isfinite().all()):
        remedy = "its weights are too large for float32: take an earlier checkpoint, or another model"
        raise ModelError("the network's answers are not finite", where, remedy)
    return logits_NK


def check_temperature(temperature: object, where: str, remedy: str) -> None:
    """Refuse what logits cannot be divided by.

    Raises:
        UsageError: it is no number above 0, or one that float32 does not hold.
    """
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not _COLDEST <= temperature < math.inf:  # type: ignore[operator]
        raise UsageError(f"the temperature is {temperature}", where, remedy)


def shares(logits_NK: Tensor, temperature: float = 1.0) -> Tensor:
    """float32 NK probabilities; the largest logit is taken off first, since a small temperature overflows others."""
    return ((logits_NK - logits_NK.amax(1, keepdim=True)) / temperature).softmax(1)
