"""Every unit of the table against formulas written by hand, and its order read from the operations that run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from residual.models import NetworkSettings, NetworkSpec, build, resolve
from residual.models.units import Unit

ORDERS = (
    "original",
    "bn-after-addition",
    "relu-before-addition",
    "relu-only-pre-activation",
    "full-pre-activation",
)
PRE = ORDERS[3:]


def spec_of(**parts: Any) -> NetworkSpec:
    return resolve(NetworkSettings(name="resnet-20", **parts), classes=10)


def unit_of(c_in: int, width: int, stride: int, **parts: Any) -> Unit:
    """A unit in float64 whose every number is drawn, so that no layer is near the identity."""
    first = parts.pop("first", False)
    unit = Unit(c_in, width, stride, spec_of(**parts), first=first).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in unit.state_dict().items():
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(drawn.abs() + 0.2 if name.endswith("running_var") else drawn)
    return unit


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


# The table of the paper, written out: He et al. 2016, figure 4. b(i, z) normalises, c(i, z) convolves, R is the ReLU.
Layer = Callable[[int, Tensor], Tensor]
R = F.relu
FORMULAS: dict[tuple[str, str], Callable[[Layer, Layer, Tensor, Tensor], Tensor]] = {
    ("basic", "original"): lambda b, c, x, h: R(b(2, c(2, R(b(1, c(1, x))))) + h),
    ("basic", "bn-after-addition"): lambda b, c, x, h: R(b(2, c(2, R(b(1, c(1, x)))) + h)),
    ("basic", "relu-before-addition"): lambda b, c, x, h: R(b(2, c(2, R(b(1, c(1, x)))))) + h,
    ("basic", "relu-only-pre-activation"): lambda b, c, x, h: b(2, c(2, R(b(1, c(1, R(x)))))) + h,
    ("basic", "full-pre-activation"): lambda b, c, x, h: c(2, R(b(2, c(1, R(b(1, x)))))) + h,
    ("1layer", "original"): lambda b, c, x, h: R(b(1, c(1, x)) + h),
    ("1layer", "bn-after-addition"): lambda b, c, x, h: R(b(1, c(1, x) + h)),
    ("1layer", "relu-before-addition"): lambda b, c, x, h: R(b(1, c(1, x))) + h,
    ("1layer", "relu-only-pre-activation"): lambda b, c, x, h: b(1, c(1, R(x))) + h,
    ("1layer", "full-pre-activation"): lambda b, c, x, h: c(1, R(b(1, x))) + h,
    ("bottleneck", "original"): lambda b, c, x, h: R(b(3, c(3, R(b(2, c(2, R(b(1, c(1, x)))))))) + h),
    ("bottleneck", "bn-after-addition"): lambda b, c, x, h: R(b(3, c(3, R(b(2, c(2, R(b(1, c(1, x))))))) + h)),
    ("bottleneck", "relu-before-addition"): lambda b, c, x, h: R(b(3, c(3, R(b(2, c(2, R(b(1, c(1, x))))))))) + h,
    ("bottleneck", "relu-only-pre-activation"): lambda b, c, x, h: b(3, c(3, R(b(2, c(2, R(b(1, c(1, R(x))))))))) + h,
    ("bottleneck", "full-pre-activation"): lambda b, c, x, h: c(3, R(b(3, c(2, R(b(2, c(1, R(b(1, x))))))))) + h,
}


@pytest.mark.parametrize(("form", "order"), FORMULAS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_forward_is_the_formula(form, order, training, stride):
    width = {"basic": 8, "1layer": 8, "bottleneck": 2}[form]
    unit = unit_of(8, width, stride, unit=form, order=order, shortcut="A").train(training)
    state = {name: tensor.clone() for name, tensor in unit.state_dict().items()}
    x = maps(3, 8, 6, 6)

    def b(i: int, z: Tensor) -> Tensor:
        own = [state[f"norm{i}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        mean, variance = (z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)) if training else own[:2]
        scaled = (z - mean.view(1, -1, 1, 1)) / (variance.view(1, -1, 1, 1) + 1e-5).sqrt()
        return scaled * own[2].view(1, -1, 1, 1) + own[3].view(1, -1, 1, 1)

    def c(i: int, z: Tensor) -> Tensor:
        weight = state[f"conv{i}.weight"]
        return F.conv2d(z, weight, stride=stride if i == 1 else 1, padding=weight.shape[-1] // 2)

    h = x
    if stride == 2:  # both paths start from the shared pre-activation; option A keeps every second pixel
        h = {"full-pre-activation": lambda: R(b(1, x)), "relu-only-pre-activation": lambda: R(x)}.get(
            order, lambda: x
        )()
        h = h[:, :, ::2, ::2]
    torch.testing.assert_close(unit(x), FORMULAS[form, order](b, c, x, h), rtol=1e-10, atol=1e-10)


class Log(TorchDispatchMode):
    """Letters for the operations that run: c convolution, n normalisation, r ReLU, + addition of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        letter = {"convolution": "c", "relu": "r", "add": "+"}.get(name, "n" if "batch_norm" in name else "")
        if letter != "+" or all(isinstance(a, Tensor) and a.ndim == 4 for a in args[:2]):
            self.steps += letter
        return func(*args, **(kwargs or {}))


