"""A classifier that can be used alone: network, constants of preprocessing, class names, provenance.

The files of a model folder (and of every checkpoint) are `model.json`, `model.safetensors` and
`preprocessing.safetensors`; nothing else is needed to evaluate or predict.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from residual.data.preprocessing import Preprocessing
from residual.errors import ModelError
from residual.files import Damaged, canonical
from residual.models import NetworkSpec, ResidualNetwork, build, load_weights, pack_weights
from residual.sealed import read_folder

if TYPE_CHECKING:
    from residual.data.given import Given
    from residual.evaluation.predicting import OnError, Prediction

DESCRIPTION, WEIGHTS, CONSTANTS = "model.json", "model.safetensors", "preprocessing.safetensors"


def stored_preprocessing(contents: Mapping[str, bytes], where: object) -> Preprocessing:
    """The constants among a model folder's files, without its network.

    Raises:
        ModelError: they cannot be used.
    """
    try:
        facts, constants = json.loads(contents[DESCRIPTION]), safetensors.torch.load(contents[CONSTANTS])
        return Preprocessing.restore(facts["preprocessing"], constants)
    except (LookupError, ValueError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise ModelError(f"the constants cannot be used: {error!r:.200}", where, "restore the checkpoint") from None


@dataclass
class Classifier:
    """A network with what it takes to use it. `provenance` says which run, step and data made it."""

    network: ResidualNetwork
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    provenance: dict[str, Any]

    @property
    def spec(self) -> NetworkSpec:
        return self.network.spec

    def pack(self) -> dict[str, bytes]:
        """The files of a model folder, name to bytes."""
        description = {
            "network": self.spec.model_dump(mode="json"),
            "channels": self.preprocessing.channels,
            "class_names": list(self.class_names),
            "preprocessing": self.preprocessing.facts(),
            "provenance": self.provenance,
        }
        return {
            DESCRIPTION: canonical(description),
            WEIGHTS: pack_weights(self.network),
            CONSTANTS: safetensors.torch.save(self.preprocessing.tensors()),
        }

    @staticmethod
    def unpack(contents: dict[str, bytes], where: object) -> Classifier:
        """The classifier of a model folder's files.

        Raises:
            ModelError: the description and the weights do not fit each other, or a weight is not finite.
        """
        try:
            description: dict[str, Any] = json.loads(contents[DESCRIPTION])
            spec = NetworkSpec.model_validate(description["network"])
            weights, constants = contents[WEIGHTS], safetensors.torch.load(contents[CONSTANTS])
            preprocessing = Preprocessing.restore(description["preprocessing"], constants)
            names, provenance = description["class_names"], dict(description["provenance"])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ValueError("class_names is not a list of names")
            if preprocessing.channels != spec.channels:
                raise ValueError(f"preprocessing gives {preprocessing.channels} channels, not {spec.channels}")
        except (KeyError, ValueError, TypeError, RecursionError, safetensors.SafetensorError) as error:
            raise ModelError(f"the model's description cannot be used: {error!r:.200}", where, "restore it") from None
        if len(names) != spec.classes:
            raise ModelError(f"{len(names)} class names for {spec.classes} classes", where, "restore model.json")
        network = build(spec)
        load_weights(network, weights, where)
        network.eval()
        return Classifier(network, preprocessing, tuple(names), provenance)

    @staticmethod
    def load(folder: Path) -> Classifier:
        """The classifier in a model folder or a checkpoint, verified to the last byte.

        Raises:
            ModelError: absent, damaged, or of another kind.
        """
        try:
            contents = read_folder(folder, "model", "checkpoint")[1]
        except Damaged as error:
            raise ModelError(error.what, error.where, error.remedy) from None
        return Classifier.unpack(contents, folder)

    def predict(
        self,
        images: Given | Iterable[Given],
        *,
        top_k: int = 3,
        device: str = "auto",
        temperature: float | None = None,
        on_error: OnError = "raise",
    ) -> list[Prediction]:
        """The most probable classes of images, as `residual.predict` gives them, without loading anything again.

        Args:
            images: files, folders, Pillow images, uint8 arrays (HW, HWC or NHWC) or uint8 tensors (HW, CHW or NCHW);
                one of them, or several of any kind, each in its own size.
            top_k: how many classes to name.
            temperature: what the logits are divided by.
            on_error: "skip" leaves an image out that cannot be read, with a warning.

        Raises:
            DataError: an image cannot be read.  UsageError: what is given is no image.
        """
        from residual.evaluation.predicting import predict_images

        return predict_images(self, images, top_k=top_k, device=device, temperature=temperature, on_error=on_error)

    @torch.inference_mode()
    def logits(self, images: Sequence[Tensor] | Tensor, device: torch.device | None = None) -> Tensor:
        """float32 NK, on the CPU, of uint8 images CHW in the model's geometry.

        Raises:
            ModelError: one is not finite.
        """
        device = device or torch.device("cpu")
        batch = images if isinstance(images, Tensor) else torch.stack(list(images))
        self.network.to(device).eval()
        answers: Tensor = self.network(self.preprocessing.normalise(batch.to(device)))
        return finite(answers.float().cpu(), self.spec.name)

    def probabilities(
        self, images: Sequence[Tensor] | Tensor, device: torch.device | None = None, temperature: float = 1.0
    ) -> Tensor:
        """float32 NK class probabilities, on the CPU, of uint8 images CHW in the model's geometry."""
        return shares(self.logits(images, device), temperature)


def finite(logits_NK: Tensor, where: object) -> Tensor:
    """The logits as they are.

    Raises:
        ModelError: one is not finite, so that nothing follows from them.
    """
    if not bool(logits_NK.isfinite().all()):
        remedy = "its weights are too large for float32: take an earlier checkpoint, or another model"
        raise ModelError("the network's answers are not finite", where, remedy)
    return logits_NK


def shares(logits_NK: Tensor, temperature: float = 1.0) -> Tensor:
    """float32 NK probabilities; the largest logit is taken off first, since a small temperature overflows others."""
    return ((logits_NK - logits_NK.amax(1, keepdim=True)) / temperature).softmax(1)
