"""The table of networks: every one known by name, as its source gives it.

Axes: `depths` and `widths` have one entry per stage (a width is that of the 3x3 convolutions); `image_size` is the
side of the square images the source used. Errors are the source's own, in percent, each with its protocol.
Sources: [1] He et al. 2015 (Deep Residual Learning): tables 1 to 6 and section 4.2, where n units in each of
three stages make 6n+2 weighted layers. [2] He et al. 2016 (Identity Mappings): tables 1 to 5; bottlenecks make 9n+2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from residual.models.spec import NetworkSpec, ShortcutKind


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue. The first of `shortcuts` is the default.

    Attributes:
        parts: what differs from the defaults of `NetworkSpec`, by its field.
        errors: shortcut -> the error the source reports, with its protocol.
        model: the name of the network this one departs from; its own name when it is the paper's.
        stem_by_size: on a data set, the stem is chosen by the size of its images.
    """

    name: str
    depths: tuple[int, ...]
    shortcuts: tuple[ShortcutKind, ...]
    source: str
    widths: tuple[int, ...] = (16, 32, 64)
    parts: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[ShortcutKind, str] = field(default_factory=dict)
    model: str = ""
    dataset: str = "CIFAR-10"
    classes: int = 10
    channels: int = 3
    image_size: int = 32
    stem_by_size: bool = False

    def spec(self, shortcut: ShortcutKind | None = None) -> NetworkSpec:
        """The network of this row, with the default shortcut unless another is given."""
        values: dict[str, Any] = {
            "name": self.name,
            "depths": self.depths,
            "widths": self.widths,
            "stem": "3x3",
            "unit": "basic",
            "shortcut": shortcut or self.shortcuts[0],
            "classes": self.classes,
            "channels": self.channels,
        }
        return NetworkSpec.model_validate(values | dict(self.parts))


_PRE: Final = {"order": "full-pre-activation", "projection_norm": False}
_BOTTLENECK: Final = {"unit": "bottleneck"}
_KERAS: Final = {"conv_bias": True, "norm_eps": 1.001e-5}
_KERAS_V2: Final = {
    **_PRE,
    "stride": "3x3",
    "stride_unit": "last",
    "first_activation": "unit",
    "pool_padding": "zero",
    "conv_bias": "unnormalised",
    "norm_eps": 1.001e-5,
}
_WIDE: Final = (64, 128, 256, 512)
_RESIDUAL: Final[tuple[ShortcutKind, ...]] = ("A", "B")
_OURS: Final = "; a size of our own, for quick trials"

