"""The equations of the papers on the program's own units, in float64; a figure is the largest difference.

x maps NCHW, W weights. Sources: [1] He et al. 2015 (Deep Residual Learning), equations 1 and 2, section 3.3; [2] He
et al. 2016 (Identity Mappings), equations 3 to 5, figure 5; Howard and Gugger 2020, chapter 14 (the block of seed 001).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from residual.analysis.construction import deepened
from residual.analysis.unrolling import gradient_violation, sum_violation
from residual.chance import stream
from residual.files import Facts
from residual.models import NetworkSettings, NetworkSpec, build, resolve
from residual.models.layers import Layers
from residual.models.shortcuts import make_shortcut
from residual.models.units import Unit


def _noise(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=stream(0, "equations", name, *shape))


def _spec(**parts: Any) -> NetworkSpec:
    return resolve(NetworkSettings(**{"name": "resnet-20", **parts}), classes=10)


def _unit(c_in: int, width: int, stride: int, **parts: Any) -> Unit:
    """A unit with weights of its own in float64, in evaluation mode."""
    unit = Unit(c_in, width, stride, _spec(**parts)).double().eval()
    for name, parameter in unit.named_parameters():
        parameter.data = _noise(*parameter.shape, name=name) / max(1, parameter[0].numel()) ** 0.5
    return unit


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b.detach()).abs().max())


def _conv(unit: Unit, name: str, x: Tensor) -> Tensor:
    module = unit.get_submodule(name)
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"{name} is no convolution")
    return F.conv2d(x, module.weight, module.bias, module.stride, module.padding)


def layers() -> Facts:
    """y = W x + b: a convolution as the product of its weights and the patches under its filters."""
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    x = _noise(2, 3, 6, 6)
    bias = conv.get_parameter("bias")
    product = conv.weight.flatten(1) @ F.unfold(x, 3, padding=1) + bias.view(1, -1, 1)
    return {"matrix_product": _gap(conv(x).flatten(2), product.detach()), "inputs": conv.weight[0].numel()}


@torch.no_grad()
def units() -> Facts:
    """Units without normalisation against the equations written out by hand."""
    bare = {"norm": "none", "conv_bias": False}
    x = _noise(2, 8, 6, 6)
    original, plain = _unit(8, 8, 1, **bare), _unit(8, 8, 1, **bare, name="plain-20")
    before = _unit(8, 8, 1, **bare, order="full-pre-activation")
    branch = _conv(original, "conv2", _conv(original, "conv1", x).relu())
    projected = _unit(8, 16, 2, **bare, shortcut="B")
    shortcut = projected.get_submodule("shortcut")
    carried = shortcut(x)
    strided = _conv(projected, "conv2", _conv(projected, "conv1", x).relu())
    early = _conv(before, "conv2", _conv(before, "conv1", x.relu()).relu())
    return {
        "original": _gap(original(x), (branch + x).relu()),
        "without_last_relu": _gap(original(x), branch + x),
        "branch_is_plain": _gap(plain(x), branch.relu()),
        "branch_with_x": _gap(plain(x), (branch + x).relu()),
        "projection": _gap(projected(x), (strided + carried).relu()),
        "projection_weights": sum(p.numel() for p in shortcut.parameters()),
        "pre_activation": _gap(before(x), x + early),
        "pre_activation_with_relu": _gap(before(x), (x + early).relu()),
    } | _asymmetric()


def _asymmetric() -> Facts:
    """[2] figure 5: an activation after the addition that only the branch reads is the next unit's pre-activation."""
    bare = {"norm": "none", "conv_bias": False, "order": "full-pre-activation"}
    chain = [_unit(8, 8, 1, **bare) for _ in range(3)]
    x = _noise(2, 8, 6, 6)
    path, read = x, x.relu()  # what the shortcut carries, and what the branch reads
    for unit in chain:
        path = path + _conv(unit, "conv2", _conv(unit, "conv1", read).relu())
        read = path.relu()
    for unit in chain:
        x = unit(x)
    return {"asymmetric": _gap(x, path)}


