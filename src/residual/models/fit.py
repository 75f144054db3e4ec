"""Which parts of a network fit together, and in words why others do not.

Source of the rules on orders: He et al. 2016 (Identity Mappings), figure 4 and the appendix.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from residual.models.spec import NetworkSpec


def misfits(spec: NetworkSpec) -> Iterator[str]:
    """Every reason why the parts of a spec make no network, each with the way out."""
    if len(spec.depths) != len(spec.widths):
        yield f"depths has {len(spec.depths)} stages, widths {len(spec.widths)}; give one number a stage"
    # A stem keeps the first width, or is absent; after that only the first unit of a stage changes the channels.
    if spec.shortcut in ("A", "A-both") and any(b < a for a, b in pairwise((spec.stem_width, *spec.outputs))):
        yield f"widths is {list(spec.widths)}; option A only adds channels, so let widths grow or choose B"
    if spec.stride == "3x3" and spec.unit != "bottleneck":
        yield f"stride is '3x3'; a {spec.unit} unit has no 1x1 to move it from, so choose 1x1 or unit=bottleneck"
    if spec.stem == "none" and spec.pre_activation:
        yield (
            f"stem is 'none'; with order {spec.order} the first activation comes right after a stem's convolution, "
            "so choose a stem"
        )
    if spec.stride_unit == "last" and spec.downsampling == "max-pool":
        yield "stride_unit is 'last'; with max-pooling no unit has a stride, so leave it at first"
    if spec.pool_rounding == "down" and spec.downsampling == "stride":
        yield "pool_rounding is 'down'; nothing is pooled between stages, so leave it at up or choose max-pool"
    yield from _first_activation(spec)
    yield from _without_shortcut(spec)
    yield from _zero_scale(spec)
    yield from _without_norm(spec)
    if spec.gate == "none" and spec.gate_bias != -6:
        yield f"gate_bias is {spec.gate_bias:g}; there is no gate, so set gate to exclusive or shortcut-only"


def _first_activation(spec: NetworkSpec) -> Iterator[str]:
    if spec.first_activation == "unit" and spec.order != "full-pre-activation":
        yield (
            f"first_activation is 'unit'; with order {spec.order} no unit begins with normalisation and ReLU, so leave "
            "it at stem or choose order=full-pre-activation"
        )
    if spec.pool_padding == "zero" and spec.first_activation == "stem":
        yield (
            "pool_padding is 'zero'; behind the stem's ReLU zero is the lowest value, so leave it at lowest or choose "
            "first_activation=unit"
        )


def _without_shortcut(spec: NetworkSpec) -> Iterator[str]:
    if spec.shortcut != "none":
        return
    for part, absent in (
        ("zero_last_scale", False),
        ("gate", "none"),
        ("shortcut_scale", 1),
        ("branch_scale", 1),
        ("shortcut_dropout", 0),
        ("stochastic_depth", 0),
    ):
        value = getattr(spec, part)
        if value != absent:
            why = "nothing would pass" if part == "zero_last_scale" else "it has nothing to act on"
            given = "true" if value is True else repr(value)
            yield f"{part} is {given}; without shortcuts {why}, so leave it at {str(absent).lower()}"


def _zero_scale(spec: NetworkSpec) -> Iterator[str]:
    if not spec.zero_last_scale:
        return
    reasons = {
        "bn-after-addition": "the last normalisation comes after the addition and would silence the whole unit",
        "relu-before-addition": "behind it comes a ReLU, whose gradient at zero is zero, so the branch never learned",
        "full-pre-activation": "a branch ends in a convolution, not in a normalisation",
    }
    if spec.order in reasons:
        yield f"zero_last_scale is true; with order {spec.order} {reasons[spec.order]}, so leave it false"
    if spec.norm == "none":
        yield "zero_last_scale is true; without normalisation there is no scale, so leave it false"


def _without_norm(spec: NetworkSpec) -> Iterator[str]:
    same = {"bn-after-addition": "original", "relu-only-pre-activation": "full-pre-activation"}
    if spec.norm == "none" and spec.order in same:
        yield f"order is {spec.order}; without normalisation it is the same as {same[spec.order]}, so choose that"
