"""Whole networks against forward passes written as plain functions from the papers, weights by name.

Nothing of `residual.models` but the names of the weights is used: F.conv2d, F.batch_norm, F.max_pool2d. Float64;
evaluation and training, where the running statistics must move alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from residual.models import NetworkSettings, build, resolve

State = dict[str, Tensor]


class Weights:
    """The layers of a network as functions of their names."""

    def __init__(self, state: State, training: bool, eps: float = 1e-5) -> None:
        self.state, self.training, self.eps = state, training, eps

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, padding=(weight.shape[-1] - 1) // 2)

    def bn(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, self.training, 0.1, self.eps)

    def classify(self, x: Tensor) -> Tensor:
        return (
            F.adaptive_avg_pool2d(x, 1).flatten(1) @ self.state["classifier.weight"].T + self.state["classifier.bias"]
        )


def stem_7x7(w: Weights, x: Tensor) -> Tensor:
    return F.max_pool2d(F.relu(w.bn("stem.norm", w.conv("stem.conv", x, 2))), 3, 2, 1)


def stem_3x3(w: Weights, x: Tensor) -> Tensor:
    return F.relu(w.bn("stem.norm", w.conv("stem.conv", x)))


def projected(w: Weights, p: str, x: Tensor, stride: int) -> Tensor:
    """Option B: a projection where there is one to be had, else the input itself."""
    if f"{p}.shortcut.conv.weight" not in w.state:
        return x
    return w.bn(f"{p}.shortcut.norm", w.conv(f"{p}.shortcut.conv", x, stride))


def padded(x: Tensor, c_out: int, stride: int) -> Tensor:
    """Option A."""
    sampled = x[:, :, ::stride, ::stride]
    return torch.cat([sampled, sampled.new_zeros(len(x), c_out - x.shape[1], *sampled.shape[2:])], 1)


def basic(w: Weights, p: str, x: Tensor, stride: int, **_: Any) -> Tensor:
    z = F.relu(w.bn(f"{p}.norm1", w.conv(f"{p}.conv1", x, stride)))
    z = w.bn(f"{p}.norm2", w.conv(f"{p}.conv2", z))
    return F.relu(z + projected(w, p, x, stride))


def bottleneck(w: Weights, p: str, x: Tensor, stride: int, *, late: bool = False, **_: Any) -> Tensor:
    early, middle = (1, stride) if late else (stride, 1)
    z = F.relu(w.bn(f"{p}.norm1", w.conv(f"{p}.conv1", x, early)))
    z = F.relu(w.bn(f"{p}.norm2", w.conv(f"{p}.conv2", z, middle)))
    z = w.bn(f"{p}.norm3", w.conv(f"{p}.conv3", z))
    return F.relu(z + projected(w, p, x, stride))


def pooled_bottleneck(w: Weights, p: str, x: Tensor, stride: int, **_: Any) -> Tensor:
    """The block of seed 001: relu(convs(x) + idconv(pool(x)))."""
    z = F.relu(w.bn(f"{p}.norm1", w.conv(f"{p}.conv1", x)))
    z = F.relu(w.bn(f"{p}.norm2", w.conv(f"{p}.conv2", z, stride)))
    z = w.bn(f"{p}.norm3", w.conv(f"{p}.conv3", z))
    pooled = x if stride == 1 else F.avg_pool2d(x, 2, ceil_mode=True)
    return F.relu(z + projected(w, p, pooled, 1))


def preact_basic(w: Weights, p: str, x: Tensor, stride: int, *, first: bool, **_: Any) -> Tensor:
    a = x if first else F.relu(w.bn(f"{p}.norm1", x))
    z = w.conv(f"{p}.conv1", a, stride)
    z = w.conv(f"{p}.conv2", F.relu(w.bn(f"{p}.norm2", z)))
    return z + (x if stride == 1 else padded(a, z.shape[1], stride))


def preact_bottleneck(w: Weights, p: str, x: Tensor, stride: int, *, first: bool, **_: Any) -> Tensor:
    a = x if first else F.relu(w.bn(f"{p}.norm1", x))
    z = w.conv(f"{p}.conv1", a, stride)
    z = w.conv(f"{p}.conv2", F.relu(w.bn(f"{p}.norm2", z)))
    z = w.conv(f"{p}.conv3", F.relu(w.bn(f"{p}.norm3", z)))
    changes = f"{p}.shortcut.conv.weight" in w.state
    return z + (w.conv(f"{p}.shortcut.conv", a, stride) if changes else x)


def keras_v2_bottleneck(w: Weights, p: str, x: Tensor, stride: int, **_: Any) -> Tensor:
    """keras.applications.resnet.residual_block_v2."""
    a = F.relu(w.bn(f"{p}.norm1", x))
    changes = f"{p}.shortcut.conv.weight" in w.state
    carried = w.conv(f"{p}.shortcut.conv", a, stride) if changes else F.max_pool2d(x, 1, stride)
    z = w.conv(f"{p}.conv1", a)
    z = w.conv(f"{p}.conv2", F.relu(w.bn(f"{p}.norm2", z)), stride)
    return carried + w.conv(f"{p}.conv3", F.relu(w.bn(f"{p}.norm3", z)))


def keras_v2_stem(w: Weights, x: Tensor) -> Tensor:
    return F.max_pool2d(F.pad(w.conv("stem.conv", x, 2), (1, 1, 1, 1)), 3, 2)


def network(
    w: Weights,
    x: Tensor,
    stem: Callable[[Weights, Tensor], Tensor],
    unit: Callable[..., Tensor],
    depths: Sequence[int],
    late: bool = False,
    pre: bool = False,
    keras_v2: bool = False,
) -> Tensor:
    x = stem(w, x)
    for stage, depth in enumerate(depths):
        for place in range(depth):
            strided = place == depth - 1 and stage < len(depths) - 1 if keras_v2 else stage > 0 and place == 0
            first = stage == place == 0 and not keras_v2
            x = unit(w, f"stages.{stage}.{place}", x, 2 if strided else 1, first=first, late=late)
    return w.classify(F.relu(w.bn("final.0", x)) if pre else x)


def stem_three(w: Weights, x: Tensor) -> Tensor:
    for number, stride in ((1, 2), (2, 1), (3, 1)):
        x = F.relu(w.bn(f"stem.norm{number}", w.conv(f"stem.conv{number}", x, stride)))
    return F.max_pool2d(x, 3, 2, 1)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "resnet-18": ({"shortcut": "B"}, {"stem": stem_7x7, "unit": basic, "depths": (2, 2, 2, 2)}),
    "resnet-50": ({}, {"stem": stem_7x7, "unit": bottleneck, "depths": (3, 4, 6, 3)}),
    "resnet-50-v1.5": ({}, {"stem": stem_7x7, "unit": bottleneck, "depths": (3, 4, 6, 3), "late": True}),
    "resnet-101-v1.5": ({}, {"stem": stem_7x7, "unit": bottleneck, "depths": (3, 4, 23, 3), "late": True}),
    "resnet-50-keras": ({}, {"stem": stem_7x7, "unit": bottleneck, "depths": (3, 4, 6, 3)}),
    "preact-50-keras": (
        {},
        {"stem": keras_v2_stem, "unit": keras_v2_bottleneck, "depths": (3, 4, 6, 3), "pre": True, "keras_v2": True},
    ),
    "preact-20": ({}, {"stem": stem_3x3, "unit": preact_basic, "depths": (3, 3, 3), "pre": True}),
    "preact-50": ({}, {"stem": stem_7x7, "unit": preact_bottleneck, "depths": (3, 4, 6, 3), "pre": True}),
    "preact-164-bottleneck": (
        {"depths": (3, 3, 3)},
        {"stem": stem_3x3, "unit": preact_bottleneck, "depths": (3, 3, 3), "pre": True},
    ),
    "fastbook-resnet50": ({}, {"stem": stem_three, "unit": pooled_bottleneck, "depths": (3, 4, 6, 3)}),
}


EPS = {"resnet-50-keras": 1.001e-5, "preact-50-keras": 1.001e-5}


def drawn(name: str, **parts: Any) -> Any:
    """The network in float64, a quarter as wide where it is wide, every scale, shift and statistic drawn."""
    if name.startswith(("resnet", "fastbook", "preact-50")):
        parts["widths"] = (16, 32, 64, 128)
    made = build(resolve(NetworkSettings(name=name, **parts), classes=11)).double()
    generator = torch.Generator().manual_seed(17)
    with torch.no_grad():
        for key, tensor in made.state_dict().items():
            if tensor.ndim == 1 and tensor.is_floating_point():  # biases too
                spread = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(spread + 0.5 if key.endswith(("running_var", "norm.weight")) else spread - 0.3)
    return made


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_logits_and_statistics(name, training):
    parts, written = CASES[name]
    made = drawn(name, **parts).train(training)
    state = {key: tensor.clone() for key, tensor in made.state_dict().items()}
    side = 19 if written["stem"] is stem_3x3 else 67
    x = torch.randn(20, 3, side, side + 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected = network(Weights(state, training, EPS.get(name, 1e-5)), x, **written)
        logits = made(x)
    scale = float(expected.abs().max())
    assert float((logits - expected).abs().max()) <= 1e-10 * scale
    moved = made.state_dict()
    for key, tensor in state.items():
        if key.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(moved[key], tensor, rtol=1e-10, atol=1e-12)


def test_the_comparison_can_fail():
    """One stride in another place, and the functions disagree."""
    made = drawn("resnet-50-v1.5").eval()
    x = torch.randn(2, 3, 67, 67, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        other = network(Weights(made.state_dict(), False), x, stem_7x7, bottleneck, (3, 4, 6, 3), late=False)
        assert float((made(x) - other).abs().max()) > 1e-3 * float(other.abs().max())