@torch.no_grad()
def shortcuts() -> Facts:
    """The options where dimensions change, and where they do not; a sum of two shapes."""
    x, made = _noise(2, 8, 6, 6), Layers(normalise=False)
    kinds = {kind: make_shortcut(kind, 8, 16, 2, made) for kind in ("A", "B")}
    padded = kinds["A"](x) if kinds["A"] is not None else x
    projection = kinds["B"].double() if kinds["B"] is not None else nn.Identity()
    weight = projection.get_parameter("conv.weight")
    same = make_shortcut("B", 8, 8, 1, made)
    try:
        refused = _noise(2, 16, 3, 3).add(x) is None
    except RuntimeError:
        refused = True
    return {
        "option_a_identity": _gap(padded[:, :8], x[:, :, ::2, ::2]),
        "option_a_kept": padded[0, 0].numel() / x[0, 0].numel(),
        "option_a_zeros": float(padded[:, 8:].abs().max()),
        "option_a_weights": 0 if kinds["A"] is None else sum(p.numel() for p in kinds["A"].parameters()),
        "option_b_linear": _gap(projection(x), torch.einsum("oc,nchw->nohw", weight[:, :, 0, 0], x[:, :, ::2, ::2])),
        "option_b_weights": weight.numel(),
        "identity_where_same": isinstance(same, nn.Identity),
        "other_shapes_refused": refused,
    }


@torch.no_grad()
def identities() -> Facts:
    """Where added layers are the identity: the last scale at zero, inserted Dirac layers, H = F + x of both forms."""
    spec = _spec(zero_last_scale=True)
    unit = Unit(16, 16, 1, spec).double().eval()
    nn.init.zeros_(unit.get_submodule("norm2").get_parameter("weight"))
    x = _noise(2, 16, 6, 6).relu()
    shallow = build(resolve(NetworkSettings(name="plain-20"), classes=10), seed=1).double().eval()
    deep = deepened(shallow, 1).double().eval()
    images = _noise(2, 3, 32, 32, name="images")
    target, flat = _noise(12, 12, name="H"), _noise(5, 12)
    residual = flat @ (target - torch.eye(12, dtype=torch.float64)) + flat
    return {
        "zero_branch": _gap(unit(x), x),
        "constructed": _gap(deep(images), shallow(images)),
        "constructed_layers": deep.spec.weighted_layers,
        "both_forms": _gap(residual, flat @ target),
    }


def unrolled() -> Facts:
    """x_L = x_l + sum of F from l on ([2] equation 4) and its gradient (equation 5): relative violations."""
    widths = (16, 16, 16)
    found: Facts = {}
    for name, order in (("pre_activation", "full-pre-activation"), ("original", "original")):
        network = build(_spec(order=order, widths=widths, depths=(4, 1, 1)), seed=0).double().eval()
        stage = [unit for unit in network.stages[0].children() if isinstance(unit, Unit)]
        x = _noise(4, 16, 8, 8, name="maps").abs()
        found[name] = {
            "from_l": sum_violation(stage, x, first=1),
            "from_1": sum_violation(stage, x, first=1, lower=0),
            "gradient": gradient_violation(stage, x),
        }
    matrices = [_noise(6, 6, name=f"W{number}") for number in range(5)]
    found["plain"] = {"product": _product(matrices, _noise(6, 3))}
    return found


def _product(matrices: Sequence[Tensor], x: Tensor) -> float:
    """A plain chain of linear layers, layer by layer and as one product."""
    whole, maps = torch.eye(len(matrices[0]), dtype=torch.float64), x
    for matrix in matrices:
        whole, maps = matrix @ whole, matrix @ maps
    return _gap(whole @ x, maps)


@torch.no_grad()
def block_of_seed_001() -> Facts:
    """F.relu(convs(x) + idconv(pool(x))) of the seed with stride 2: its sides against ours, down to one pixel."""
    spec = resolve(NetworkSettings(name="fastbook-resnet50"), classes=10)
    unit = Unit(16, 8, 2, spec).double().eval()
    idconv, norm = nn.Conv2d(16, 32, 1, bias=False).double(), nn.BatchNorm2d(32).double().eval()
    shortcut = unit.get_submodule("shortcut")
    idconv.weight.copy_(shortcut.get_parameter("conv.weight"))
    found: Facts = {}
    for side in (32, 8, 7, 1):
        x = _noise(2, 16, side, side)
        pooled = norm(idconv(nn.AvgPool2d(2, ceil_mode=True)(x)))
        found[f"side_{side}"] = unit(x).shape[-1]
        found[f"shortcut_{side}"] = _gap(shortcut(x), pooled)
    return found
