"""A recipe: a complete training run as frozen values that round-trip through `recipe.toml`.

Each part's settings live beside what they set; a recipe only composes them. Overrides are typed and
addressed by path, `optimiser.weight_decay=5e-4`, the same for the command line, Python and tuning.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from residual.data.datasets import DataSettings
from residual.errors import Fault, UsageError, check, nearest
from residual.files import Facts, read_toml, toml
from residual.models import NetworkSettings, find
from residual.training.optimiser import OptimiserSettings
from residual.training.schedules import SCHEDULES, Schedule, Steps

Override = tuple[str, Any]


class LossSettings(BaseModel, frozen=True, extra="forbid"):
    """Cross-entropy; label smoothing as in Szegedy et al. 2016, section 7."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)


class EvaluationSettings(BaseModel, frozen=True, extra="forbid"):
    every_epochs: float = Field(1.0, gt=0, le=1e6, description="epochs between validations")
    watch_test: bool = Field(False, description="also record the test set by epoch, for figures; nothing reads it")
    batch_size: int = Field(500, ge=1, le=100_000)


class CheckpointSettings(BaseModel, frozen=True, extra="forbid"):
    every_seconds: float | None = Field(60.0, gt=0, description="seconds between checkpoints")
    every_steps: int | None = Field(None, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=2, le=1000)


class ComputeSettings(BaseModel, frozen=True, extra="forbid"):
    """What `auto` came to is written to run.json before step 0 and used again on resume."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    layout: Literal["auto", "channels-last", "contiguous"] = "auto"
    threads: int = Field(0, ge=0, le=4096, description="threads of the CPU; 0 lets torch choose")
    deterministic: bool = Field(False, description="refuse operations whose result may vary (CUDA)")


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """One training run. Exactly one of `epochs` and `steps` gives its length."""

    format: Literal[1] = 1
    name: str = Field("custom", min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    source: str = ""
    seed: int = Field(0, ge=0, lt=2**53)
    batch_size: int = Field(128, ge=1, le=1 << 20)
    epochs: float | None = Field(None, gt=0, le=1e6)
    steps: int | None = Field(None, ge=1, le=10**9)
    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: Schedule = Steps()
    loss: LossSettings = LossSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    compute: ComputeSettings = ComputeSettings()

    @model_validator(mode="after")
    def _sound(self) -> Recipe:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("a run has a length in epochs or in steps, one of the two; set one of them")
        try:
            find(self.network.name)
        except UsageError as error:
            raise ValueError(f"{error.what}; {error.remedy}") from None
        return self

    def to_toml(self) -> str:
        return toml(self.model_dump(mode="json"))


def to_recipe(table: Facts, where: object) -> Recipe:
    """The recipe in a table of plain values.

    Raises:
        UsageError: with every fault of the table at once.
    """
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        check("this run cannot start", _faults(error), where)
        raise


def _faults(error: ValidationError) -> list[Fault]:
    found: list[Fault] = []
    for entry in error.errors():
        path = [str(part) for part in entry["loc"] if part not in SCHEDULES]
        subject = ".".join(path) or "the recipe"
        rule = entry["msg"].removeprefix("Value error, ").removeprefix("Input ")
        remedy = ""
        if entry["type"] == "extra_forbidden":
            rule, remedy = "no such setting", nearest(path[-1], _siblings(path))
        found.append(Fault(subject, _short(entry["input"]), rule, remedy))
    return found


def _short(value: Any) -> Any:
    return (
        "..." if isinstance(value, dict | BaseModel) else value if len(repr(value)) < 80 else repr(value)[:77] + "..."
    )


def _siblings(path: list[str]) -> list[str]:
    """The settings that exist where the last name of `path` does not."""
    owner: Any = Recipe
    for name in path[:-1]:
        if name == "schedule":
            return sorted({field for kind in SCHEDULES.values() for field in kind.model_fields})
        field = owner.model_fields.get(name)
        if field is None or not isinstance(field.annotation, type):
            return sorted(Recipe.model_fields)
        owner = field.annotation
    return sorted(owner.model_fields)


def parse_override(text: str) -> Override:
    """`path=value` as (path, typed value): TOML where it is TOML (0.1, true, [1, 2]), else a word.

    Raises:
        UsageError: there is no `=`, or no path.
    """
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UsageError("an override has the form path=value", f"--set {text[:80]}", "as in optimiser.momentum=0.9")
    value = value.strip()
    if value.lower() in ("none", "null"):
        return path.strip(), None
    try:
        return path.strip(), tomllib.loads(f"value = {value}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return path.strip(), value


def override(recipe: Recipe, overrides: Iterable[Override], where: object = "--set") -> Recipe:
    """The recipe with some values changed, validated again as a whole.

    Setting `epochs` takes `steps` away and the reverse; another `schedule.kind` keeps the values that
    both kinds have.

    Raises:
        UsageError: with every unknown path and every bad value at once, or a path given two values.
    """
    table = recipe.model_dump()
    seen: dict[str, Any] = {}
    faults: list[Fault] = []
    for path, value in overrides:
        if path in seen and seen[path] != value:
            faults.append(Fault(path, value, f"given twice, first as {seen[path]!r}", "give it once"))
        seen[path] = value
        fault = _put(table, path, value)
        if fault is not None:
            faults.append(fault)
    for one, other in (("epochs", "steps"), ("steps", "epochs")):
        if seen.get(one) is not None and other not in seen:
            table[other] = None
    check("this run cannot start", faults, where)
    return to_recipe(table, where)


def _put(table: dict[str, Any], path: str, value: Any) -> Fault | None:
    *parents, last = path.split(".")
    place: Any = table
    for depth, name in enumerate(parents):
        if isinstance(place, dict) and place.get(name, "absent") is None:
            place[name] = {}
        if not isinstance(place, dict) or not isinstance(place.get(name), dict):
            known = sorted(place) if isinstance(place, dict) else []
            return Fault(".".join(parents[: depth + 1]), path, "no such group of settings", nearest(name, known))
        place = place[name]
    if path == "schedule.kind" and value in SCHEDULES:
        fields = SCHEDULES[value].model_fields
        kept = {name: held for name, held in place.items() if name in fields}
        place.clear()
        place.update(kept)
    elif last not in place and parents[:1] != ["schedule"]:
        return Fault(path, value, "no such setting", nearest(last, sorted(place)))
    place[last] = value
    return None


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file.

    Raises:
        UsageError: with line and column, or with every fault at once.
    """
    return to_recipe(read_toml(path), path)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The paths at which two tables of settings differ, with both values."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in [*old, *(n for n in new if n not in old)]:
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found |= differences(a, b, f"{prefix}{name}.")
        elif a != b:
            found[f"{prefix}{name}"] = (a, b)
    return found
