"""Our own files of weights: safetensors whose text says which network they are and how images must be prepared.

The text `residual` is JSON: `names` (the family whose names the tensors have), `network`, `class_names`,
`preprocessing` with its constants as numbers, `provenance`. Other programs read the tensors and pass over the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import safetensors.torch
from torch import Tensor

from residual.errors import ModelError
from residual.models.interchange.conversion import Family, Origin, Shapes, Sight
from residual.models.interchange.foreign import Foreign
from residual.models.networks import outline
from residual.models.spec import NetworkSpec

TEXT: Final = "residual"
FORMAT: Final = 1
_ADVICE = "export it again with `residual export RUN --to safetensors`"


def pack(tensors: Mapping[str, Tensor], names: str, description: Mapping[str, Any]) -> bytes:
    """The bytes of a safetensors file with its description; equal contents give equal bytes."""
    text = json.dumps({"format": FORMAT, "names": names, **description}, sort_keys=True, allow_nan=False)
    data = safetensors.torch.save(dict(tensors), metadata={"format": "pt", TEXT: text})
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])  # the library writes the texts in any order
    header = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)  # so that the tensors stay aligned
    return len(raw).to_bytes(8, "little") + raw + data[end:]


def description_of(foreign: Foreign, where: object) -> dict[str, Any] | None:
    """What a file of ours says of itself; None for any other file.

    Raises:
        ModelError: it is of a later release, or not what this program writes.
    """
    text = foreign.metadata.get(TEXT)
    if text is None:
        return None
    try:
        description = json.loads(text)
        if description["format"] > FORMAT:
            raise ModelError("the file was written by a newer release", where, "install that release")
        if not isinstance(description["names"], str) or not isinstance(description["provenance"], dict):
            raise ValueError("names or provenance")
        NetworkSpec.model_validate(description["network"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"the file's description cannot be used: {error!r:.120}", where, _ADVICE) from None
    return dict(description)


def _recognise(shapes: Shapes, where: str) -> NetworkSpec:
    raise ModelError(
        "the file does not say which network it is",
        where,
        f"its names alone do not; {_ADVICE}, or load it into residual.build(...) and save that with Classifier.of",
    )


def _origins(spec: NetworkSpec) -> dict[str, Origin]:
    return {name: Origin(name) for name in outline(spec).state_dict()}


def _sight(spec: NetworkSpec) -> Sight:
    raise ModelError("the file does not say how images must be prepared", spec.name, _ADVICE)


FAMILY: Final = Family(
    "safetensors", "this program", ("classifier.weight",), _recognise, _origins, lambda _: "", _sight
)
