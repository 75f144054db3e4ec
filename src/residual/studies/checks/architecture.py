"""Networks as built: counts, maps, kernels and shortcuts. Maps are sides in pixels, costs multiply-adds of one image.

Sources: [1] He et al. 2015 (Deep Residual Learning), tables 1 and 6, sections 3.3 and 4; the layer lists of AlexNet
(Krizhevsky et al. 2012, section 3.5) and GoogLeNet (Szegedy et al. 2015, table 1).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import torch
from torch import nn

from residual.chance import stream
from residual.files import Facts
from residual.models import NETWORKS, NetworkSpec, count, find
from residual.models.counting import LayerCount
from residual.models.heads import AverageHead
from residual.models.networks import ResidualNetwork, outline
from residual.models.spec import EXPANSION, UNIT_LAYERS
from residual.models.units import Unit

COUNTED: Final = (
    "resnet-18-B", "plain-34", "resnet-34", "resnet-34-B", "resnet-50", "resnet-101",
    "resnet-152", "resnet-50-keras", "vgg-16", "vgg-19", "fastbook-resnet50", "resnet-20",
    "resnet-32", "resnet-44", "plain-56", "resnet-56", "resnet-110", "resnet-1202",
)  # fmt: skip
"""Named as in the catalogue; `-B` is option B where the catalogue's first choice is A."""
WALKED: Final = (
    "resnet-20", "plain-34", "resnet-34", "resnet-34-B", "resnet-50",
    "resnet-50-keras", "vgg-19", "fastbook-resnet50",
)  # fmt: skip
_SIZES: Final = (3, 9, 18, 111)  # units a stage
_ALEXNET: Final = ("convolution",) * 5 + ("fully connected",) * 3
_GOOGLENET: Final = ("convolution",) * 3 + ("inception",) * 9 + ("fully connected",)
_DEEP: Final = {"inception": 2}  # layers from input to output of an inception cell


def spec_of(name: str) -> NetworkSpec:
    return find(name.removesuffix("-B")).spec("B" if name.endswith("-B") else None)


