"""What a network is, as plain values: `NetworkSpec` in full, `NetworkSettings` as a recipe's choice.

Axes: `depths` and `widths` have one entry per stage; the maps halve in height and width at the start of
every stage but the first. Ranges: `dropout` in [0, 1), `norm_momentum` in (0, 1], `norm_eps` > 0.
Source: He et al. 2015 (Deep Residual Learning), sections 3.3 and 4.2; initialisation from He et al. 2015
(Delving Deep into Rectifiers), section 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, model_validator

StemKind = Literal["3x3"]
UnitKind = Literal["basic"]
ShortcutKind = Literal["none", "A", "B"]
InitialisationKind = Literal["he-fan-in", "he-fan-out"]

PerStage = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Momentum = Annotated[float, Field(gt=0, le=1)]

# Layers with weights on the main path. The papers do not count a projection on a shortcut.
STEM_LAYERS: Final[Mapping[StemKind, int]] = {"3x3": 1}
UNIT_LAYERS: Final[Mapping[UnitKind, int]] = {"basic": 2}


class NetworkSpec(BaseModel, frozen=True, extra="forbid"):
    """A network in full: two equal specs build the same network.

    `name` tells which catalogue entry it started from; the other fields alone decide what is built.
    Raises pydantic's `ValidationError` (a `ValueError`) when a field is out of range or the parts do not fit.
    """

    name: str
    depths: PerStage
    widths: PerStage
    stem: StemKind
    unit: UnitKind
    shortcut: ShortcutKind
    classes: Annotated[int, Field(ge=2)]
    channels: Annotated[int, Field(ge=1)] = 3
    dropout: Probability = 0.0
    initialisation: InitialisationKind = "he-fan-in"
    norm_eps: Epsilon = 1e-5
    norm_momentum: Momentum = 0.1
    zero_last_scale: bool = False

    @model_validator(mode="after")
    def _parts_fit(self) -> NetworkSpec:
        faults = []
        if len(self.depths) != len(self.widths):
            faults.append(f"depths has {len(self.depths)} stages, widths {len(self.widths)}; give one number a stage")
        if self.shortcut == "A" and any(after < before for before, after in pairwise(self.widths)):
            faults.append(f"widths is {list(self.widths)}; option A only adds channels, so let widths grow or choose B")
        if self.shortcut == "none" and self.zero_last_scale:
            faults.append("zero_last_scale is true; without shortcuts nothing would pass, so leave it false")
        if faults:
            raise ValueError(". ".join(faults))
        return self

    @property
    def weighted_layers(self) -> int:
        """Convolutions and fully connected layers from input to logits, projections left out: 6n+2 on CIFAR."""
        return STEM_LAYERS[self.stem] + UNIT_LAYERS[self.unit] * sum(self.depths) + 1


class NetworkSettings(BaseModel, frozen=True, extra="forbid"):
    """A recipe's `[network]` table: a catalogue name, and what should differ from that entry.

    A field that is None keeps the entry's value. Classes and input channels come from the data set.
    """

    name: str = "resnet-20"
    depths: PerStage | None = None
    widths: PerStage | None = None
    stem: StemKind | None = None
    unit: UnitKind | None = None
    shortcut: ShortcutKind | None = None
    dropout: Probability | None = None
    initialisation: InitialisationKind | None = None
    norm_eps: Epsilon | None = None
    norm_momentum: Momentum | None = None
    zero_last_scale: bool | None = None
