"""The parts of a network in the order of its layers: stem, stages, head. Fine-tuning freezes and slows down by them.

The stem is part 0, stage k is part k, and the last part is all that reads the last stage's maps: the classifier, and
VGG's hidden layers. The activation that ends a pre-activation network belongs to its last stage.
"""

from __future__ import annotations

from torch import nn

from residual.models.networks import ResidualNetwork


def parts(network: ResidualNetwork) -> list[list[nn.Module]]:
    """The modules of every part, `len(spec.depths) + 2` of them."""
    *before, last = network.stages
    stages = [[stage] for stage in before] + [[last, network.final]]
    return [[network.stem], *stages, [network.head, network.dropout, network.classifier]]


def part_of(name: str, stages: int) -> int:
    """The number of the part that a parameter or buffer of that name belongs to."""
    first, _, rest = name.partition(".")
    if first == "stages":
        return int(rest.partition(".")[0]) + 1
    return {"stem": 0, "final": stages}.get(first, stages + 1)


def title(part: int, stages: int) -> str:
    """A part in words."""
    return "stem" if part == 0 else "head" if part > stages else f"stage {part}"
