"""What a network makes of images just before it names their classes: a vector for each, in a file.

features_NC float32, one row an image, C as the network's `embed` gives it (the average of its last maps). In a
`.safetensors` file the tensor is `features`, and the header's `files` (a JSON list, row by row) and `facts` (a JSON
object) say what it is; in an `.npz` file `features`, `files` (strings) and `facts` (JSON, one string) are arrays, and
none needs pickle. `facts` has the network in full, the preprocessing, the classes, and which run and step made it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from residual.errors import UsageError
from residual.evaluation.classifier import Classifier
from residual.files import replace_file

SUFFIXES = (".safetensors", ".npz")
FORMAT = 1


@dataclass
class Collector:
    """Listens to a classifier at work, and keeps the features of every batch, in order."""

    parts: list[Tensor] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def listen(self, classifier: Classifier) -> None:
        """From now on keep what the classifier's network embeds."""
        self.facts = {
            "format": FORMAT,
            "network": classifier.spec.model_dump(mode="json"),
            "class_names": list(classifier.class_names),
            "preprocessing": classifier.preprocessing.facts(),
            "provenance": classifier.provenance,
        }
        classifier.network.head.register_forward_hook(lambda _module, _inputs, output: self._keep(output))

    def _keep(self, features_NC: Tensor) -> None:
        self.parts.append(features_NC.detach().float().cpu())

    def features(self) -> Tensor:
        """float32 NC of all images so far."""
        return torch.cat(self.parts) if self.parts else torch.empty(0, 0)


def check_name(path: Path) -> None:
    """Refuse a name that tells no format, before anything is computed.

    Raises:
        UsageError: neither .safetensors nor .npz.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError("no such format of embeddings", path, f"let the name end in {' or '.join(SUFFIXES)}")


def save(path: Path, features_NC: Tensor, files: Sequence[str], facts: dict[str, Any]) -> None:
    """Write the features of files, whole or not at all; the name's ending says in which format.

    Raises:
        UsageError: the ending is of no format.  StorageError: the disk refused.
    """
    check_name(path)
    if len(files) != len(features_NC):
        raise ValueError(f"{len(features_NC)} rows for {len(files)} files")
    if path.suffix.lower() == ".npz":
        packed = io.BytesIO()
        names, told = np.array(list(files), dtype=np.str_), np.array(json.dumps(facts))
        np.savez(packed, features=features_NC.numpy(), files=names, facts=told)
        replace_file(path, packed.getvalue())
    else:
        header = {"files": json.dumps(list(files)), "facts": json.dumps(facts)}
        replace_file(path, safetensors.torch.save({"features": features_NC.contiguous()}, metadata=header))
