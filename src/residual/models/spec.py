"""What a network is, as plain values: `NetworkSpec` in full, `NetworkSettings` as a recipe's choice.

Axes: `depths` and `widths` have one entry per stage; a width is the number of filters of a stage's 3x3 convolutions,
and a bottleneck gives four times as many maps. Ranges: `dropout`, `shortcut_dropout` in [0, 1), `norm_momentum` in
(0, 1], `norm_eps` > 0. Sources: [1] He et al. 2015 (Deep Residual Learning), sections 3.3, 3.4 and 4; [2] He et
al. 2016 (Identity Mappings), figures 2 and 4 and the appendix; [3] He et al. 2015 (Delving Deep), section 2.2;
keras.applications.resnet and timm.models.resnetv2 (where a stage strides, who does the first activation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from residual.models.fit import misfits

StemKind = Literal["none", "3x3", "3x3/2", "7x7", "3-conv"]
UnitKind = Literal["basic", "bottleneck", "1layer"]
OrderKind = Literal[
    "original", "bn-after-addition", "relu-before-addition", "relu-only-pre-activation", "full-pre-activation"
]
StridePlace = Literal["1x1", "3x3"]
StrideUnitKind = Literal["first", "last"]
FirstActivationKind = Literal["stem", "unit"]
PoolPaddingKind = Literal["lowest", "zero"]
# `unnormalised`: where no normalisation follows at once.
BiasKind = Literal[False, True, "unnormalised"]
ShortcutKind = Literal["none", "A", "A-both", "B", "C", "avgpool"]
GateKind = Literal["none", "exclusive", "shortcut-only"]
NormKind = Literal["batch", "none"]
DownsamplingKind = Literal["stride", "max-pool"]
HeadKind = Literal["average", "vgg"]
InitialisationKind = Literal["he-fan-in", "he-fan-out", "lecun", "xavier"]
ClassifierInitialisationKind = Literal["lecun", "he", "xavier", "normal-0.01", "zero"]

AnyStem = Literal["auto", StemKind]
# [2] calls option C of [1] a 1x1 convolution on all shortcuts.
AnyShortcut = Annotated[ShortcutKind, BeforeValidator(lambda value: "C" if value == "conv-all" else value)]
# Strict: true is no number.
Widths = Annotated[tuple[Annotated[int, Field(ge=1, strict=True)], ...], Field(min_length=1)]
Depths = Annotated[tuple[Annotated[int, Field(ge=1, le=10_000, strict=True)], ...], Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, lt=1, strict=True)]
Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Momentum = Annotated[float, Field(gt=0, le=1, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]

# Layers with weights on the main path. The papers count neither a projection nor a gate.
STEM_LAYERS: Final[Mapping[StemKind, int]] = {"none": 0, "3x3": 1, "3x3/2": 1, "7x7": 1, "3-conv": 3}
UNIT_LAYERS: Final[Mapping[UnitKind, int]] = {"basic": 2, "bottleneck": 3, "1layer": 1}
HEAD_LAYERS: Final[Mapping[HeadKind, int]] = {"average": 1, "vgg": 3}
EXPANSION: Final[Mapping[UnitKind, int]] = {"basic": 1, "bottleneck": 4, "1layer": 1}

PRE_ACTIVATION: Final[frozenset[OrderKind]] = frozenset({"relu-only-pre-activation", "full-pre-activation"})
"""The orders in which a unit's first activation comes before its first convolution."""

NONE_IS_A_CHOICE: Final = frozenset({"stem", "shortcut", "gate", "norm"})
"""Parts of which `none` is a kind; of any other part it means: as the catalogue has it."""


class NetworkSpec(BaseModel, frozen=True, extra="forbid"):
    """A network in full: two equal specs build the same network.

    `name` tells which catalogue entry it started from; the other fields alone decide what is built.
    Raises pydantic's `ValidationError` (a `ValueError`) when a field is out of range or the parts do not fit.
    """

    name: str
    depths: Depths
    widths: Widths
    stem: StemKind
    unit: UnitKind
    shortcut: AnyShortcut
    classes: Annotated[int, Field(ge=2)]
    channels: Annotated[int, Field(ge=1)] = 3
    dropout: Probability = 0.0
    initialisation: InitialisationKind = "he-fan-in"
    norm_eps: Epsilon = 1e-5
    norm_momentum: Momentum = 0.1
    zero_last_scale: bool = False
    order: OrderKind = "original"
    stride: StridePlace = "1x1"
    shortcut_scale: Finite = 1.0
    branch_scale: Finite = 1.0
    gate: GateKind = "none"
    gate_bias: Finite = -6.0
    shortcut_dropout: Probability = 0.0
    projection_norm: bool = True
    norm: NormKind = "batch"
    conv_bias: BiasKind = False
    downsampling: DownsamplingKind = "stride"
    head: HeadKind = "average"
    classifier_initialisation: ClassifierInitialisationKind = "lecun"
    norm_group: Annotated[int, Field(ge=0, le=1 << 20, strict=True)] = 0
    stride_unit: StrideUnitKind = "first"
    first_activation: FirstActivationKind = "stem"
    pool_padding: PoolPaddingKind = "lowest"

    @model_validator(mode="after")
    def _parts_fit(self) -> NetworkSpec:
        faults = list(misfits(self))
        if faults:
            raise ValueError(". ".join(faults))
        return self

    @property
    def weighted_layers(self) -> int:
        """Convolutions and fully connected layers from input to logits, projections left out: 6n+2 on CIFAR."""
        inner = UNIT_LAYERS[self.unit] * sum(self.depths)
        return STEM_LAYERS[self.stem] + inner + HEAD_LAYERS[self.head]

    @property
    def pre_activation(self) -> bool:
        return self.order in PRE_ACTIVATION

    @property
    def stem_width(self) -> int:
        """Channels that enter the first stage."""
        return self.channels if self.stem == "none" else self.widths[0]

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels of the maps that each stage gives."""
        return tuple(width * EXPANSION[self.unit] for width in self.widths)


class NetworkSettings(BaseModel, frozen=True, extra="forbid"):
    """A recipe's `[network]` table: a catalogue name, and what should differ from that entry.

    A field that is None keeps the entry's value. Classes and input channels come from the data set. With another
    `order`, `projection_norm`, `first_activation` and `pool_padding` follow it, and with another `norm`, `conv_bias`,
    unless they are set as well.
    """

    name: str = "resnet-20"
    depths: Depths | None = None
    widths: Widths | None = None
    stem: AnyStem | None = None
    unit: UnitKind | None = None
    shortcut: AnyShortcut | None = None
    dropout: Probability | None = None
    initialisation: InitialisationKind | None = None
    norm_eps: Epsilon | None = None
    norm_momentum: Momentum | None = None
    zero_last_scale: bool | None = None
    order: OrderKind | None = None
    stride: StridePlace | None = None
    shortcut_scale: Finite | None = None
    branch_scale: Finite | None = None
    gate: GateKind | None = None
    gate_bias: Finite | None = None
    shortcut_dropout: Probability | None = None
    projection_norm: bool | None = None
    norm: NormKind | None = None
    conv_bias: BiasKind | None = None
    downsampling: DownsamplingKind | None = None
    head: HeadKind | None = None
    classifier_initialisation: ClassifierInitialisationKind | None = None
    norm_group: Annotated[int, Field(ge=0, le=1 << 20, strict=True)] | None = None
    stride_unit: StrideUnitKind | None = None
    first_activation: FirstActivationKind | None = None
    pool_padding: PoolPaddingKind | None = None
