"""Initial weights and what they do to signals. Images are N(0, 1), labels drawn, seeds fixed.

Sources: He et al. 2015 (Delving Deep into Rectifiers), section 2.2; Glorot and Bengio 2010, equation 12.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import Final

import torch
from torch import nn

from residual.analysis.propagation import mean_ratio, signals, stack_variances
from residual.chance import stream
from residual.files import Facts
from residual.models import NetworkSettings, build, resolve

LAYERS: Final = 30
DRAWS: Final = 6


def variances() -> Facts:
    """Var[y_l] through thirty ReLU layers of 512, weights of variance 2/n and 1/n, against the formula.

    The formula is of the mean over weights: the variances are those of DRAWS networks together.
    """
    found: Facts = {"layers": LAYERS, "networks": DRAWS}
    for name, factor in (("he", 2.0), ("half", 1.0)):
        chains = [stack_variances(factor, LAYERS, 512, 24, stream(0, "variances", name, draw)) for draw in range(DRAWS)]
        chain = [fmean(layer) for layer in zip(*chains, strict=True)]
        expected = (factor / 2) ** (LAYERS - 1)
        found[name] = {
            "ratio": mean_ratio(chain),
            "formula": factor / 2,
            "end_over_start": chain[-1] / chain[0],
            "product": expected,
            "end_over_product": chain[-1] / chain[0] / expected,
        }
    return found


@torch.no_grad()
def initial_weights() -> Facts:
    """The deviation of all weights of ResNet-56, each over what it should be; biases; the first layer's n Var[w]."""
    network = build(resolve(NetworkSettings(name="resnet-56", conv_bias=True), classes=10), seed=0)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    # Written out here, not asked of what draws them: k x k x input channels are what one output adds up.
    scaled = torch.cat([(conv.weight / math.sqrt(2 / conv.weight[0].numel())).flatten() for conv in convs])
    biases = [conv.bias.abs().max() for conv in convs if conv.bias is not None]
    # The stem of one network has 432 weights, which say little of a variance: those of many seeds are taken.
    spec = resolve(NetworkSettings(name="resnet-8"), classes=10)
    stems = torch.stack([build(spec, seed).stem.get_parameter("conv.weight").detach() for seed in range(20)])
    return {
        "deviation": float(scaled.square().mean().sqrt()),
        "mean": float(scaled.mean()),
        "weights": scaled.numel(),
        "largest_bias": float(torch.stack(biases).max()),
        "first_layer_n_var": float(stems.square().mean() * stems[0, 0].numel()),
    }


def gradients() -> Facts:
    """Gradients at the first convolution over those at the last, 56 layers at the start: with and without BN, with He's
    weights and with those of half their variance."""
    images = torch.randn(16, 3, 16, 16, generator=stream(0, "gradients", "images"))
    labels = torch.randint(10, (16,), generator=stream(0, "gradients", "labels"))
    found: Facts = {}
    for name, parts in (
        ("plain", {"name": "plain-56"}),
        ("plain_half", {"name": "plain-56", "initialisation": "lecun"}),
        ("plain_without_bn_he", {"name": "plain-56", "norm": "none"}),
        ("plain_without_bn_half", {"name": "plain-56", "norm": "none", "initialisation": "lecun"}),
        ("residual", {"name": "resnet-56"}),
    ):
        network = build(resolve(NetworkSettings.model_validate(parts), classes=10), seed=0)
        one = signals(network, images, labels)
        found[name] = {
            "gradient_ratio": one.ratio,
            "decades": abs(math.log10(one.ratio)),
            "variance_ratio": one.growth,
            "layers": len(one.names),
        }
    return found
