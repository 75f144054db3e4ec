"""Weights as bytes and back: safetensors, every name, shape and type accounted for.

A file holds the state dictionary: parameters, running statistics and their counters, each contiguous.
Source of the format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from residual.errors import ModelError

_SHOWN = 5


def pack_weights(network: nn.Module) -> bytes:
    """The network's state dictionary as the bytes of a safetensors file; equal weights give equal bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(tensors)


def load_weights(network: nn.Module, data: bytes, where: object) -> None:
    """Copy the weights in `data` into `network`, all or none; `where` names the file in an error.

    The tensors of the network stay where they are: device and memory format are kept. Raises `ModelError` when
    the bytes are not safetensors, when names, shapes or types differ, or when a value is not finite.
    """
    try:
        stored = safetensors.torch.load(data)
        _refuse_twins(data)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ModelError("the weights cannot be read", where, f"{error}; restore the file or save it again") from None

    own: Mapping[str, Tensor] = network.state_dict()
    differences = list(_differences(own, stored))
    if differences:
        remedy = "load them into the network they were saved from"
        raise ModelError("the weights do not fit the network", where, f"{_first(differences)}; {remedy}")
    poisoned = [name for name, tensor in stored.items() if not _finite(tensor)]
    if poisoned:
        raise ModelError("the weights are not all finite", where, f"{_first(poisoned)}; go back to an earlier save")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(stored[name])


def _refuse_twins(data: bytes) -> None:
    """The library takes the last of two entries of one name in silence; we say that there are two."""

    def single(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twin = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twin:.80} is there twice")
        return dict(pairs)

    json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=single)


def _differences(own: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in own.items():
        if name not in stored:
            yield f"{name} is missing"
        elif stored[name].shape != tensor.shape:
            yield f"{name} has shape {list(stored[name].shape)}, not {list(tensor.shape)}"
        elif stored[name].dtype != tensor.dtype:
            yield f"{name} has type {_type(stored[name])}, not {_type(tensor)}"
    for name in sorted(stored.keys() - own.keys()):
        yield f"{name} is unknown"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _first(lines: list[str]) -> str:
    rest = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return ", ".join(lines[:_SHOWN]) + rest
