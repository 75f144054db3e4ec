"""The state of a run: the step, the classifier, and named parts. What a checkpoint holds is decided here.

Each part gives tensors and JSON facts and takes them back, so a new part changes no checkpoint code.
No random state is among them: chance follows from the seed and the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import safetensors
import safetensors.torch
from torch import Tensor

from residual.errors import ModelError
from residual.evaluation.classifier import WEIGHTS, Classifier
from residual.files import canonical
from residual.models import load_weights

STATE, FACTS = "state.safetensors", "state.json"
MAY_CHANGE = {"scaling"}
"""Parts that belong to the precision, which may be changed for a session: new ones begin, old ones are let go."""


class Part(Protocol):
    """A named part of the training state."""

    def tensors(self) -> dict[str, Tensor]: ...

    def facts(self) -> dict[str, Any]: ...

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None: ...


@dataclass
class TrainState:
    """`step` counts finished steps; `seconds` is the time spent training so far, over all sessions."""

    classifier: Classifier
    parts: Mapping[str, Part]
    step: int = 0
    seconds: float = 0.0

    def pack(self, identity: str, records: Mapping[str, Any]) -> dict[str, bytes]:
        """The files of a checkpoint.

        Args:
            identity: what run this is; a checkpoint goes back only into the run it came from.
            records: length and SHA-256 of the record file at this step.
        """
        tensors = {
            f"{name}/{key}": tensor.detach().cpu().contiguous()
            for name, part in self.parts.items()
            for key, tensor in part.tensors().items()
        }
        facts = {
            "step": self.step,
            "identity": identity,
            "records": dict(records),
            "parts": {name: part.facts() for name, part in self.parts.items()},
            "time": {"seconds": self.seconds},
        }
        return self.classifier.pack() | {STATE: safetensors.torch.save(tensors), FACTS: canonical(facts)}

    def restore(self, contents: Mapping[str, bytes], identity: str, where: object) -> dict[str, Any]:
        """Take a checkpoint's files back; returns the facts about the record file.

        Raises:
            ModelError: the checkpoint belongs to another run or lacks a part this run needs.
        """
        try:
            facts = json.loads(contents[FACTS])
            tensors = safetensors.torch.load(contents[STATE])
            weights = contents[WEIGHTS]
            parts, step = facts["parts"], facts["step"]
        except (KeyError, ValueError, safetensors.SafetensorError) as error:
            raise ModelError(
                f"the checkpoint cannot be used: {error!r:.200}", where, "remove that checkpoint"
            ) from None
        if facts["identity"] != identity:
            raise ModelError(
                "recipe, data or choices are not those of the checkpoint", where, "restore run.json and recipe.toml"
            )
        unlike = ", ".join(sorted((set(parts) ^ set(self.parts)) - MAY_CHANGE))
        if unlike:
            raise ModelError(f"the checkpoint's parts differ: {unlike}", where, "use the release that wrote it")
        load_weights(self.classifier.network, weights, where)
        for name, part in self.parts.items():
            own = {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}
            if name in parts:
                part.restore(own, parts[name])
        self.step, self.seconds = step, facts["time"]["seconds"]
        return dict(facts["records"])
