"""Which stages of units a file's names and shapes describe, for families that number them."""

from __future__ import annotations

import re
from typing import NamedTuple

from residual.errors import ModelError
from residual.models.interchange.conversion import Shapes


class Stages(NamedTuple):
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    bottleneck: bool


def read_stages(shapes: Shapes, pattern: str, where: object, start: int = 0, first_convolution: int = 1) -> Stages:
    """Depths and widths of the units whose convolutions `pattern` names.

    Args:
        pattern: a regular expression with the groups stage, unit and conv, of a convolution's weights.
        start: the number of the first stage.
        first_convolution: that of the first convolution of a unit.

    Raises:
        ModelError: a stage or unit is missing, or its shapes are those of another kind of network.
    """
    found: dict[tuple[int, int], dict[int, tuple[int, ...]]] = {}
    form = re.compile(pattern)
    for name, shape in shapes.items():
        if match := form.fullmatch(name):
            if len(shape) != 4:
                raise ModelError(f"{name} is no convolution: shape {list(shape)}", where, "take another file")
            place = (int(match["stage"]) - start, int(match["unit"]))
            found.setdefault(place, {})[int(match["conv"]) + 1 - first_convolution] = shape
    count = len({stage for stage, _ in found})
    depths = tuple(sum(stage == number for stage, _ in found) for number in range(count))
    gaps = [f"{s}.{u}" for s, depth in enumerate(depths) for u in range(max(1, depth)) if (s, u) not in found]
    if gaps:
        raise ModelError(
            f"stage {gaps[0].replace('.', ' has no unit ')}", where, "the file is incomplete; take another"
        )
    kinds = {tuple(sorted(convs)) for convs in found.values()}
    if kinds not in ({(1, 2)}, {(1, 2, 3)}):
        raise ModelError("its units are neither of two nor of three convolutions", where, "the file is incomplete")
    firsts = [found[stage, 0] for stage in range(count)]
    for convs in firsts:
        _refuse_others(convs, where)
    return Stages(depths, tuple(convs[1][0] for convs in firsts), kinds == {(1, 2, 3)})


def _refuse_others(convs: dict[int, tuple[int, ...]], where: object) -> None:
    """Refuse grouped convolutions and bottlenecks of another width, which are other networks."""
    inner, last = convs[2], convs[max(convs)]
    if inner[1] != convs[1][0] and inner[1] > 0:
        groups = convs[1][0] // inner[1]
        raise ModelError(f"its convolutions have {groups} groups (ResNeXt)", where, "no network here has groups")
    if 3 in convs and last[0] != 4 * inner[0]:
        what = f"its bottlenecks go from {inner[0]} to {last[0]} channels (a wide ResNet)"
        raise ModelError(what, where, "here a bottleneck ends with four times its width")


def channels_of(shapes: Shapes, name: str, dimensions: int, axis: int, where: object) -> int:
    """The size of a tensor along an axis; a file without it, or with another form of it, is refused."""
    shape = shapes.get(name)
    if shape is None:
        raise ModelError(f"{name} is missing", where, "the file is incomplete; take another")
    if len(shape) != dimensions:
        raise ModelError(f"{name} has shape {list(shape)}", where, f"{dimensions} dimensions are expected")
    return shape[axis]
