"""Foreign networks as plain functions of their tensors, written from the layouts their libraries document.

Nothing of `residual` is used: F.conv2d, F.batch_norm, F.max_pool2d. `make` draws every tensor of such a network, by its
foreign name. Sources: torchvision/models/resnet.py, vgg.py; timm/models/resnet.py, resnetv2.py; keras/src/applications/
resnet.py; akamaster/pytorch_resnet_cifar10/resnet.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]


class Drawing:
    """Draws tensors one after the other; equal seeds draw equal networks."""

    def __init__(self, seed: int = 3) -> None:
        self.random, self.state = torch.Generator().manual_seed(seed), State()

    def normal(self, *shape: int, spread: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self.random) * spread

    def conv(self, name: str, c_in: int, c_out: int, size: int, bias: bool = False) -> None:
        self.state[f"{name}.weight"] = self.normal(c_out, c_in, size, size, spread=(2 / (c_in * size * size)) ** 0.5)
        if bias:
            self.state[f"{name}.bias"] = self.normal(c_out, spread=0.1)

    def norm(self, name: str, channels: int) -> None:
        self.state[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=self.random)
        self.state[f"{name}.bias"] = self.normal(channels, spread=0.2)
        self.state[f"{name}.running_mean"] = self.normal(channels, spread=0.2)
        self.state[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=self.random)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def linear(self, name: str, c_in: int, c_out: int) -> None:
        self.state[f"{name}.weight"] = self.normal(c_out, c_in, spread=c_in**-0.5)
        self.state[f"{name}.bias"] = self.normal(c_out, spread=0.1)


class Layers:
    """The layers of a state as functions of their names; `training` uses the statistics of the batch."""

    def __init__(self, state: State, training: bool = False, eps: float = 1e-5) -> None:
        self.state, self.training, self.eps = {k: t.clone() for k, t in state.items()}, training, eps

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding=weight.shape[-1] // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, var, scale, shift = (
            self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, scale, shift, self.training, 0.1, self.eps)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self.state


# torchvision: ResNet. timm's `d` variants differ in stem and shortcut, the CIFAR code in stem, shortcut and `linear`.


def make_resnet(
    depths: Sequence[int], widths: Sequence[int], bottleneck: bool, classes: int, kind: str = "torchvision"
) -> State:
    draw = Drawing()
    if kind == "d":
        half = widths[0] // 2
        draw.conv("conv1.0", 3, half, 3)
        draw.norm("conv1.1", half)
        draw.conv("conv1.3", half, half, 3)
        draw.norm("conv1.4", half)
        draw.conv("conv1.6", half, widths[0], 3)
    else:
        draw.conv("conv1", 3, widths[0], 3 if kind.startswith("cifar") else 7)
    draw.norm("bn1", widths[0])
    before, grown = widths[0], 4 if bottleneck else 1
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 1):
        for unit in range(depth):
            p, after = f"layer{stage}.{unit}", width * grown
            sizes = (1, 3, 1) if bottleneck else (3, 3)
            channels = (before, *[width] * (len(sizes) - 1), after)
            for number, size in enumerate(sizes, 1):
                draw.conv(f"{p}.conv{number}", channels[number - 1], channels[number], size)
                draw.norm(f"{p}.bn{number}", channels[number])
            if unit == 0 and (stage > 1 or before != after) and kind != "cifar":
                first = 1 if kind == "d" else 0
                name = "shortcut" if kind == "cifar-b" else "downsample"
                draw.conv(f"{p}.{name}.{first}", before, after, 1)
                draw.norm(f"{p}.{name}.{first + 1}", after)
            before = after
    draw.linear("linear" if kind.startswith("cifar") else "fc", before, classes)
    return draw.state


def resnet(w: Layers, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(w.norm("bn1", w.conv("conv1", x, 2))), 3, 2, 1)
    return w.linear("fc", _stages(w, x, _projected).mean((2, 3)))


def resnet_d(w: Layers, x: Tensor) -> Tensor:
    x = F.relu(w.norm("conv1.1", w.conv("conv1.0", x, 2)))
    x = F.relu(w.norm("conv1.4", w.conv("conv1.3", x)))
    x = F.max_pool2d(F.relu(w.norm("bn1", w.conv("conv1.6", x))), 3, 2, 1)
    return w.linear("fc", _stages(w, x, _pooled).mean((2, 3)))


def cifar(w: Layers, x: Tensor) -> Tensor:
    x = F.relu(w.norm("bn1", w.conv("conv1", x)))
    return w.linear("linear", _stages(w, x, _padded).mean((2, 3)))


def cifar_b(w: Layers, x: Tensor) -> Tensor:
    x = F.relu(w.norm("bn1", w.conv("conv1", x)))
    return w.linear("linear", _stages(w, x, _projected).mean((2, 3)))


Shortcut = Callable[[Layers, str, Tensor, int, int], Tensor]


def _stages(w: Layers, x: Tensor, shortcut: Shortcut) -> Tensor:
    for stage in itertools.count(1):
        if not w.has(f"layer{stage}.0.conv1"):
            return x
        for unit in itertools.count():
            p = f"layer{stage}.{unit}"
            if not w.has(f"{p}.conv1"):
                break
            stride = 2 if stage > 1 and unit == 0 else 1
            three = w.has(f"{p}.conv3")
            y = F.relu(w.norm(f"{p}.bn1", w.conv(f"{p}.conv1", x, 1 if three else stride)))
            y = w.norm(f"{p}.bn2", w.conv(f"{p}.conv2", y, stride if three else 1))
            if three:
                y = w.norm(f"{p}.bn3", w.conv(f"{p}.conv3", F.relu(y)))
            x = F.relu(y + shortcut(w, p, x, stride, y.shape[1]))
    raise AssertionError


def _projected(w: Layers, p: str, x: Tensor, stride: int, _: int) -> Tensor:
    for name in ("downsample", "shortcut"):
        if w.has(f"{p}.{name}.0"):
            return w.norm(f"{p}.{name}.1", w.conv(f"{p}.{name}.0", x, stride))
    return x


def _pooled(w: Layers, p: str, x: Tensor, stride: int, _: int) -> Tensor:
    if not w.has(f"{p}.downsample.1"):
        return x
    x = F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False) if stride == 2 else x
    return w.norm(f"{p}.downsample.2", w.conv(f"{p}.downsample.1", x))


def _padded(_: Layers, __: str, x: Tensor, stride: int, channels: int) -> Tensor:
    """A quarter of the new channels in front and a quarter behind, as that code has it."""
    if stride == 1 and x.shape[1] == channels:
        return x
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, channels // 4, channels // 4))


# torchvision: VGG-16, with batch normalisation or without.

PLAN = (2, 2, 3, 3, 3)


def make_vgg(widths: Sequence[int], classes: int, normal: bool, hidden: int) -> State:
    draw, place, before = Drawing(), 0, 3
    for depth, width in zip(PLAN, widths, strict=True):
        for _ in range(depth):
            draw.conv(f"features.{place}", before, width, 3, bias=True)
            if normal:
                draw.norm(f"features.{place + 1}", width)
            before, place = width, place + (3 if normal else 2)
        place += 1
    for number, (c_in, c_out) in zip(
        (0, 3, 6), ((before * 49, hidden), (hidden, hidden), (hidden, classes)), strict=True
    ):
        draw.linear(f"classifier.{number}", c_in, c_out)
    return draw.state


def vgg(w: Layers, x: Tensor) -> Tensor:
    place = 0
    for depth in PLAN:
        for _ in range(depth):
            x = w.conv(f"features.{place}", x)
            if f"features.{place + 1}.running_mean" in w.state:
                x, place = w.norm(f"features.{place + 1}", x), place + 1
            x, place = F.relu(x), place + 2
        x, place = F.max_pool2d(x, 2, 2), place + 1
    x = F.relu(w.linear("classifier.0", F.adaptive_avg_pool2d(x, 7).flatten(1)))
    return w.linear("classifier.6", F.relu(w.linear("classifier.3", x)))


# timm: resnetv2.


def make_v2(depths: Sequence[int], widths: Sequence[int], classes: int, bottleneck: bool = True) -> State:
    draw, before, grown = Drawing(), widths[0], 4 if bottleneck else 1
    draw.conv("stem.conv", 3, before, 7)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for unit in range(depth):
            p = f"stages.{stage}.blocks.{unit}"
            if unit == 0 and (bottleneck or stage > 0):
                draw.conv(f"{p}.downsample.conv", before, grown * width, 1)
            sizes = (1, 3, 1) if bottleneck else (3, 3)
            channels = (before, *[width] * (len(sizes) - 1), grown * width)
            for number, size in enumerate(sizes, 1):
                draw.norm(f"{p}.norm{number}", channels[number - 1])
                draw.conv(f"{p}.conv{number}", channels[number - 1], channels[number], size)
            before = grown * width
    # A scale below zero tells whether the pooling or the normalisation comes first.
    draw.state["stages.0.blocks.0.norm1.weight"][0] *= -1
    draw.norm("norm", before)
    draw.conv("head.fc", before, classes, 1, bias=True)
    return draw.state


def resnet_v2(w: Layers, x: Tensor) -> Tensor:
    x = F.max_pool2d(w.conv("stem.conv", x, 2), 3, 2, 1)
    for stage in itertools.count():
        if not w.has(f"stages.{stage}.blocks.0.conv1"):
            break
        for unit in itertools.count():
            p = f"stages.{stage}.blocks.{unit}"
            if not w.has(f"{p}.conv1"):
                break
            stride = 2 if stage and unit == 0 else 1
            active = F.relu(w.norm(f"{p}.norm1", x))
            carried = w.conv(f"{p}.downsample.conv", active, stride) if w.has(f"{p}.downsample.conv") else x
            three = w.has(f"{p}.conv3")
            y = w.conv(f"{p}.conv1", active, 1 if three else stride)
            y = w.conv(f"{p}.conv2", F.relu(w.norm(f"{p}.norm2", y)), stride if three else 1)
            x = carried + (w.conv(f"{p}.conv3", F.relu(w.norm(f"{p}.norm3", y))) if three else y)
    x = F.relu(w.norm("norm", x)).mean((2, 3), keepdim=True)
    return w.conv("head.fc", x).flatten(1)


# Keras: ResNet v1; kernels HWIO, images NHWC in BGR, 0..255 less the mean.

BGR_MEAN = torch.tensor([103.939, 116.779, 123.68])


def make_keras(depths: Sequence[int], widths: Sequence[int], classes: int) -> State:
    """Tensors by LAYER/VARIABLE."""
    draw, found, before = Drawing(), State(), widths[0]

    def conv(name: str, c_in: int, c_out: int, size: int) -> None:
        found[f"{name}_conv/kernel"] = draw.normal(size, size, c_in, c_out, spread=(2 / (c_in * size * size)) ** 0.5)
        found[f"{name}_conv/bias"] = draw.normal(c_out, spread=0.1)
        found[f"{name}_bn/gamma"] = 0.5 + torch.rand(c_out, generator=draw.random)
        found[f"{name}_bn/beta"] = draw.normal(c_out, spread=0.2)
        found[f"{name}_bn/moving_mean"] = draw.normal(c_out, spread=0.2)
        found[f"{name}_bn/moving_variance"] = 0.5 + torch.rand(c_out, generator=draw.random)

    conv("conv1", 3, before, 7)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 2):
        for unit in range(1, depth + 1):
            p = f"conv{stage}_block{unit}"
            if unit == 1:
                conv(f"{p}_0", before, 4 * width, 1)
            sizes = ((before, width, 1), (width, width, 3), (width, 4 * width, 1))
            for number, (c_in, c_out, size) in enumerate(sizes, 1):
                conv(f"{p}_{number}", c_in, c_out, size)
            before = 4 * width
    found["predictions/kernel"] = draw.normal(before, classes, spread=before**-0.5)
    found["predictions/bias"] = draw.normal(classes, spread=0.1)
    return found


def keras(state: State, images_NHWC: Tensor) -> Tensor:
    """The logits of RGB images 0..255."""

    def layer(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        kernel = state[f"{name}_conv/kernel"].permute(3, 2, 0, 1)
        x = F.conv2d(x, kernel, state[f"{name}_conv/bias"], stride, padding)
        mean, var = state[f"{name}_bn/moving_mean"], state[f"{name}_bn/moving_variance"]
        return F.batch_norm(x, mean, var, state[f"{name}_bn/gamma"], state[f"{name}_bn/beta"], eps=1.001e-5)

    x = (images_NHWC.flip(3) - BGR_MEAN).permute(0, 3, 1, 2)
    x = F.relu(layer("conv1", F.pad(x, (3, 3, 3, 3)), 2))
    x = F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2)
    for stage in itertools.count(2):
        if f"conv{stage}_block1_1_conv/kernel" not in state:
            break
        for unit in itertools.count(1):
            p = f"conv{stage}_block{unit}"
            if f"{p}_1_conv/kernel" not in state:
                break
            stride = 2 if stage > 2 and unit == 1 else 1
            carried = layer(f"{p}_0", x, stride) if unit == 1 else x
            y = F.relu(layer(f"{p}_1", x, stride))
            y = F.relu(layer(f"{p}_2", y, padding=1))
            x = F.relu(carried + layer(f"{p}_3", y))
    return x.mean((2, 3)) @ state["predictions/kernel"] + state["predictions/bias"]


# Keras: ResNetV2; kernels HWIO, images NHWC in RGB, from -1 to 1.


def make_keras_v2(depths: Sequence[int], widths: Sequence[int], classes: int) -> State:
    """Tensors by LAYER/VARIABLE; every stage has at least two units, as in Keras."""
    draw, found, before = Drawing(), State(), widths[0]

    def conv(name: str, c_in: int, c_out: int, size: int, bias: bool) -> None:
        found[f"{name}/kernel"] = draw.normal(size, size, c_in, c_out, spread=(2 / (c_in * size * size)) ** 0.5)
        if bias:
            found[f"{name}/bias"] = draw.normal(c_out, spread=0.1)

    def norm(name: str, channels: int) -> None:
        found[f"{name}/gamma"] = draw.normal(channels)
        found[f"{name}/beta"] = draw.normal(channels, spread=0.2)
        found[f"{name}/moving_mean"] = draw.normal(channels, spread=0.2)
        found[f"{name}/moving_variance"] = 0.5 + torch.rand(channels, generator=draw.random)

    conv("conv1_conv", 3, before, 7, True)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True), 2):
        for unit in range(1, depth + 1):
            p = f"conv{stage}_block{unit}"
            norm(f"{p}_preact_bn", before)
            if unit == 1:
                conv(f"{p}_0_conv", before, 4 * width, 1, True)
            conv(f"{p}_1_conv", before, width, 1, False)
            norm(f"{p}_1_bn", width)
            conv(f"{p}_2_conv", width, width, 3, False)
            norm(f"{p}_2_bn", width)
            conv(f"{p}_3_conv", width, 4 * width, 1, True)
            before = 4 * width
    norm("post_bn", before)
    found["predictions/kernel"] = draw.normal(before, classes, spread=before**-0.5)
    found["predictions/bias"] = draw.normal(classes, spread=0.1)
    return found


def keras_v2(state: State, images_NHWC: Tensor) -> Tensor:
    """The logits of RGB images 0..255."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return F.conv2d(x, state[f"{name}/kernel"].permute(3, 2, 0, 1), state.get(f"{name}/bias"), stride)

    def active(name: str, x: Tensor) -> Tensor:
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        mean, var, gamma, beta = (state[f"{name}/{variable}"] for variable in names)
        return F.relu(F.batch_norm(x, mean, var, gamma, beta, eps=1.001e-5))

    x = (images_NHWC / 127.5 - 1).permute(0, 3, 1, 2)
    x = F.max_pool2d(F.pad(conv("conv1_conv", F.pad(x, (3, 3, 3, 3)), 2), (1, 1, 1, 1)), 3, 2)
    numbers = [stage for stage in range(2, 20) if f"conv{stage}_block1_1_conv/kernel" in state]
    for stage in numbers:
        units = [unit for unit in range(1, 100) if f"conv{stage}_block{unit}_1_conv/kernel" in state]
        for unit in units:
            p = f"conv{stage}_block{unit}"
            stride = 2 if unit == units[-1] and stage != numbers[-1] else 1
            first = active(f"{p}_preact_bn", x)
            carried = conv(f"{p}_0_conv", first) if unit == 1 else F.max_pool2d(x, 1, stride)
            y = active(f"{p}_1_bn", conv(f"{p}_1_conv", first))
            y = active(f"{p}_2_bn", conv(f"{p}_2_conv", F.pad(y, (1, 1, 1, 1)), stride))
            x = carried + conv(f"{p}_3_conv", y)
    return active("post_bn", x).mean((2, 3)) @ state["predictions/kernel"] + state["predictions/bias"]
