"""Values of settings as people give them: words of a command line, numbers and arrays of a program."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BeforeValidator
from torch import Tensor

from residual.errors import UsageError
from residual.models.spec import NONE_IS_A_CHOICE

NONE_IS_A_WORD = BeforeValidator(lambda value: "none" if value is None else value)
"""For settings with `none` among their words: `--set compute.compile=none` arrives as None, and means the word."""


TEXTS = frozenset(
    ("name", "source", "data.path", "data.group", "network.name", "start.weights", "start.freeze", "compute.device")
)
"""Settings that are text, whatever it looks like: a folder may be called 2024."""


def parse_override(text: str) -> tuple[str, Any]:
    """`path=value` as (path, typed value): TOML where it is TOML (0.1, true, [1, 2]), else a word.

    Raises:
        UsageError: there is no `=`, or no path.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UsageError("an override has the form path=value", f"--set {text[:80]}", "as in optimiser.momentum=0.9")
    value = value.strip()
    if value.lower() in ("none", "null"):
        # For some parts of a network `none` is a kind, not an absence.
        return path.strip(), "none" if path.strip().removeprefix("network.") in NONE_IS_A_CHOICE else None
    if path.strip() in TEXTS and value[:1] not in ('"', "'"):
        return path.strip(), value
    try:
        table = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):  # ValueError: not TOML, or a number of thousands of digits
        return path.strip(), value
    return path.strip(), table["value"] if len(table) == 1 else value


def plain(value: Any) -> Any:
    """Numbers and arrays of numpy and torch, and paths, as what a recipe can store."""
    match value:
        case np.generic() | np.ndarray() | Tensor():
            return value.tolist()
        case torch.device():
            return str(value)
        case os.PathLike():
            return os.fspath(value)
        case list() | tuple():
            return type(value)(plain(one) for one in value)
        case Mapping():
            return {name: plain(one) for name, one in value.items()}
    return value
