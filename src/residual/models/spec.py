"""What a network is, as plain values: `NetworkSpec` in full, `NetworkSettings` as a recipe's choice.

Axes: `depths` and `widths` have one entry per stage; a width is the number of filters of a stage's 3x3 convolutions,
and a bottleneck gives four times as many maps. Ranges: `dropout`, `shortcut_dropout`, `stochastic_depth` in [0, 1),
`norm_momentum` in (0, 1], `norm_eps` > 0. Sources: [1] He et al. 2015 (Deep Residual Learning), sections 3.3, 3.4 and
4; [2] He et al. 2016 (Identity Mappings), figures 2 and 4 and the appendix; [3] He et al. 2015 (Delving Deep), section
2.2; keras.applications.resnet and timm.models.resnetv2 (where a stage strides, who does the first activation).
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
PoolRoundingKind = Literal["up", "down"]
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
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=1 << 20, strict=True)], ...], Field(min_length=1)]
Depths = Annotated[tuple[Annotated[int, Field(ge=1, le=10_000, strict=True)], ...], Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, lt=1, strict=True)]
Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Momentum = Annotated[float, Field(gt=0, le=1, strict=True)]
Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]

# Layers with weights on the main path. The papers count neither a projection nor a gate.
STEM_LAYERS: Final[Mapping[StemKind, int]] = {"none": 0, "3x3": 1, "3x3/2": 1, "7x7": 1, "3-conv": 3}
UNIT_LAYERS: Final[Mapping[UnitKind, int]] = {"basic": 2, "bottleneck": 3, "1layer": 1}
STEM_STRIDES: Final[Mapping[StemKind, int]] = {"none": 1, "3x3": 1, "3x3/2": 2, "7x7": 4, "3-conv": 4}
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
    classes: Annotated[int, Field(ge=2, le=1 << 20, strict=True)]
    channels: Annotated[int, Field(ge=1, le=1 << 20, strict=True)] = 3
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
    pool_rounding: PoolRoundingKind = "up"
    stochastic_depth: Probability = 0.0

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
    def least_side(self) -> int:
        """The shortest side of an image of which a pixel is left for the head."""
        if self.pool_rounding == "up":
            return 1
        return STEM_STRIDES[self.stem] * ((1 << len(self.depths)) - 1) + 1

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

    name: str = Field("resnet-20", description="one of `residual models`")
    depths: Depths | None = Field(None, description="units in each stage")
    widths: Widths | None = Field(
        None, description="filters of the 3x3 convolutions in each stage; a bottleneck gives four times as many maps"
    )
    stem: AnyStem | None = Field(
        None, description="before the first stage; auto takes the one that fits the size of the images"
    )
    unit: UnitKind | None = Field(
        None, description="basic is 3x3, 3x3; bottleneck 1x1, 3x3, 1x1 with four times the channels; 1layer is 3x3"
    )
    shortcut: AnyShortcut | None = Field(
        None,
        description="A pads with zeros behind (A-both: on both sides), B projects where dimensions change (avgpool: "
        "after average pooling), C everywhere; none makes a plain network",
    )
    dropout: Probability | None = Field(
        None, description="share of the features that are dropped before the classifier"
    )
    initialisation: InitialisationKind | None = Field(
        None, description="of convolutions; he-fan-in is He et al. 2015 (Delving Deep), 2.2"
    )
    norm_eps: Epsilon | None = Field(None, description="added to the variance in batch normalisation")
    norm_momentum: Momentum | None = Field(None, description="weight of a new batch in the running statistics")
    zero_last_scale: bool | None = Field(None, description="each branch outputs 0 at first (Goyal et al. 2017, 5.1)")
    order: OrderKind | None = Field(
        None, description="of normalisation, ReLU and addition in a unit (He et al. 2016, figure 4)"
    )
    stride: StridePlace | None = Field(
        None, description="which convolution of a bottleneck strides; 3x3 is ResNet v1.5"
    )
    shortcut_scale: Finite | None = Field(
        None, description="what the shortcut is multiplied by (He et al. 2016, table 1)"
    )
    branch_scale: Finite | None = Field(None, description="what the residual branch is multiplied by")
    gate: GateKind | None = Field(
        None, description="a 1x1 gate, on both paths or on the shortcut (He et al. 2016, figure 2)"
    )
    gate_bias: Finite | None = Field(None, description="bias of the gate at the start of training")
    shortcut_dropout: Probability | None = Field(
        None, description="share dropped on shortcuts (He et al. 2016, figure 2 f)"
    )
    projection_norm: bool | None = Field(None, description="batch normalisation after a projection shortcut")
    norm: NormKind | None = Field(None, description="batch normalisation, or none")
    conv_bias: BiasKind | None = Field(
        None, description="whether convolutions have biases; unnormalised: only if no normalisation follows directly"
    )
    downsampling: DownsamplingKind | None = Field(
        None, description="between stages: by stride, or by max pooling as in VGG"
    )
    head: HeadKind | None = Field(
        None, description="average: global mean and one layer; vgg: three fully connected layers"
    )
    classifier_initialisation: ClassifierInitialisationKind | None = Field(
        None, description="of the last layer's weights"
    )
    norm_group: Annotated[int, Field(ge=0, le=1 << 20, strict=True)] | None = Field(
        None, description="images normalised together (ghost batch), as on one of several GPUs; 0 is the whole batch"
    )
    stride_unit: StrideUnitKind | None = Field(
        None, description="which unit of a stage strides; last is Keras' ResNetV2"
    )
    first_activation: FirstActivationKind | None = Field(
        None, description="whether the stem or the first unit has the first activation of a pre-activation network"
    )
    pool_padding: PoolPaddingKind | None = Field(
        None, description="padding of the stem's max pooling: the lowest number, or zero as in Keras"
    )
    pool_rounding: PoolRoundingKind | None = Field(
        None, description="rounding of odd sides in max pooling between stages; down is torchvision's VGG"
    )
    stochastic_depth: Probability | None = Field(
        None, description="share of images that skip the last unit in training; proportionally lower in earlier units"
    )
