"""Keras applications' ResNet-50/101/152, v1: names, and how its tensors lie.

Source: keras.applications.resnet (Keras 3.15). Layers: `conv1_conv, conv1_bn, conv2_block1_0_conv` (shortcut),
`_1_conv, _1_bn, ..., predictions`; every convolution has a bias, eps is 1.001e-5, a bottleneck has its stride in the
first 1x1. Kernels are HWIO, matrices (in, out). Its images are BGR, 0..255, less the mean: the first kernel is turned
to RGB here, and the constants are said for pixels / 255. ResNetV2 is in `keras_v2`.
"""

from __future__ import annotations

import re
from typing import Final

from torch import Tensor

from residual.models.interchange.conversion import PLAIN_SUM, Change, Family, Origin, Shapes, Sight, described, unlike
from residual.models.interchange.stages import Stages, channels_of, read_stages
from residual.models.interchange.torchvision import RESIZED, WIDTHS
from residual.models.networks import outline
from residual.models.spec import NetworkSpec

EPS: Final = 1.001e-5
_UNITS: Final = r"conv(?P<stage>\d{1,5})_block(?P<unit>\d{1,5})_(?P<conv>[123])_conv/kernel"


def sight(_: NetworkSpec) -> Sight:
    mean = (123.68 / 255, 116.779 / 255, 103.939 / 255)
    return Sight(224, RESIZED, mean, (1 / 255,) * 3, "the mean of ImageNet in RGB, not scaled, as Keras's `caffe` mode")


def recognise(shapes: Shapes, where: str) -> NetworkSpec:
    stages = stages_of(shapes, where)
    parts = {
        "depths": stages.depths,
        "widths": stages.widths,
        "stem": "7x7",
        "unit": "bottleneck" if stages.bottleneck else "basic",
        "stride": "1x1",
        "shortcut": "B",
        "conv_bias": True,
        "norm_eps": EPS,
        "classes": channels_of(shapes, "predictions/kernel", 2, 1, where),
        "channels": channels_of(shapes, "conv1_conv/kernel", 4, 2, where),
    }
    return described(where, parts)


def stages_of(shapes: Shapes, where: str) -> Stages:
    """The stages of units, which Keras counts from conv2_block1."""
    units = {
        re.sub(r"_block(\d{1,5})_", lambda match: f"_block{int(match[1]) - 1}_", name): _oihw(shape)
        for name, shape in shapes.items()
        if name.endswith("_conv/kernel") and "_block" in name
    }
    return read_stages(units, _UNITS, where, start=2)


def _oihw(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape


def _bgr(kernel: Tensor) -> Tensor:
    """The first kernel with its input channels turned round, where there are three."""
    return kernel.flip(1) if kernel.shape[1] == 3 else kernel


KERNEL: Final = Change("HWIO to OIHW", lambda w: w.permute(3, 2, 0, 1), lambda w: w.permute(2, 3, 1, 0))
_FIRST: Final = Change(
    "HWIO to OIHW, BGR to RGB", lambda w: _bgr(w.permute(3, 2, 0, 1)), lambda w: _bgr(w).permute(2, 3, 1, 0)
)
MATRIX: Final = Change("transposed", lambda w: w.T, lambda w: w.T)
VARIABLES: Final = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def origins(spec: NetworkSpec) -> dict[str, Origin]:
    found = {}
    for name in outline(spec).state_dict():
        module, _, variable = name.rpartition(".")
        if module == "classifier":
            kernel = variable == "weight"
            found[name] = Origin(f"predictions/{'kernel' if kernel else 'bias'}", MATRIX if kernel else None)
            continue
        layer, is_conv = _layer(module)
        if not is_conv:
            found[name] = Origin(f"{layer}/{VARIABLES.get(variable, variable)}")
        elif variable == "bias":
            found[name] = Origin(f"{layer}/bias")
        else:
            found[name] = Origin(f"{layer}/kernel", _FIRST if module == "stem.conv" else KERNEL)
    return found


def _layer(module: str) -> tuple[str, bool]:
    """Keras's name of one of our layers, and whether it is a convolution."""
    is_conv = "conv" in module.rpartition(".")[2]
    kind = "conv" if is_conv else "bn"
    if module.startswith("stem."):
        return f"conv1_{kind}", is_conv
    _, stage, unit, *rest = module.split(".")
    number = "0" if rest[0] == "shortcut" else rest[0][-1]
    return f"conv{int(stage) + 2}_block{int(unit) + 1}_{number}_{kind}", is_conv


def refusal(spec: NetworkSpec) -> str:
    wanted = {
        "stem": "7x7",
        "unit": "bottleneck",
        "stride": "1x1",
        "shortcut": "B",
        "conv_bias": True,
        "widths": WIDTHS,
    }
    return unlike(spec, {**PLAIN_SUM, **wanted, "norm_eps": EPS, "order": "original"}, "Keras")


FAMILY: Final = Family(
    "keras",
    "Keras",
    ("conv1_conv/kernel", "conv1_bn/gamma", "conv2_block1_1_conv/kernel"),
    recognise,
    origins,
    refusal,
    sight,
)
