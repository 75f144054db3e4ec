"""torchvision's ResNet and VGG: their names, and the networks they are.

Source: torchvision.models.resnet and .vgg (its release 0.29): `conv1, bn1, layer1.0.conv1, ..., layer1.0.downsample.0`
(convolution) `.1` (BN), `fc`; `features.N`, `classifier.0/3/6`. A bottleneck has its stride in the 3x3, which
torchvision calls v1.5. VGG may have batch normalisation after every convolution.
"""

from __future__ import annotations

import re
from typing import Any, Final

from residual.errors import ModelError
from residual.models.interchange.conversion import (
    PLAIN_SUM,
    Family,
    Origin,
    Shapes,
    Sight,
    described,
    unlike,
)
from residual.models.interchange.stages import channels_of, read_stages
from residual.models.networks import outline
from residual.models.spec import NetworkSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESIZED: Final = 224 / 256
SMALL_STEMS: Final = ("3x3", "3x3/2")
"""Without pooling, as people give them to networks of these names for small images."""
WIDTHS: Final = (64, 128, 256, 512)
UNITS: Final = r"layer(?P<stage>\d{1,5})\.(?P<unit>\d{1,5})\.conv(?P<conv>[123])\.weight"


def sight(spec: NetworkSpec) -> Sight:
    if spec.stem in SMALL_STEMS:
        mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
        side = 32 if spec.stem == "3x3" else 64
        return Sight(side, 1.0, mean, std, "constants usual for CIFAR-10, not known to be those of the training")
    return Sight(224, RESIZED, MEAN, STD, "ImageNet's constants, as torchvision's first weights were trained")


def recognise(shapes: Shapes, where: str, stem: str | None = None) -> NetworkSpec:
    """The ResNet with the stem of the paper; classes, channels, depths and widths from the shapes.

    Args:
        stem: another stem, of `SMALL_STEMS`: its convolution does not tell what follows it, so somebody must.
    """
    stages = read_stages(shapes, UNITS, where, start=1)
    side = channels_of(shapes, "conv1.weight", 4, 2, where)
    if side != (7 if stem is None else 3):
        remedy = (
            "networks of these names have 7x7 here: of another stem the tensors do not tell whether pooling follows"
        )
        ways = {3: f"{remedy}; where none does, give --stem 3x3, or 3x3/2 if it has stride 2", 7: "leave out --stem"}
        raise ModelError(f"its first convolution is {side}x{side}", where, ways.get(side, remedy))
    parts = resnet_parts(shapes, stages.depths, stages.widths, stages.bottleneck, where)
    return described(where, parts if stem is None else parts | {"stem": stem})


def resnet_parts(
    shapes: Shapes,
    depths: tuple[int, ...],
    widths: tuple[int, ...],
    bottleneck: bool,
    where: str,
    ends: tuple[str, str] = ("conv1.weight", "fc.weight"),
) -> dict[str, Any]:
    """The parts that torchvision's, timm's and Transformers' ResNets of that shape share.

    Args:
        ends: the names of the first and the last layer's weights.
    """
    first, last = ends
    return {
        "depths": depths,
        "widths": widths,
        "stem": "7x7",
        "unit": "bottleneck" if bottleneck else "basic",
        "stride": "3x3" if bottleneck else "1x1",
        "shortcut": "B",
        "classes": channels_of(shapes, last, 2, 0, where),
        "channels": channels_of(shapes, first, 4, 1, where) if first in shapes else 3,
    }


_NAMES: Final = (
    (r"stem\.conv\.", "conv1."),
    (r"stem\.norm\.", "bn1."),
    (r"(layer\d+\.\d+\.)norm(\d)\.", r"\1bn\2."),
    (r"(layer\d+\.\d+\.)shortcut\.conv\.", r"\1downsample.0."),
    (r"(layer\d+\.\d+\.)shortcut\.norm\.", r"\1downsample.1."),
    (r"classifier\.", "fc."),
)


def origins(spec: NetworkSpec) -> dict[str, Origin]:
    return {name: Origin(renamed(name, _NAMES)) for name in outline(spec).state_dict()}


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    """A tensor's name after the rules, with stages counted from 1 as `layer`."""
    name = re.sub(r"^stages\.(\d+)\.", lambda match: f"layer{int(match[1]) + 1}.", name)
    for pattern, replacement in rules:
        name = re.sub(f"^{pattern}", replacement, name)
    return name


def assumed(spec: NetworkSpec) -> tuple[str, ...]:
    """The place of a bottleneck's stride, in which weights from Caffe by these names differ."""
    return ("the tensors do not tell: bottlenecks have their stride in the 3x3",) if spec.unit == "bottleneck" else ()