STEPS = {
    ("basic", "original"): "cnrcn+r",
    ("basic", "bn-after-addition"): "cnrc+nr",
    ("basic", "relu-before-addition"): "cnrcnr+",
    ("basic", "relu-only-pre-activation"): "rcnrcn+",
    ("basic", "full-pre-activation"): "nrcnrc+",
    ("bottleneck", "original"): "cnrcnrcn+r",
    ("bottleneck", "bn-after-addition"): "cnrcnrc+nr",
    ("bottleneck", "relu-before-addition"): "cnrcnrcnr+",
    ("bottleneck", "relu-only-pre-activation"): "rcnrcnrcn+",
    ("bottleneck", "full-pre-activation"): "nrcnrcnrc+",
    ("1layer", "original"): "cn+r",
    ("1layer", "bn-after-addition"): "c+nr",
    ("1layer", "relu-before-addition"): "cnr+",
    ("1layer", "relu-only-pre-activation"): "rcn+",
    ("1layer", "full-pre-activation"): "nrc+",
}


def steps(module: nn.Module, x: Tensor) -> str:
    with torch.no_grad(), Log() as log:
        module(x)
    return log.steps


@pytest.mark.parametrize(("form", "order"), STEPS)
def test_order_of_the_operations_that_run(form, order):
    width = 2 if form == "bottleneck" else 8
    x = maps(2, 8, 4, 4)
    unit = unit_of(8, width, 1, unit=form, order=order)
    assert steps(unit, x) == STEPS[form, order]
    plain = unit_of(8, width, 1, unit=form, order=order, shortcut="none")
    assert steps(plain, x) == STEPS[form, order].replace("+", "")


@pytest.mark.parametrize("order", PRE)
def test_the_first_unit_leaves_its_activation_to_the_stem_and_the_last_is_followed_by_one(order):
    network = build(spec_of(order=order, depths=(1, 1), widths=(4, 8), shortcut="A")).eval()
    unit = STEPS["basic", order]
    first = unit[unit.index("c") :]
    end = {"full-pre-activation": "nr", "relu-only-pre-activation": "r"}[order]
    assert steps(network, torch.zeros(1, 3, 8, 8)) == "cnr" + first + unit + end


