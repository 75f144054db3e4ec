"""The ResNet of Hugging Face Transformers as a plain function of its tensors, and the files that stand beside them.

Nothing of `residual` is used. Source: transformers/models/resnet/modeling_resnet.py and configuration_resnet.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from tests.models.interchange.layouts import Drawing, Layers, State

CONFIG: dict[str, Any] = {
    "architectures": ["ResNetForImageClassification"],
    "model_type": "resnet",
    "hidden_act": "relu",
    "layer_type": "bottleneck",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}
PROCESSOR: dict[str, Any] = {
    "image_processor_type": "ConvNextImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "crop_pct": 0.875,
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def make(depths: Sequence[int], widths: Sequence[int], bottleneck: bool, classes: int) -> State:
    draw = Drawing()

    def layer(name: str, c_in: int, c_out: int, size: int) -> None:
        draw.conv(f"{name}.convolution", c_in, c_out, size)
        draw.norm(f"{name}.normalization", c_out)

    layer("resnet.embedder.embedder", 3, widths[0], 7)
    before, grown, sizes = widths[0], 4 if bottleneck else 1, (1, 3, 1) if bottleneck else (3, 3)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for unit in range(depth):
            place = f"resnet.encoder.stages.{stage}.layers.{unit}"
            if unit == 0 and (stage > 0 or bottleneck):
                layer(f"{place}.shortcut", before, width * grown, 1)
            channels = (before, *[width] * (len(sizes) - 1), width * grown)
            for number, size in enumerate(sizes):
                layer(f"{place}.layer.{number}", channels[number], channels[number + 1], size)
            before = width * grown
    draw.linear("classifier.1", before, classes)
    return draw.state


def answer(w: Layers, x: Tensor, downsample_in_bottleneck: bool = False) -> Tensor:
    def layer(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return w.norm(f"{name}.normalization", w.conv(f"{name}.convolution", x, stride))

    x = F.max_pool2d(F.relu(layer("resnet.embedder.embedder", x, 2)), 3, 2, 1)
    for stage in itertools.count():
        if not w.has(f"resnet.encoder.stages.{stage}.layers.0.layer.0.convolution"):
            break
        for unit in itertools.count():
            place = f"resnet.encoder.stages.{stage}.layers.{unit}"
            if not w.has(f"{place}.layer.0.convolution"):
                break
            stride, three = 2 if stage and not unit else 1, w.has(f"{place}.layer.2.convolution")
            first = stride if downsample_in_bottleneck or not three else 1
            y = layer(f"{place}.layer.1", F.relu(layer(f"{place}.layer.0", x, first)), stride // first)
            if three:
                y = layer(f"{place}.layer.2", F.relu(y))
            shortcut = f"{place}.shortcut"
            x = F.relu(y + (layer(shortcut, x, stride) if w.has(f"{shortcut}.convolution") else x))
    return w.linear("classifier.1", x.mean((2, 3)))
