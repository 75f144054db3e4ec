"""What a model is looked at for before it is kept or given away: names of classes, and the type of its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch

from residual.errors import ModelError, UsageError
from residual.models import ResidualNetwork

NAMES = "give one name for each class, in the order of the network's answers"


def named_classes(class_names: Iterable[str]) -> tuple[str, ...]:
    """The names of classes as a person gives them.

    Raises:
        UsageError: they are a single text, or fewer than two.
    """
    if isinstance(class_names, str):
        raise UsageError(f"class_names is {class_names!r:.60}, a single text", "class_names", NAMES)
    names = tuple(map(str, class_names))
    if len(names) < 2:
        raise UsageError(f"class_names are {len(names)}, and a classifier has two or more", "class_names", NAMES)
    return names


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