def test_the_first_unit_may_do_the_first_activation_and_carries_on_what_it_got():
    parts: dict[str, Any] = {"order": "full-pre-activation", "first_activation": "unit", "shortcut": "A"}
    network = build(spec_of(**parts, depths=(1, 1), widths=(4, 8))).eval()
    unit = STEPS["basic", "full-pre-activation"]
    assert steps(network, torch.zeros(1, 3, 8, 8)) == "c" + unit + unit + "nr"
    x = network.get_submodule("stem")(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    first = network.get_submodule("stages.0.0")
    torch.nn.init.zeros_(first.get_parameter("conv2.weight"))
    assert torch.equal(first(x), x)


@pytest.mark.parametrize("order", ["original", "full-pre-activation"])
@pytest.mark.parametrize(("shortcut", "weights"), [("A", 0), ("B", 0), ("C", 1), ("avgpool", 0)])
def test_the_last_unit_of_a_stage_may_have_the_stride(order, shortcut, weights):
    spec = spec_of(depths=(2, 3, 1, 2), widths=(4, 4, 8, 8), order=order, shortcut=shortcut, stride_unit="last")
    network = build(spec).eval()
    x = torch.randn(1, 3, 21, 30, generator=torch.Generator().manual_seed(1))
    sizes = [tuple(maps.shape[2:]) for maps in network.features(x)]
    assert sizes == [(11, 15), (6, 8), (3, 4), (3, 4)]
    unit = network.get_submodule("stages.1.2")
    got = torch.randn(2, 4, 7, 5, generator=torch.Generator().manual_seed(1))
    assert unit.get_submodule("shortcut")(got).shape == (2, 4, 4, 3)
    assert len([n for n, _ in unit.named_parameters() if n.startswith("shortcut.conv.weight")]) == weights
    if order != "original" and shortcut in ("A", "B"):
        torch.nn.init.zeros_(unit.get_parameter("conv2.weight"))
        assert torch.equal(unit(got), got[:, :, ::2, ::2])  # not the activated maps


@pytest.mark.parametrize("order", PRE)
def test_where_the_dimensions_change_both_paths_read_the_activation(order):
    unit = unit_of(4, 8, 2, order=order, shortcut="B")
    read: list[Tensor] = []
    hooked = [unit.get_submodule("conv1"), unit.get_submodule("shortcut.conv")]
    for module in hooked:
        module.register_forward_hook(lambda _module, inputs, _output: read.append(inputs[0]))
    unit(maps(2, 4, 6, 6))
    assert read[0] is read[1]
    assert bool((read[0] >= 0).all())
    assert not hasattr(unit.get_submodule("shortcut.norm"), "weight")


def test_pre_activation_units_add_to_what_passes_exactly():
    # x_L = x_l + the sum of the branches, and its gradient: equations 4 and 5 of He et al. 2016.
    units = [unit_of(4, 4, 1, order="full-pre-activation").eval() for _ in range(3)]
    x = maps(2, 4, 5, 5).requires_grad_()
    out = x
    for unit in units:
        out = unit(out)
    seed = maps(2, 4, 5, 5) * 2
    (whole,) = torch.autograd.grad(out, x, seed)

    passing, inputs = x.detach(), []
    for unit in units:
        inputs.append(passing)
        branch = unit._run((*unit._before, *unit._branch), passing)
        passing = branch + passing
    assert torch.equal(out, passing)
    gradient = seed
    for unit, start in zip(reversed(units), reversed(inputs), strict=True):
        start = start.clone().requires_grad_()
        branch = unit._run((*unit._before, *unit._branch), start)
        gradient = gradient + torch.autograd.grad(branch, start, gradient)[0]
    torch.testing.assert_close(whole, gradient, rtol=1e-12, atol=1e-12)


def test_an_activation_after_the_addition_on_the_branch_alone_is_pre_activation():
    # He et al. 2016, figure 6: from (a) asymmetric output activation to (b) pre-activation, by regrouping.
    network = build(spec_of(order="full-pre-activation", depths=(3,), widths=(4,), shortcut="A")).double().eval()
    x = maps(2, 3, 6, 6)
    units = [module for module in network.modules() if isinstance(module, Unit)]
    after = [nn.Sequential(unit.get_submodule("norm1"), nn.ReLU()) for unit in units[1:]] + [network.final]
    conv = network.get_submodule("stem.conv")
    activated = network.get_submodule("stem.norm")(conv(x)).relu()
    passing = activated
    for unit, activation in zip(units, after, strict=True):
        inner = unit.get_submodule("norm2")(unit.get_submodule("conv1")(activated)).relu()
        passing = passing + unit.get_submodule("conv2")(inner)
        activated = activation(passing)
    torch.testing.assert_close(network.features(x)[-1], activated, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("stride", "expected"), [("1x1", [2, 1, 1]), ("3x3", [1, 2, 1])])
def test_stride_of_a_bottleneck(stride, expected):
    unit = Unit(8, 4, 2, spec_of(unit="bottleneck", stride=stride))
    convs = [unit.get_submodule(f"conv{i}") for i in (1, 2, 3)]
    assert [conv.stride for conv in convs if isinstance(conv, nn.Conv2d)] == [(s, s) for s in expected]
    assert unit(torch.zeros(2, 8, 5, 7)).shape == (2, 16, 3, 4)


@pytest.mark.parametrize("order", ["original", "relu-only-pre-activation"])
@pytest.mark.parametrize("form", ["basic", "bottleneck", "1layer"])
def test_zero_last_scale_makes_a_unit_the_identity(order, form):
    network = build(spec_of(order=order, unit=form, shortcut="A", zero_last_scale=True, depths=(2, 2, 2)))
    x = torch.rand(2, network.spec.outputs[1], 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(network.get_submodule("stages.1.1")(x), x)
    units = [module for module in network.modules() if isinstance(module, Unit)]
    assert len(units) == 6
    for unit in units:
        assert unit.last_norm is not None
        assert unit.last_norm.weight.count_nonzero() == 0
    scales = [m.weight for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(bool(scale.count_nonzero() == 0) for scale in scales) == 6


@pytest.mark.parametrize("order", ["bn-after-addition", "relu-before-addition", "full-pre-activation"])
def test_zero_last_scale_is_refused_where_it_would_do_harm_or_nothing(order):
    with pytest.raises(ValueError, match=f"zero_last_scale is true; .*order {order}"):
        NetworkSpec.model_validate({**spec_of(order=order).model_dump(), "zero_last_scale": True})


def test_a_hook_may_keep_what_a_layer_gave():
    unit = Unit(4, 4, 1, spec_of())
    kept = []
    norm = unit.get_submodule("norm2")
    norm.register_forward_hook(lambda _module, _inputs, output: kept.append((output, output.clone())))
    unit(torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(2)))
    later, at_once = kept[0]
    assert torch.equal(later, at_once)
    assert (later < 0).any()


def test_without_normalisation_convolutions_have_biases():
    network = build(spec_of(norm="none"))
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert all(conv.bias is not None and not conv.bias.count_nonzero() for conv in convs)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert network(torch.ones(2, 3, 8, 8)).isfinite().all()
    assert spec_of(norm="none", conv_bias=False).conv_bias is False
