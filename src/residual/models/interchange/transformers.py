"""The ResNet of Hugging Face Transformers: its names, and what its `config.json` tells beside them.

Source: transformers.models.resnet (its release 5.24), `ResNetForImageClassification`: the stem is
`resnet.embedder.embedder`, a unit `resnet.encoder.stages.S.layers.U` with `layer.0`, `.1` (and `.2`) and `shortcut`,
each a `convolution` and a `normalization`, the last layer `classifier.1`. The functions are torchvision's, with the
stride of a bottleneck in the 3x3 unless `downsample_in_bottleneck`, which no tensor tells.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from residual.errors import ModelError
from residual.models.interchange.conversion import Family, Origin, Shapes, Sight, described, unlike
from residual.models.interchange.stages import channels_of, read_stages
from residual.models.interchange.torchvision import MEAN, RESIZED, RESNET, STD, assumed, resnet_parts
from residual.models.networks import outline
from residual.models.spec import NetworkSpec

_FIRST: Final = "resnet.embedder.embedder.convolution.weight"
_LAST: Final = "classifier.1.weight"
_UNITS: Final = (
    r"resnet\.encoder\.stages\.(?P<stage>\d{1,5})\.layers\.(?P<unit>\d{1,5})\.layer\.(?P<conv>[012])"
    r"\.convolution\.weight"
)
_LAYERS: Final = {"conv": "convolution", "norm": "normalization"}


def sight(_: NetworkSpec) -> Sight:
    words = "ImageNet's constants, resized bicubically, as microsoft/resnet-50 has them"
    return Sight(224, RESIZED, MEAN, STD, words, "bicubic")


def recognise(shapes: Shapes, where: str) -> NetworkSpec:
    """The ResNet with the stem of the paper; classes, channels, depths and widths from the shapes."""
    stages = read_stages(shapes, _UNITS, where, first_convolution=0)
    if channels_of(shapes, _FIRST, 4, 2, where) != 7:
        raise ModelError(
            "its first convolution is not 7x7", where, "Transformers has no such ResNet; take another file"
        )
    parts = resnet_parts(shapes, stages.depths, stages.widths, stages.bottleneck, where, (_FIRST, _LAST))
    return described(where, parts)


def parts_beside(config: Mapping[str, Any], where: object) -> dict[str, Any]:
    """The parts of a network that its `config.json` tells and its tensors do not; nothing for another model's.

    Raises:
        ModelError: it tells of a network that is not here.
    """
    if config.get("model_type") != "resnet":
        return {}
    if config.get("hidden_act", "relu") != "relu":
        what = f"its activation is {config['hidden_act']!s:.40}"
        raise ModelError(what, where, "networks here have ReLU; take another file")
    if config.get("downsample_in_first_stage", False):
        raise ModelError("its first stage has stride 2 after the pooling", where, "that is no network here")
    if config.get("layer_type", "bottleneck") != "bottleneck":
        return {}
    return {"stride": "1x1" if config.get("downsample_in_bottleneck", False) else "3x3"}


def config_of(spec: NetworkSpec) -> dict[str, Any]:
    """What `ResNetConfig` must be told to build the network."""
    grown = 4 if spec.unit == "bottleneck" else 1
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": spec.channels,
        "embedding_size": spec.widths[0],
        "hidden_sizes": [width * grown for width in spec.widths],
        "depths": list(spec.depths),
        "layer_type": spec.unit,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": spec.unit == "bottleneck" and spec.stride == "1x1",
    }


def origins(spec: NetworkSpec) -> dict[str, Origin]:
    return {name: Origin(_renamed(name)) for name in outline(spec).state_dict()}


def _renamed(name: str) -> str:
    match name.split("."):
        case ["stem", layer, variable]:
            return f"resnet.embedder.embedder.{_LAYERS[layer]}.{variable}"
        case ["stages", stage, unit, "shortcut", layer, variable]:
            return f"resnet.encoder.stages.{stage}.layers.{unit}.shortcut.{_LAYERS[layer]}.{variable}"
        case ["stages", stage, unit, layer, variable] if found := re.fullmatch(r"(conv|norm)([123])", layer):
            place = f"resnet.encoder.stages.{stage}.layers.{unit}.layer.{int(found[2]) - 1}"
            return f"{place}.{_LAYERS[found[1]]}.{variable}"
        case ["classifier", variable]:
            return f"classifier.1.{variable}"
    return name


def refusal(spec: NetworkSpec) -> str:
    """Why Transformers has no such ResNet; empty where it has."""
    wanted = {name: value for name, value in RESNET.items() if name != "widths"}
    stride = ("1x1", "3x3") if spec.unit == "bottleneck" else "1x1"
    return unlike(spec, {"stem": "7x7", "shortcut": "B", "stride": stride, **wanted}, "Transformers")


FAMILY: Final = Family(
    "transformers",
    "Transformers (Hugging Face)",
    (_FIRST, "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight", _LAST),
    recognise,
    origins,
    refusal,
    sight,
    assumed,
)
