"""Trained networks with units taken out or in another order, and their error. The network itself is left as it was.

Axes: images NCHW uint8 in a source. A unit can be taken out where its shortcut is the identity, or, in a plain network,
where it keeps the shape of its maps. Source: Veit et al. 2016 (Residual Networks Behave Like Ensembles), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from residual.data.preprocessing import Preprocessing
from residual.data.source import Source
from residual.evaluation.evaluate import evaluate
from residual.models import ResidualNetwork
from residual.models.units import Unit


@dataclass(frozen=True)
class Lesions:
    """Top-1 errors in percent: of the whole network, by unit that was deleted, by pair of neighbours that was swapped.
    Units are numbered from the input, (stage, place) is where they stand."""

    whole: float
    units: tuple[tuple[int, int], ...]
    deleted: tuple[float, ...]
    pairs: tuple[tuple[int, int], ...]
    swapped: tuple[float, ...]


def removable(network: ResidualNetwork) -> list[tuple[int, int]]:
    """(stage, place) of the units that keep the shape of their maps."""
    found = []
    for stage, units in enumerate(network.stages):
        for place, unit in enumerate(units.children()):
            if isinstance(unit, Unit) and _keeps_shape(unit):
                found.append((stage, place))
    return found


def _keeps_shape(unit: Unit) -> bool:
    if unit.shortcut is not None:
        return isinstance(unit.shortcut, nn.Identity)
    convs = [module for module in unit.children() if isinstance(module, nn.Conv2d)]
    return convs[0].in_channels == convs[-1].out_channels and all(conv.stride == (1, 1) for conv in convs)


@contextmanager
def replaced(network: ResidualNetwork, stage: int, units: Sequence[nn.Module]) -> Iterator[None]:
    """The network with other units in a stage, put back afterwards."""
    before = network.stages[stage]
    network.stages[stage] = nn.Sequential(*units)
    try:
        yield
    finally:
        network.stages[stage] = before


def lesions(
    network: ResidualNetwork,
    source: Source,
    indices: Tensor,
    preprocessing: Preprocessing,
    device: torch.device,
    tell: Callable[[int, int], None] = lambda done, whole: None,
) -> Lesions:
    """Delete every removable unit by itself, then swap every pair of neighbours in a stage that are removable.

    Args:
        indices: int64 N, the images that are judged.
        tell: told how many trials of how many are done.
    """
    places = removable(network)
    pairs = [(stage, place) for stage, place in places if (stage, place + 1) in places]
    trials = len(places) + len(pairs) + 1
    done = 0

    def error() -> float:
        nonlocal done
        found = evaluate(network, source, indices, preprocessing, device)
        done += 1
        tell(done, trials)
        return 100.0 if found is None else 100 * (1 - found.scores["top1"])

    whole = error()
    deleted, swapped = [], []
    for stage, place in places:
        units = list(network.stages[stage].children())
        with replaced(network, stage, units[:place] + units[place + 1 :]):
            deleted.append(error())
    for stage, place in pairs:
        units = list(network.stages[stage].children())
        with replaced(network, stage, [*units[:place], units[place + 1], units[place], *units[place + 2 :]]):
            swapped.append(error())
    return Lesions(whole, tuple(places), tuple(deleted), tuple(pairs), tuple(swapped))