_IMAGENET_UNITS: Final[Mapping[int, tuple[int, ...]]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
_CIFAR_DEPTHS: Final = (8, 14, 20, 32, 44, 56, 110, 1202)

_TEN_CROP: Final = "ImageNet top-1/top-5 of the validation images, 10 crops, [1]"
_LARGE_CROP: Final = "ImageNet top-1/top-5 of the validation images, one crop of 320, [2] table 5"
_CIFAR_TEST: Final = "CIFAR-10 test"
_ERRORS: Final[Mapping[str, Mapping[ShortcutKind, str]]] = {
    "plain-18": {"none": f"27.94 ({_TEN_CROP} table 2)"},
    "plain-34": {"none": f"28.54/10.02 ({_TEN_CROP} table 3)"},
    "resnet-18": {"A": f"27.88 ({_TEN_CROP} table 2)"},
    "resnet-34": {
        "A": f"25.03/7.76 ({_TEN_CROP} table 3)",
        "B": f"24.52/7.46 ({_TEN_CROP} table 3)",
        "C": f"24.19/7.40 ({_TEN_CROP} table 3)",
    },
    "resnet-50": {"B": f"22.85/6.71 ({_TEN_CROP} table 3)"},
    "resnet-101": {"B": f"21.75/6.05 ({_TEN_CROP} table 3)"},
    "resnet-152": {"B": f"21.43/5.71 ({_TEN_CROP} table 3)"},
    "resnet-200": {"B": f"21.8/6.0 ({_LARGE_CROP})"},
    "preact-152": {"B": f"21.1/5.5 ({_LARGE_CROP})"},
    "preact-200": {"B": f"20.7/5.3 ({_LARGE_CROP})"},
    "vgg-16": {"none": f"28.07/9.33 ({_TEN_CROP} table 3)"},
    "resnet-20": {"A": f"8.75 ({_CIFAR_TEST}, [1] table 6)"},
    "resnet-32": {"A": f"7.51 ({_CIFAR_TEST}, [1] table 6)"},
    "resnet-44": {"A": f"7.17 ({_CIFAR_TEST}, [1] table 6)"},
    "resnet-56": {"A": f"6.97 ({_CIFAR_TEST}, [1] table 6)"},
    "resnet-110": {"A": f"6.43, mean of five 6.61 ({_CIFAR_TEST}, [1] table 6)"},
    "resnet-1202": {"A": f"7.93 ({_CIFAR_TEST}, [1] table 6)"},
    "preact-110": {"A": f"6.37, median of five ({_CIFAR_TEST}, [2] table 3)"},
    "resnet-110-1layer": {"A": f"9.90, median of five ({_CIFAR_TEST}, [2] table 3)"},
    "preact-110-1layer": {"A": f"8.91, median of five ({_CIFAR_TEST}, [2] table 3)"},
    "resnet-164-bottleneck": {"B": f"5.93, median of five ({_CIFAR_TEST}, [2] table 3)"},
    "preact-164-bottleneck": {"B": f"5.46, median of five ({_CIFAR_TEST}, [2] table 3)"},
    "resnet-1001-bottleneck": {"B": f"7.61 ({_CIFAR_TEST}, [2] table 3)"},
    "preact-1001-bottleneck": {"B": f"4.92; 4.62 with batches of 64 ({_CIFAR_TEST}, [2] tables 3 and 4)"},
}


def _cifar() -> Iterator[Entry]:
    kinds: tuple[tuple[str, tuple[ShortcutKind, ...], Mapping[str, Any], str], ...] = (
        ("plain", ("none",), {}, "[1] section 4.2, 6n+2"),
        ("resnet", _RESIDUAL, {}, "[1] section 4.2, 6n+2"),
        ("preact", _RESIDUAL, _PRE, "[2] figure 4e on [1] section 4.2, 6n+2"),
    )
    for kind, shortcuts, parts, source in kinds:
        for layers in _CIFAR_DEPTHS:
            n = (layers - 2) // 6
            yield Entry(f"{kind}-{layers}", (n, n, n), shortcuts, source + (_OURS if layers < 20 else ""), parts=parts)
        if kind == "plain":
            continue
        one_layer = {"unit": "1layer", **parts}
        yield Entry(f"{kind}-110-1layer", (36, 36, 36), _RESIDUAL, "[2] table 3, one layer a shortcut", parts=one_layer)
        for layers in (164, 1001):
            n = (layers - 2) // 9
            name, source = f"{kind}-{layers}-bottleneck", "[2] table 3, bottlenecks, 9n+2"
            yield Entry(name, (n, n, n), ("B",), source, parts={**_BOTTLENECK, **parts})


def _large(name: str, layers: int, shortcuts: tuple[ShortcutKind, ...], source: str, parts: Mapping[str, Any]) -> Entry:
    """A network for ImageNet: 7x7 stem, four stages."""
    if layers >= 50:
        parts = {**_BOTTLENECK, **parts}
    return Entry(
        name,
        _IMAGENET_UNITS[layers],
        shortcuts,
        source,
        widths=_WIDE,
        parts={"stem": "7x7", **parts},
        dataset="ImageNet",
        classes=1000,
        image_size=224,
        stem_by_size=True,
    )


def _imagenet() -> Iterator[Entry]:
    for layers in (18, 34):
        yield _large(f"plain-{layers}", layers, ("none",), "[1] table 1 and figure 3", {})
    for layers in _IMAGENET_UNITS:
        shortcuts: tuple[ShortcutKind, ...] = ("A", "B", "C") if layers < 50 else ("B",)
        source = "[2] table 5" if layers == 200 else "[1] table 1"
        yield _large(f"resnet-{layers}", layers, shortcuts, source, {})
    for layers in (50, 101, 152, 200):
        source = "fb.resnet.torch and torchvision: [1] table 1 with the stride in the 3x3"
        entry = _large(f"resnet-{layers}-v1.5", layers, ("B",), source, {"stride": "3x3"})
        yield replace(entry, model=f"resnet-{layers}")
    for layers in _IMAGENET_UNITS:
        source = "[2] section 4 and table 5" if layers >= 152 else "[2] figure 4e on [1] table 1"
        yield _large(f"preact-{layers}", layers, ("B",), source, _PRE)
    for layers in (50, 101, 152):
        source = f"Keras applications, ResNet{layers}"
        yield replace(_large(f"resnet-{layers}-keras", layers, ("B",), source, _KERAS), model=f"resnet-{layers}")
    for layers in (50, 101, 152):
        source = f"Keras applications, ResNet{layers}V2"
        yield replace(_large(f"preact-{layers}-keras", layers, ("B",), source, _KERAS_V2), model=f"preact-{layers}")


def _vgg() -> Iterator[Entry]:
    for name, depths, letter in (("vgg-16", (2, 2, 3, 3, 3), "D"), ("vgg-19", (2, 2, 4, 4, 4), "E")):
        parts = {"unit": "1layer", "stem": "none", "norm": "none", "conv_bias": True, "downsampling": "max-pool"}
        yield Entry(
            name,
            depths,
            ("none",),
            f"Simonyan & Zisserman 2014, table 1, {letter}",
            widths=(64, 128, 256, 512, 512),
            parts={**parts, "head": "vgg", "dropout": 0.5},
            dataset="ImageNet",
            classes=1000,
            image_size=224,
        )


def _small_bottlenecks() -> Iterator[Entry]:
    """ResNet-50 on CIFAR-10, as public code and teaching material have it."""
    units, late = _IMAGENET_UNITS[50], {**_BOTTLENECK, "stride": "3x3"}
    stem = "public re-runs on CIFAR-10: [1] table 1 with a 3x3 stem and the stride in the 3x3"
    yield Entry("resnet-50-cifarstem", units, ("B",), stem, _WIDE, late, model="resnet-50")
    pooled = {**late, "zero_last_scale": True}
    book = "Howard & Gugger 2020 (Deep Learning for Coders), chapter 14"
    with_stem = {**pooled, "stem": "3-conv"}
    yield Entry("fastbook-resnet50", units, ("avgpool",), book, _WIDE, with_stem, model="resnet-50")
    ours = f"{book}, with a 3x3 stem"
    yield Entry("fastbook-resnet50-3x3stem", units, ("avgpool",), ours, _WIDE, pooled, model="resnet-50")


def _rows() -> Iterator[Entry]:
    for entry in (*_cifar(), *_imagenet(), *_small_bottlenecks(), *_vgg()):
        yield replace(entry, errors=_ERRORS.get(entry.name, {}), model=entry.model or entry.name)


NETWORKS: Final[Mapping[str, Entry]] = MappingProxyType({row.name: row for row in _rows()})