def counts() -> Facts:
    """Parameters, multiply-adds and weighted layers of the networks the seeds speak of, and what follows from them."""
    found: Facts = {}
    for name in COUNTED:
        spec = spec_of(name)
        counted = count(spec, find(spec.name).image_size)
        found[name] = {
            "parameters": counted.parameters,
            "statistics": 2 * sum(layer.parameters // 2 for layer in counted.layers if layer.kind == "batch norm"),
            "multiply_adds": counted.multiply_adds,
            "layers": counted.weighted_layers,
            "classes": spec.classes,
            "dropout": spec.dropout,
            "filters": sum(layer.shape[0] for layer in counted.layers if layer.kind == "convolution"),
            **_stage_costs(spec, counted.layers),
        }
    for name, layers in (("alexnet", _ALEXNET), ("googlenet", _GOOGLENET)):
        found[name] = {"layers": sum(_DEEP.get(kind, 1) for kind in layers)}
    return found | {"basic": _slopes("basic"), "bottleneck": _slopes("bottleneck"), "maps": _printed_maps()}


def _stage_costs(spec: NetworkSpec, layers: tuple[LayerCount, ...]) -> Facts:
    """Of the second unit of each stage: the least and most cost of its last 3x3; and of a first unit with a stride."""
    place = "conv2" if spec.unit != "1layer" else "conv1"
    cost = {layer.name: layer.multiply_adds for layer in layers}
    usual = [cost[name] for stage in range(len(spec.depths)) if (name := f"stages.{stage}.1.{place}") in cost]
    unit = [value for name, value in cost.items() if name.startswith("stages.0.1.")]
    return {
        "least_layer_cost": min(usual, default=0),
        "most_layer_cost": max(usual, default=0),
        "strided_layer_cost": cost.get("stages.1.0.conv1", 0),
        "unit_cost": sum(unit),
    }


def _printed_maps() -> Facts:
    """The maps of ResNet-34 as table 1 of [1] prints them, and filters on maps of 56 pixels."""
    found = {name: walk(spec_of(name)) for name in ("resnet-34", "plain-34", "vgg-19")}
    maps = {name: value for name, value in found["resnet-34"].items() if name.startswith("map_")}
    return maps | {f"{name}_width_at_56": found[name]["width_at_56"] for name in ("plain-34", "vgg-19")}


def _slopes(unit: str) -> Facts:
    """Multiply-adds that each further n adds to a CIFAR network of that unit: least and most over several n."""
    base = spec_of("resnet-20" if unit == "basic" else "resnet-164-bottleneck")
    costs = [count(base.model_copy(update={"depths": (n, n, n)}), 32).multiply_adds for n in _SIZES]
    steps = [(b - a) / (m - n) for (n, a), (m, b) in pairwise(zip(_SIZES, costs, strict=True))]
    return {"least_slope": min(steps), "most_slope": max(steps)}


def walks() -> Facts:
    """Kernels, poolings, maps and shortcuts of networks, module by module, and of the whole catalogue."""
    found: Facts = {name: walk(spec_of(name)) for name in WALKED}
    growing = sum(entry.spec().outputs[-1] > entry.spec().stem_width for entry in NETWORKS.values())
    found["catalogue"] = {"networks": len(NETWORKS), "growing": growing}
    found["convolution"] = {"side": nn.Conv2d(1, 1, 3, stride=2)(torch.zeros(1, 1, 7, 7)).shape[-1]}
    return found


def walk(spec: NetworkSpec) -> Facts:
    """What its modules are; `map_n` is the side of the n-th map of table 1: stem, then each stage, then the average."""
    network = outline(spec).eval()
    side = find(spec.name).image_size
    convs = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    sizes = {name: conv.kernel_size[0] for name, conv in convs.items() if not name.startswith("stem.")}
    units = [module for module in network.modules() if isinstance(module, Unit)]
    shortcuts = [unit.shortcut for unit in units if unit.shortcut is not None]
    widths = (spec.stem_width, *spec.outputs)
    maps = _maps(network, side)
    shrinks = [place for place, (a, b) in enumerate(pairwise(maps[1:-1]), 1) if b * 2 == a]
    return {
        "max_pools": sum(isinstance(module, nn.MaxPool2d) for module in network.modules()),
        "average_heads": int(isinstance(network.head, AverageHead)),
        "linear_layers": sum(isinstance(module, nn.Linear) for module in network.modules()),
        "first_kernel": next(iter(convs.values())).kernel_size[0],
        "other_kernels": sum(size not in (1, 3) for size in sizes.values()),
        "unpaired_1x1": sum(not _paired(unit) for unit in units),
        "last_width": network.classifier.in_features,
        "convolutions_skipped": UNIT_LAYERS[spec.unit],
        "identity_shortcuts": sum(isinstance(shortcut, nn.Identity) for shortcut in shortcuts),
        "changed_shortcuts": sum(not isinstance(shortcut, nn.Identity) for shortcut in shortcuts),
        "strided_shortcuts": sum(_strided(shortcut) for shortcut in shortcuts),
        "first_stage_width": spec.outputs[0],
        "width_at_56": _width_at(spec, maps, 56),
        "expansion": EXPANSION[spec.unit],
        "halvings": len(shrinks),
        "doublings_at_halvings": sum(spec.widths[place] == 2 * spec.widths[place - 1] for place in shrinks),
        "channel_halvings": sum(b < a for a, b in pairwise(widths)),
        **{f"map_{number}": size for number, size in enumerate(maps, 1)},
        **_strided_unit(spec),
    }


def _strided_unit(spec: NetworkSpec) -> Facts:
    """Of a bottleneck that halves its maps: where it strides, its epsilon, and whether a ReLU ends it."""
    if spec.unit != "bottleneck":
        return {}
    unit = Unit(spec.outputs[0], spec.widths[1], 2, spec).eval()
    convs = [part for part in unit.children() if isinstance(part, nn.Conv2d)]
    with torch.no_grad():
        maps = unit(torch.randn(2, spec.outputs[0], 8, 8, generator=stream(0, "walks", "unit")))
    return {
        "stride_of_first_1x1": convs[0].stride[0],
        "stride_of_3x3": convs[1].stride[0],
        "epsilon": next(part.eps for part in unit.children() if isinstance(part, nn.BatchNorm2d)),
        "relu_after_addition": float(maps.min()) == 0.0,
    }


def _maps(network: ResidualNetwork, side: int) -> list[int]:
    """Sides of the maps: after the stem's convolution, after every stage, after the average."""
    seen: list[int] = []

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        seen.append(output.shape[-1])

    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    hook = first.register_forward_hook(note)
    with torch.no_grad():
        features = network.features(torch.empty(1, network.spec.channels, side, side, device="meta"))
    hook.remove()
    return [*seen, *(maps.shape[-1] for maps in features), 1]


def _width_at(spec: NetworkSpec, maps: list[int], side: int) -> int:
    """Filters of the convolutions on maps of that side; of VGG, whose stages end in a pooling, of those before it."""
    stages = maps[1:-1]
    before = [2 * size for size in stages] if spec.downsampling == "max-pool" else stages
    return next((width for width, size in zip(spec.widths, before, strict=True) if size == side), 0)


def _paired(unit: Unit) -> bool:
    """Whether a branch with 1x1 convolutions has a 3x3 between them."""
    sizes = [module.kernel_size[0] for name, module in unit.named_children() if isinstance(module, nn.Conv2d)]
    return 1 not in sizes or sizes == [1, 3, 1]


def _strided(shortcut: nn.Module) -> bool:
    strides = [getattr(module, "stride", 1) for module in shortcut.modules()]
    return any(stride in (2, (2, 2)) for stride in strides)