RESNET: Final[dict[str, Any]] = {
    **PLAIN_SUM,
    "widths": WIDTHS,
    "unit": ("basic", "bottleneck"),
    "order": "original",
    "norm_eps": 1e-5,
    "projection_norm": True,
    "conv_bias": False,
}


def refusal(spec: NetworkSpec) -> str:
    """Why torchvision has no such ResNet; empty where it has."""
    stride = "3x3" if spec.unit == "bottleneck" else "1x1"
    return unlike(spec, {"stem": "7x7", "shortcut": "B", "stride": stride, **RESNET}, "torchvision")


FAMILY: Final = Family(
    "torchvision",
    "torchvision",
    ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"),
    recognise,
    origins,
    refusal,
    sight,
    assumed,
)


def recognise_vgg(shapes: Shapes, where: str) -> NetworkSpec:
    """VGG-16 or VGG-19, by its convolutions; with batch normalisation where there are running means."""
    numbers = sorted(
        int(match[1])
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"features\.(\d{1,5})\.weight", name)) and len(shape) == 4
    )
    normal = any(re.fullmatch(r"features\.\d+\.running_mean", name) for name in shapes)
    for depths in ((2, 2, 3, 3, 3), (2, 2, 4, 4, 4)):
        if numbers == _places(depths, normal):
            break
    else:
        raise ModelError(f"a VGG of {len(numbers)} convolutions", where, "VGG-16 and VGG-19 are known here")
    parts = {
        "depths": depths,
        "widths": tuple(channels_of(shapes, f"features.{n}.weight", 4, 0, where) for n in _firsts(depths, normal)),
        "stem": "none",
        "unit": "1layer",
        "shortcut": "none",
        "norm": "batch" if normal else "none",
        "conv_bias": True,
        "downsampling": "max-pool",
        "pool_rounding": "down",
        "head": "vgg",
        "dropout": 0.5,
        "classes": channels_of(shapes, "classifier.6.weight", 2, 0, where),
        "channels": channels_of(shapes, "features.0.weight", 4, 1, where),
    }
    return described(where, parts)


def _places(depths: tuple[int, ...], normal: bool) -> list[int]:
    """The numbers of the convolutions among `features`: conv (BN) ReLU ..., and a pooling after every stage."""
    found, place = [], 0
    for depth in depths:
        for _ in range(depth):
            found.append(place)
            place += 3 if normal else 2
        place += 1
    return found


def _firsts(depths: tuple[int, ...], normal: bool) -> list[int]:
    places = _places(depths, normal)
    return [places[sum(depths[:stage])] for stage in range(len(depths))]


def assumed_vgg(_: NetworkSpec) -> tuple[str, ...]:
    """What becomes of an odd side where it is pooled."""
    return ("the tensors do not tell: max-pooling leaves out the last pixel of an odd side",)


def origins_vgg(spec: NetworkSpec) -> dict[str, Origin]:
    places = iter(_places(spec.depths, spec.norm == "batch"))
    feature = {(s, u): next(places) for s, depth in enumerate(spec.depths) for u in range(depth)}
    head = {"head.hidden1": 0, "head.hidden2": 3, "classifier": 6}
    found = {}
    for name in outline(spec).state_dict():
        module, _, variable = name.rpartition(".")
        if match := re.fullmatch(r"stages\.(\d+)\.(\d+)\.(conv|norm)1", module):
            place = feature[int(match[1]), int(match[2])] + (match[3] == "norm")
            found[name] = Origin(f"features.{place}.{variable}")
        else:
            found[name] = Origin(f"classifier.{head[module]}.{variable}")
    return found


def refusal_vgg(spec: NetworkSpec) -> str:
    """Why torchvision has no such VGG; empty where it has."""
    wanted: dict[str, Any] = {
        "head": "vgg",
        "unit": "1layer",
        "stem": "none",
        "shortcut": "none",
        "downsampling": "max-pool",
        "widths": (64, 128, 256, 512, 512),
        "conv_bias": True,
        "order": "original",
        "norm_eps": 1e-5,
    }
    if spec.depths not in ((2, 2, 3, 3, 3), (2, 2, 4, 4, 4)):
        wanted["depths"] = (2, 2, 3, 3, 3)
    return unlike(spec, wanted, "torchvision's VGG")


VGG: Final = Family(
    "torchvision-vgg",
    "torchvision",
    ("features.0.weight", "classifier.0.weight", "classifier.6.weight"),
    recognise_vgg,
    origins_vgg,
    refusal_vgg,
    sight,
    assumed_vgg,
)
