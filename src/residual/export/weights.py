"""A classifier's weights as a file for other programs: torchvision's, timm's, Transformers' or our own names.

As safetensors the file also says which network it is, how images are prepared and what the classes are called, in a
text that other programs pass over. As `.pth` it is a plain dictionary of tensors, which says none of it.
"""

from __future__ import annotations

import io
from typing import Final, Literal

import torch

from residual.errors import ModelError
from residual.evaluation.classifier import Classifier
from residual.homes import without_homes
from residual.models import NetworkSpec
from residual.models.interchange import own
from residual.models.interchange.conversion import Family, rename
from residual.models.interchange.families import FAMILIES

Target = Literal["torchvision", "timm", "transformers", "safetensors"]
_EXACT: Final = "export it as safetensors, which keeps any network"


def family_for(spec: NetworkSpec, target: Target) -> Family:
    """The names a network has there.

    Raises:
        ModelError: the library has no such network; says which parts it lacks.
    """
    if target == "safetensors":
        return own.FAMILY
    if target == "torchvision":
        family = FAMILIES["torchvision-vgg" if spec.head == "vgg" else "torchvision"]
    elif target == "transformers":
        family = FAMILIES["transformers"]
    else:
        family = FAMILIES["timm-v2" if spec.pre_activation else "timm-d" if spec.stem == "3-conv" else "timm"]
    reason = family.refusal(spec)
    if reason:
        raise ModelError(f"{target} has no network like {spec.name}: {reason}", "--to", _EXACT)
    return family


def _mind_rounding(classifier: Classifier, target: Target) -> None:
    """Refuse a VGG whose images have other answers there: pooling leaves out the last pixel of an odd side.

    Raises:
        ModelError: they have.
    """
    spec, (height, width) = classifier.spec, classifier.preprocessing.image_size
    step = 1 << len(spec.depths)
    if spec.downsampling == "max-pool" and spec.pool_rounding == "up" and (height % step or width % step):
        what = f"{target} pools an odd side without its last pixel, {spec.name} here with it"
        what += f", and images of {height} x {width} pixels have such sides"
        raise ModelError(what, "--to", f"{_EXACT}; sides of {step}, {2 * step}, ... are answered alike")


def pack(classifier: Classifier, target: Target, plain: bool = False) -> bytes:
    """The bytes of a file of weights.

    Args:
        plain: a dictionary as `torch.save` writes it, without any description.
    """
    family = family_for(classifier.spec, target)
    if target != "safetensors":
        _mind_rounding(classifier, target)
    tensors = rename(classifier.network, family)
    if plain:
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        return buffer.getvalue()
    preprocessing = classifier.preprocessing
    description = {
        "network": classifier.spec.model_dump(mode="json"),
        "class_names": list(classifier.class_names),
        "preprocessing": preprocessing.facts(),
        "constants": {name: tensor.tolist() for name, tensor in preprocessing.tensors().items()},
        "provenance": without_homes(classifier.provenance),
    }
    return own.pack(tensors, family.name, description)
