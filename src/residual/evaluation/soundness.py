"""What a model is looked at for before it is kept or given away: names of classes, and the type of its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from residual.errors import ModelError
from residual.models import ResidualNetwork


def twin_of(names: Sequence[str]) -> str | None:
    """The first name that stands twice among others."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def mind_float32(network: ResidualNetwork) -> None:
    """See that a network is of the type that images are given to it in, and that files of models have.

    Raises:
        ModelError: a weight is of another.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            what = f"{name} is {tensor.dtype}"
            raise ModelError(what, network.spec.name, "give a network of float32: network.float()")
