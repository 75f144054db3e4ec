"""The network: a stem, stages of units, a head, a fully connected layer.

Axes: images and maps are NCHW, features NC, logits NK (K classes). Images are floating point, already
normalised. Sources: [1] He et al. 2015 (Deep Residual Learning), sections 3.3 and 4.2; [2] He et al. 2016 (Identity
Mappings), appendix (the activation after the last addition).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from residual.device import at_home
from residual.errors import OutOfMemory, lacks_memory
from residual.models.heads import make_head
from residual.models.initialisation import initialise
from residual.models.layers import Layers
from residual.models.recompute import recomputed
from residual.models.spec import NetworkSpec
from residual.models.stems import stem_of
from residual.models.units import Unit


class ResidualNetwork(nn.Module):
    """The network of a spec, with torch's own initial weights; `build` gives it those of the paper.

    Set `recompute` to spend time and save memory: in training each unit keeps its input alone and computes the rest
    again in the backward pass. Weights, gradients and running statistics are the same either way.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.recompute = False
        layers = Layers.of(spec)
        self.stem = stem_of(spec, layers)
        inputs = (spec.stem_width, *spec.outputs[:-1])
        self.stages = nn.ModuleList(_stage(spec, number, c_in) for number, c_in in enumerate(inputs))
        # A pre-activation network ends its last unit with the activation that no next unit begins with.
        self.final = _final(spec, layers)
        self.head = make_head(spec)
        self.dropout = nn.Dropout(spec.dropout)
        self.classifier = nn.Linear(self.head.width, spec.classes)

    def features(self, images_NCHW: Tensor) -> list[Tensor]:
        """The maps that each stage gives, in order: (N, spec.outputs[s], H, W), halved at every stage, and rounded up
        unless `pool_rounding` says otherwise.

        Those of the last stage come after the final activation of a pre-activation network. Where the last unit of a
        stage has the stride, the stage's own maps are halved already, and those of the last two are of one size.
        """
        maps_NCHW: Tensor = self.stem(images_NCHW)
        features = []
        for stage in self.stages:
            if self.recompute and torch.is_grad_enabled():
                for unit in stage.children():
                    maps_NCHW = recomputed(unit, maps_NCHW)
            else:
                maps_NCHW = stage(maps_NCHW)
            features.append(maps_NCHW)
        features[-1] = self.final(features[-1])
        return features

    def embed(self, images_NCHW: Tensor) -> Tensor:
        """What the classifier reads, (N, C): the last stage's maps averaged, or VGG's second hidden layer."""
        features_NC: Tensor = self.head(self.features(images_NCHW)[-1])
        return features_NC

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """The logits (N, classes), before the softmax."""
        logits_NK: Tensor = self.classifier(self.dropout(self.embed(images_NCHW)))
        return logits_NK


def layout_of(device: torch.device) -> torch.memory_format:
    """How images and weights lie in the memory of a device, where nothing else is asked for."""
    return torch.contiguous_format if device.type == "mps" else torch.channels_last


def put(network: ResidualNetwork, device: torch.device, layout: torch.memory_format | None = None) -> ResidualNetwork:
    """The same network, its weights moved to the device and laid out for it, or as asked."""
    # Tensors made in inference mode would never have a gradient again. The stubs of torch do not know `memory_format`.
    with torch.inference_mode(False):
        network.to(device, memory_format=layout or layout_of(device))  # type: ignore[call-overload]
    return network


def overwrite_activations(network: ResidualNetwork) -> bool:
    """Let every ReLU write over its input: the same numbers to the last bit, with less memory and traffic.

    For training, where nobody keeps what a layer gave. Returns False, and changes nothing, where a ReLU reads what a
    shortcut reads too: in pre-activation units that begin with it.
    """
    spec = network.spec
    if spec.order == "relu-only-pre-activation" or (spec.pre_activation and spec.norm == "none"):
        return False
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    return True


def _stage(spec: NetworkSpec, number: int, c_in: int) -> nn.Sequential:
    """The units of a stage; only the first changes the channels, and the size at every stage but the first.

    With `stride_unit` at "last" the last unit halves the maps instead, at every stage but the last. With max-pooling no
    unit has a stride and each stage ends with the pooling.
    """
    pooled = spec.downsampling == "max-pool"
    width, c_out, depth = spec.widths[number], spec.outputs[number], spec.depths[number]
    if spec.stride_unit == "last":
        strided = depth - 1 if number < len(spec.depths) - 1 else None
    else:
        strided = 0 if number > 0 and not pooled else None
    units: list[nn.Module] = []
    for place in range(depth):
        activated = number == place == 0 and spec.first_activation == "stem"
        stride = 2 if place == strided else 1
        share = (sum(spec.depths[:number]) + place + 1) / sum(spec.depths)
        units.append(Unit(c_out if place else c_in, width, stride, spec, first=activated, depth=share))
    return nn.Sequential(*units, *([nn.MaxPool2d(2, ceil_mode=spec.pool_rounding == "up")] if pooled else []))


def _final(spec: NetworkSpec, layers: Layers) -> nn.Sequential:
    if spec.order == "full-pre-activation":
        return nn.Sequential(layers.norm(spec.outputs[-1]), nn.ReLU())
    return nn.Sequential(nn.ReLU()) if spec.order == "relu-only-pre-activation" else nn.Sequential()


def outline(spec: NetworkSpec) -> ResidualNetwork:
    """The network on the meta device: shapes without storage, in no time and no memory."""
    with torch.device("meta"):
        return ResidualNetwork(spec).float()


def last_maps(spec: NetworkSpec, size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the maps that the head reads, of images of (H, W)."""
    with torch.no_grad():
        maps_NCHW = outline(spec).eval().features(torch.empty(1, spec.channels, *size, device="meta"))[-1]
    return maps_NCHW.shape[2], maps_NCHW.shape[3]


@at_home()
def build(spec: NetworkSpec, seed: int = 0) -> ResidualNetwork:
    """The network with the initial weights of that seed: on the CPU, float32, in training mode.

    Same spec, same seed: same weights, whatever was drawn before. Leaves torch's global generator as it was.

    Raises:
        OutOfMemory: the memory does not hold its weights.
    """
    try:
        network = outline(spec)
        # Not `to_empty`, for which torch imports sympy.
        room = {name: torch.empty(kept.shape, dtype=kept.dtype) for name, kept in network.state_dict().items()}
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        what = f"out of memory for the weights of widths {list(spec.widths)}, {spec.classes:,} classes"
        raise OutOfMemory(what, spec.name, "choose a narrower network, or fewer classes") from None
    network.load_state_dict(room, assign=True)
    initialise(network, seed)
    return network
