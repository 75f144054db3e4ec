"""The widely used CIFAR ResNets: three stages (ResNet-20 to 1202, `.th`), and four stages for 32x32 images.

Sources: akamaster/pytorch_resnet_cifar10, resnet.py: `conv1, bn1, layer1.0.conv1, ..., linear`, shortcuts without
weights that pad the channels on both sides (here A-both), constants of ImageNet; kuangliu/pytorch-cifar,
models/resnet.py: the same names, four stages, `shortcut.0` (1x1 convolution) and `.1` (BN), stride in the 3x3.
"""

from __future__ import annotations

from typing import Any, Final

from residual.models.interchange.conversion import PLAIN_SUM, Family, Origin, Shapes, Sight, described, unlike
from residual.models.interchange.stages import channels_of, read_stages
from residual.models.interchange.torchvision import MEAN, STD, UNITS, renamed
from residual.models.networks import outline
from residual.models.spec import NetworkSpec


def sight(spec: NetworkSpec) -> Sight:
    if len(spec.depths) == 3:
        return Sight(32, 1.0, MEAN, STD, "ImageNet's constants, as akamaster/pytorch_resnet_cifar10 normalises")
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    return Sight(32, 1.0, mean, std, "the constants of kuangliu/pytorch-cifar")


def recognise(shapes: Shapes, where: str) -> NetworkSpec:
    """A ResNet with a 3x3 stem; without weights on its shortcuts it is option A, padded on both sides."""
    stages = read_stages(shapes, UNITS, where, start=1)
    parts = {
        "depths": stages.depths,
        "widths": stages.widths,
        "stem": "3x3",
        "unit": "bottleneck" if stages.bottleneck else "basic",
        "stride": "3x3" if stages.bottleneck else "1x1",
        "shortcut": "B" if any(".shortcut." in name for name in shapes) else "A-both",
        "classes": channels_of(shapes, "linear.weight", 2, 0, where),
        "channels": channels_of(shapes, "conv1.weight", 4, 1, where),
    }
    return described(where, parts)


def assumed(spec: NetworkSpec) -> tuple[str, ...]:
    """Where zero channels go, and where a bottleneck has its stride: equal tensors, other functions."""
    said = []
    if spec.shortcut == "A-both":
        said.append("the tensors do not tell: shortcuts without weights are option A with zero channels on both sides")
    if spec.unit == "bottleneck":
        said.append("the tensors do not tell: bottlenecks have their stride in the 3x3")
    return tuple(said)


_NAMES: Final = (
    (r"stem\.conv\.", "conv1."),
    (r"stem\.norm\.", "bn1."),
    (r"(layer\d+\.\d+\.)norm(\d)\.", r"\1bn\2."),
    (r"(layer\d+\.\d+\.)shortcut\.conv\.", r"\1shortcut.0."),
    (r"(layer\d+\.\d+\.)shortcut\.norm\.", r"\1shortcut.1."),
    (r"classifier\.", "linear."),
)


def origins(spec: NetworkSpec) -> dict[str, Origin]:
    return {name: Origin(renamed(name, _NAMES)) for name in outline(spec).state_dict()}


def refusal(spec: NetworkSpec) -> str:
    wanted: dict[str, Any] = {
        **PLAIN_SUM,
        "stem": "3x3",
        "unit": ("basic", "bottleneck"),
        "shortcut": ("A-both", "B"),
        "order": "original",
        "norm_eps": 1e-5,
        "projection_norm": True,
        "conv_bias": False,
    }
    return unlike(spec, wanted, "that code")


FAMILY: Final = Family(
    "cifar",
    "the CIFAR code",
    ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "linear.weight"),
    recognise,
    origins,
    refusal,
    sight,
    assumed,
)
