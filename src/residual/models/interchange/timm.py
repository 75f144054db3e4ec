"""timm's ResNets: those with torchvision's names, the `d` variants, and the pre-activation networks (`resnetv2`).

Source: timm.models.resnet and .resnetv2 (its release 1.0.31). In the `d` variants the stem is `conv1.0/.1/.3/.4/.6` and
`bn1`, and a shortcut `downsample.1` (convolution) `.2` (BN) after average pooling. In `resnetv2` the first unit does
the first activation, after the stem's pooling. A network of ours whose stem does it, before the pooling, goes out to
timm all the same where its units are bottlenecks: the same function as long as none of these scales is negative, which
is verified (in training its statistics are of other maps).
"""

from __future__ import annotations

from typing import Any, Final

from torch import Tensor

from residual.errors import ModelError
from residual.models.interchange import torchvision
from residual.models.interchange.conversion import (
    PLAIN_SUM,
    Change,
    Family,
    Origin,
    Shapes,
    Sight,
    described,
    unlike,
)
from residual.models.interchange.stages import channels_of, read_stages
from residual.models.interchange.torchvision import MEAN, RESIZED, RESNET, STD, UNITS, WIDTHS, renamed, resnet_parts
from residual.models.networks import outline
from residual.models.spec import NetworkSpec


def sight(_: NetworkSpec) -> Sight:
    words = "ImageNet's constants; timm's weights differ in size, crop and interpolation: see the page of yours"
    return Sight(224, RESIZED, MEAN, STD, words)


def sight_v2(_: NetworkSpec) -> Sight:
    """timm's `resnetv2` models are trained with the constants of Inception (its `_cfg`)."""
    words = "those of timm's resnetv2, half and half; its weights differ in size, crop and interpolation: see the page"
    return Sight(224, RESIZED, (0.5,) * 3, (0.5,) * 3, f"{words} of yours")


def assumed(spec: NetworkSpec) -> tuple[str, ...]:
    words = "the tensors do not tell: no pooling against aliasing (timm's resnetaa and resnetblur have the same)"
    return (*torchvision.assumed(spec), words)


FAMILY: Final = Family(
    "timm",
    "timm",
    torchvision.FAMILY.example,
    torchvision.recognise,
    torchvision.origins,
    lambda spec: unlike(
        spec,
        {"stem": "7x7", "shortcut": "B", "stride": "3x3" if spec.unit == "bottleneck" else "1x1", **RESNET},
        "timm",
    ),
    sight,
    assumed,
)


def recognise_d(shapes: Shapes, where: str) -> NetworkSpec:
    """A `d` variant: three convolutions as stem, shortcuts after average pooling."""
    stages = read_stages(shapes, UNITS, where, start=1)
    if "layer2.0.downsample.1.weight" not in shapes or "layer2.0.downsample.0.weight" in shapes:
        what = "a stem of three convolutions without average pooling on the shortcuts"
        raise ModelError(what, where, "timm's `d` variants are known here, which have both")
    half, whole = (channels_of(shapes, f"conv1.{n}.weight", 4, 0, where) for n in (0, 6))
    if half != whole // 2:
        raise ModelError(f"a stem of {half} and {whole} channels", where, "in timm's `d` variants it is half and whole")
    parts = resnet_parts(shapes, stages.depths, stages.widths, stages.bottleneck, where)
    channels = channels_of(shapes, "conv1.0.weight", 4, 1, where)
    return described(where, {**parts, "stem": "3-conv", "shortcut": "avgpool", "channels": channels})


_D: Final = (
    (r"stem\.conv1\.", "conv1.0."),
    (r"stem\.norm1\.", "conv1.1."),
    (r"stem\.conv2\.", "conv1.3."),
    (r"stem\.norm2\.", "conv1.4."),
    (r"stem\.conv3\.", "conv1.6."),
    (r"stem\.norm3\.", "bn1."),
    (r"(layer\d+\.\d+\.)norm(\d)\.", r"\1bn\2."),
    (r"(layer\d+\.\d+\.)shortcut\.conv\.", r"\1downsample.1."),
    (r"(layer\d+\.\d+\.)shortcut\.norm\.", r"\1downsample.2."),
    (r"classifier\.", "fc."),
)


def origins_d(spec: NetworkSpec) -> dict[str, Origin]:
    return {name: Origin(renamed(name, _D)) for name in outline(spec).state_dict()}


