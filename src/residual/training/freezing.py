"""What of a trained network learns, from which step on, and how fast: the recipe's `[start]` table.

A frozen part keeps its parameters and its statistics of batch normalisation bit for bit: it computes as in evaluation
and has no gradients. What is frozen at a step follows from the step alone, so nothing of it needs saving.

Source: Howard and Ruder 2018 (Universal Language Model Fine-tuning), section 3.3: gradual unfreezing from the last
layer down, and discriminative rates, each layer's 2.6 times below that of the layer above; they had it for text.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator
from torch import nn

from residual.errors import UsageError
from residual.models import ResidualNetwork
from residual.models.parts import part_of, parts, title

Share = Annotated[float, Field(ge=0, lt=1)]
HEAD_ONLY = "head-only"


class StartSettings(BaseModel, frozen=True, extra="forbid"):
    """What a recipe's `[start]` table holds; without `weights` a network is drawn, and all of it learns."""

    weights: str | None = Field(None, description="a run, model folder or weight file, or torchvision:NAME")
    freeze: str = Field(
        "none",
        pattern=r"^(none|head-only|stem|stage-[1-9][0-9]?)$",
        description="none, stem, stage-K (the stem and K stages), or head-only (all but the head)",
    )
    unfreeze: tuple[Share, ...] = Field(
        (), description="gradual unfreezing: shares of the run when frozen parts start to train, the last one first"
    )
    rate_divisor: float = Field(1.0, ge=1, le=1000, description="each part's rate is the next part's divided by this")
    statistics: Literal["moving", "kept"] = Field(
        "moving", description="batch-norm statistics of trained parts: moving are updated, kept stay as loaded"
    )

    @field_validator("freeze", mode="before")
    @classmethod
    def _none_is_a_word(cls, value: Any) -> Any:
        return "none" if value is None else value

    @model_validator(mode="after")
    def _in_order(self) -> StartSettings:
        if list(self.unfreeze) != sorted(self.unfreeze):
            raise ValueError(f"unfreeze is {list(self.unfreeze)}; the shares must not fall, so put them in order")
        if self.unfreeze and self.freeze == "none":
            raise ValueError("unfreeze has shares and nothing is frozen; set freeze, or unfreeze to []")
        return self


def frozen_parts(settings: StartSettings, stages: int) -> int:
    """How many parts, counted from the image, are frozen at the first step.

    Raises:
        UsageError: there is no such stage, or more is unfrozen than was frozen.
    """
    kind, _, number = settings.freeze.partition("-")
    count = {"none": 0, "stem": 1, "head": stages + 1}.get(kind) or (1 + int(number) if number else 0)
    if count > stages + 1:
        remedy = f"everything would be frozen: choose stage-{stages}, which is {HEAD_ONLY}, or less"
        raise UsageError(f"the network has {stages} stages, not {number}", "start.freeze", remedy)
    if len(settings.unfreeze) > count:
        what = f"{len(settings.unfreeze)} shares for {count} frozen parts, each of which begins to learn once"
        raise UsageError(what, "start.unfreeze", "leave some of them out")
    return count


def at_the_end(settings: StartSettings, stages: int) -> list[tuple[str, Any]]:
    """What a run that goes on after such a one freezes: what did not begin to learn; nothing where nothing changes."""
    if not settings.unfreeze:
        return []
    left = frozen_parts(settings, stages) - len(settings.unfreeze)
    return [("start.freeze", ("none", "stem")[left] if left < 2 else f"stage-{left - 1}"), ("start.unfreeze", [])]


class Freezing:
    """What learns at which step of a run of `total` steps."""

    def __init__(self, network: ResidualNetwork, settings: StartSettings, total: int) -> None:
        self.network, self.settings, self.total = network, settings, total
        self.stages = len(network.spec.depths)
        self.count = frozen_parts(settings, self.stages)
        self._parts = parts(network)
        self._frozen = -1
        self._kept = settings.statistics == "kept"

    def frozen(self, step: int) -> int:
        """How many parts, counted from the image, are frozen at a step."""
        return self.count - sum(step >= math.ceil(share * self.total) for share in self.settings.unfreeze)

    def group(self, name: str) -> tuple[float, int]:
        """By what the rate is multiplied for the parameter of that name, 1 for the head; and its part."""
        part = part_of(name, self.stages)
        return self.settings.rate_divisor ** (part - self.stages - 1), part

    def apply(self, step: int) -> None:
        """Make the network ready to be trained at a step, whatever mode it is in."""
        frozen = self.frozen(step)
        for number, modules in enumerate(self._parts):
            for module in modules:
                if frozen != self._frozen:
                    module.requires_grad_(number >= frozen)
                module.train(number >= frozen)
        self._frozen = frozen
        if self._kept:
            for norm in norms(self.network):
                norm.eval()

    def fixed(self, step: int) -> list[nn.BatchNorm2d]:
        """The layers whose statistics are not to change at a step."""
        found = norms(self.network)
        if self._kept:
            return found
        frozen = {norm for modules in self._parts[: self.frozen(step)] for module in modules for norm in norms(module)}
        return [norm for norm in found if norm in frozen]

    def words(self) -> list[str]:
        """What was asked for, in lines."""
        lines = []
        if self.count:
            names = [title(number, self.stages) for number in range(self.count)]
            lines.append(f"{', '.join(names)}: frozen, statistics included")
        for place, share in enumerate(self.settings.unfreeze, start=1):
            name = title(self.count - place, self.stages)
            lines.append(f"{name}: learns from step {math.ceil(share * self.total):,} on")
        if self.settings.rate_divisor > 1:
            lines.append(f"rate: of each part {self.settings.rate_divisor:g} times below that of the next")
        if self._kept:
            lines.append("statistics of batch normalisation: those of the weights, everywhere")
        return lines


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    """The layers of batch normalisation in a module, itself included."""
    return [inner for inner in module.modules() if isinstance(inner, nn.BatchNorm2d)]


def make_freezing(network: ResidualNetwork, settings: StartSettings, total: int) -> Freezing | None:
    """How a run freezes and slows down its network; None where all of it learns alike."""
    plain = settings.freeze == "none" and settings.rate_divisor == 1 and settings.statistics == "moving"
    return None if plain else Freezing(network, settings, total)
