"""Keras applications' ResNet-50/101/152, V2: names, and how its tensors lie.

Source: keras.applications.resnet (Keras 3.15), `residual_block_v2` and `stack_residual_blocks_v2`. Layers:
`conv1_conv, conv2_block1_preact_bn, _0_conv` (shortcut), `_1_conv, _1_bn, _2_conv, _2_bn, _3_conv, ..., post_bn,
predictions`. The first convolution, the shortcuts and the last convolution of a unit have biases, the others none. The
last unit of a stage strides in its 3x3, its shortcut by a max-pooling of one pixel; the stem pools with zeros around,
before any activation. Images are RGB, from -1 to 1.
"""

from __future__ import annotations

from typing import Final

from residual.errors import ModelError
from residual.models.interchange.conversion import PLAIN_SUM, Change, Family, Origin, Shapes, Sight, described, unlike
from residual.models.interchange.keras import EPS, KERNEL, MATRIX, VARIABLES, stages_of
from residual.models.interchange.stages import channels_of
from residual.models.interchange.torchvision import RESIZED, WIDTHS
from residual.models.networks import outline
from residual.models.spec import NetworkSpec

PARTS: Final = {
    "stem": "7x7",
    "unit": "bottleneck",
    "order": "full-pre-activation",
    "stride": "3x3",
    "stride_unit": "last",
    "first_activation": "unit",
    "pool_padding": "zero",
    "projection_norm": False,
    "shortcut": "B",
    "conv_bias": "unnormalised",
    "norm_eps": EPS,
}


def sight(_: NetworkSpec) -> Sight:
    return Sight(224, RESIZED, (0.5,) * 3, (0.5,) * 3, "from -1 to 1, as Keras's `tf` mode")


def recognise(shapes: Shapes, where: str) -> NetworkSpec:
    stages = stages_of(shapes, where)
    if not stages.bottleneck:
        raise ModelError("its units are of two convolutions", where, "Keras's ResNetV2 has three; take another file")
    parts = {
        **PARTS,
        "depths": stages.depths,
        "widths": stages.widths,
        "classes": channels_of(shapes, "predictions/kernel", 2, 1, where),
        "channels": channels_of(shapes, "conv1_conv/kernel", 4, 2, where),
    }
    return described(where, parts)


# Our layer of a unit -> Keras's: what normalises before a convolution stands behind the one before.
_LAYERS: Final = {
    "norm1": "preact_bn",
    "conv1": "1_conv",
    "norm2": "1_bn",
    "conv2": "2_conv",
    "norm3": "2_bn",
    "conv3": "3_conv",
    "shortcut": "0_conv",
}


def origins(spec: NetworkSpec) -> dict[str, Origin]:
    found = {}
    change: Change | None
    for name in outline(spec).state_dict():
        match name.split("."):
            case ["classifier", variable]:
                layer, change = "predictions", MATRIX
            case ["stem", "conv", variable]:
                layer, change = "conv1_conv", KERNEL
            case ["final", _, variable]:
                layer, change = "post_bn", None
            case ["stages", stage, unit, part, *_, variable]:
                layer = f"conv{int(stage) + 2}_block{int(unit) + 1}_{_LAYERS[part]}"
                change = KERNEL if layer.endswith("_conv") else None
            case _:
                raise ModelError(f"{name} has no name in Keras", spec.name, "export it as safetensors")
        if change is None:
            found[name] = Origin(f"{layer}/{VARIABLES.get(variable, variable)}")
        else:
            weight = variable == "weight"
            found[name] = Origin(f"{layer}/{'kernel' if weight else 'bias'}", change if weight else None)
    return found


def refusal(spec: NetworkSpec) -> str:
    """Why Keras has no such pre-activation network; empty where it has."""
    return unlike(spec, {**PLAIN_SUM, **PARTS, "widths": WIDTHS}, "Keras's ResNetV2")


FAMILY: Final = Family(
    "keras-v2",
    "Keras (ResNetV2)",
    ("conv1_conv/kernel", "conv2_block1_preact_bn/gamma", "conv2_block1_1_conv/kernel", "post_bn/gamma"),
    recognise,
    origins,
    refusal,
    sight,
)