D: Final = Family(
    "timm-d",
    "timm (d)",
    ("conv1.0.weight", "conv1.6.weight", "bn1.weight", "layer1.0.conv1.weight", "fc.weight"),
    recognise_d,
    origins_d,
    lambda spec: unlike(
        spec,
        {"stem": "3-conv", "shortcut": "avgpool", "stride": "3x3" if spec.unit == "bottleneck" else "1x1", **RESNET},
        "timm",
    ),
    sight,
    assumed,
)


def recognise_v2(shapes: Shapes, where: str) -> NetworkSpec:
    """A pre-activation network with batch normalisation; its first unit does the first activation."""
    pattern = r"stages\.(?P<stage>\d{1,5})\.blocks\.(?P<unit>\d{1,5})\.conv(?P<conv>[123])\.weight"
    stages = read_stages(shapes, pattern, where)
    if "norm.running_mean" not in shapes:
        raise ModelError("its normalisation is no batch normalisation (BiT)", where, "that is no network here")
    deep = "stem.conv1.weight" in shapes
    stem = "stem.conv1.weight" if deep else "stem.conv.weight"
    parts = {
        "depths": stages.depths,
        "widths": stages.widths,
        "stem": "3-conv" if deep else "7x7",
        "unit": "bottleneck" if stages.bottleneck else "basic",
        "stride": "3x3" if stages.bottleneck else "1x1",
        "order": "full-pre-activation",
        "first_activation": "unit",
        "projection_norm": False,
        "shortcut": "avgpool" if deep else "B",
        "classes": channels_of(shapes, "head.fc.weight", 4, 0, where),
        "channels": channels_of(shapes, stem, 4, 1, where),
    }
    return described(where, parts)


_FLAT: Final = Change("1x1 convolution to matrix", lambda w: w.flatten(1), lambda w: w[:, :, None, None])


def _not_negative(scale: Tensor) -> Tensor:
    if bool((scale < 0).any()):
        negative = int((scale < 0).sum())
        raise ModelError(
            f"{negative} scales of the first normalisation are negative",
            "stages.0.blocks.0.norm1.weight",
            "timm pools before it and this program after it, which then is not the same; this network cannot be moved",
        )
    return scale


_POOLED: Final = Change("moved before the pooling, where training sees other statistics", _not_negative, _not_negative)


def origins_v2(spec: NetworkSpec) -> dict[str, Origin]:
    """Where our stem does the first activation, its last normalisation is that of timm's first unit."""
    first = "norm3" if spec.stem == "3-conv" else "norm"
    found = {}
    for name in outline(spec).state_dict():
        parts = name.split(".")
        match parts:
            case ["stem", layer, variable] if layer == first:
                moved = _POOLED if variable == "weight" else None
                found[name] = Origin(f"stages.0.blocks.0.norm1.{variable}", moved)
            case ["stages", stage, unit, "shortcut", "conv", variable]:
                found[name] = Origin(f"stages.{stage}.blocks.{unit}.downsample.conv.{variable}")
            case ["stages", stage, unit, layer, variable]:
                found[name] = Origin(f"stages.{stage}.blocks.{unit}.{layer}.{variable}")
            case ["final", _, variable]:
                found[name] = Origin(f"norm.{variable}")
            case ["classifier", variable]:
                found[name] = Origin(f"head.fc.{variable}", _FLAT if variable == "weight" else None)
            case _:
                found[name] = Origin(name)
    return found


def refusal_v2(spec: NetworkSpec) -> str:
    """Why timm has no such pre-activation network; empty where it has."""
    own = spec.first_activation == "unit"
    wanted: dict[str, Any] = {
        "order": "full-pre-activation",
        "unit": ("basic", "bottleneck") if own else "bottleneck",
        "stride": "3x3" if spec.unit == "bottleneck" else "1x1",
        "stem": ("7x7", "3-conv"),
        "shortcut": "avgpool" if spec.stem == "3-conv" else "B",
        "widths": WIDTHS,
        "norm_eps": 1e-5,
        "projection_norm": False,
        "conv_bias": False,
        "pool_padding": "lowest",
        **PLAIN_SUM,
    }
    return unlike(spec, wanted, "timm's resnetv2")


V2: Final = Family(
    "timm-v2",
    "timm (resnetv2)",
    ("stages.0.blocks.0.norm1.weight", "stages.0.blocks.0.conv1.weight", "head.fc.weight"),
    recognise_v2,
    origins_v2,
    refusal_v2,
    sight_v2,
)
