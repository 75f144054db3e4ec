"""A recipe: a complete training run as frozen values that round-trip through `recipe.toml`.

Each part's settings live beside what they set; a recipe only composes them. Overrides are typed and
addressed by path, `optimiser.weight_decay=5e-4`, the same for the command line, Python and tuning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from residual.data.balance import Weighing
from residual.data.batches import steps_of
from residual.data.datasets import DataSettings
from residual.errors import Fault, UsageError, check, nearest, rule_of
from residual.files import Facts, read_toml, toml
from residual.models import NetworkSettings, find
from residual.training.freezing import StartSettings
from residual.training.optimiser import OptimiserSettings
from residual.training.processes import ProcessSettings
from residual.training.schedules import SCHEDULES, Schedule, Steps
from residual.training.selection import Metric
from residual.training.values import NONE_IS_A_WORD, plain

Override = tuple[str, Any]
Changes = Mapping[str, Any] | Iterable[Override]
"""What may be changed of a recipe, by path: {"seed": 1, "optimiser.weight_decay": 5e-4}."""
KINDS = {"network": "network.name", "optimiser": "optimiser.kind", "schedule": "schedule.kind"}
"""Groups that a single word chooses: {"network": "resnet-56"}."""
_HIGHEST = {"rate": "peak", "peak": "rate"}  # of a schedule, by its kind


def _weighing(value: Any) -> Any:
    if value is None or value in get_args(Weighing):
        return value or "none"
    fit = isinstance(value, Mapping) and value and all(isinstance(name, str) for name in value)
    if not fit or not all(type(w) in (int, float) and 0 < w < math.inf for w in value.values()):
        raise ValueError("must be none, balanced, effective, or a table of classes and finite weights above 0")
    return {name: float(weight) for name, weight in value.items()}


class LossSettings(BaseModel, frozen=True, extra="forbid"):
    """Cross-entropy; label smoothing as in Szegedy et al. 2016, section 7; what the classes count for."""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread evenly over all classes")
    class_weights: Annotated[Weighing | dict[str, float], PlainValidator(_weighing)] = Field(
        "none", description="balanced, effective (Cui et al. 2019), or a table: classes that are not named weigh 1"
    )
    effective_beta: float = Field(0.999, gt=0, lt=1, description="beta: a class counts as at most 1/(1 - beta) images")


class EvaluationSettings(BaseModel, frozen=True, extra="forbid"):
    every_epochs: float = Field(1.0, gt=0, le=1e6, description="epochs between validations")
    test: bool = Field(True, description="read the test images at the last step")
    watch_test: bool = Field(False, description="evaluate the test images at every validation too, only to report")
    batch_size: int = Field(500, ge=1, le=100_000, description="images judged at a time")
    precise_statistics: int = Field(
        0, ge=0, description="training images used to recompute batch normalisation statistics at the end; 0 for none"
    )
    best: Annotated[Literal["none"] | Metric, NONE_IS_A_WORD] = Field(
        "none", description="keep the weights that were best in validation by this metric, not those of the last step"
    )
    patience: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="early stopping: ends the run after this many validations without improvement; 0 never does",
    )
    patience_on: Literal["auto"] | Metric = Field("auto", description="metric to improve; auto: that of best, or top1")

    @property
    def metrics(self) -> tuple[Metric | None, Metric | None]:
        """What decides which weights are kept, and when the run ends; None where nothing does."""
        best: Metric | None = None if self.best == "none" else self.best
        watched: Metric | None = (best or "top1") if self.patience_on == "auto" else self.patience_on
        return best, watched if self.patience else None

    @field_validator("watch_test")
    @classmethod
    def _only_what_is_read(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("test", True):
            raise ValueError("the test images are not read at all where evaluation.test is false, leave one out")
        return value


class CheckpointSettings(BaseModel, frozen=True, extra="forbid"):
    every_seconds: float | None = Field(60.0, gt=0, le=1e9, description="seconds between checkpoints")
    every_steps: int | None = Field(None, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=2, le=1000, description="how many of the newest stay")

    @field_validator("every_seconds", mode="before")
    @classmethod
    def _none_in_toml(cls, value: Any) -> Any:
        """TOML has no word for nothing, and leaving this one out would mean its default."""
        return None if value == "none" else value


class ComputeSettings(BaseModel, frozen=True, extra="forbid"):
    """What `auto` came to is written to run.json before step 0 and used again on resume."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="in convolutions; auto: half precision on GPUs that have it, bfloat16 on CPUs where it is faster",
    )
    layout: Literal["auto", "channels-last", "contiguous"] = Field("auto", description="of maps in memory")
    threads: int = Field(0, ge=0, le=4096, description="threads of the CPU; 0 lets torch choose")
    compile: Annotated[Literal["none", "auto", "default"], NONE_IS_A_WORD] = Field(
        "none", description="torch.compile: default compiles, auto where one process measures that the run gets shorter"
    )
    recompute: bool = Field(
        False, description="gradient checkpointing: recompute activations in the backward pass; less memory, slower"
    )
    deterministic: bool = Field(False, description="refuse operations whose result may vary (CUDA)")

    @model_validator(mode="after")
    def _one_of_the_two(self) -> ComputeSettings:
        if self.recompute and self.compile != "none":
            raise ValueError("compile and recompute exclude each other; set recompute to false or compile to none")
        return self


class Recipe(BaseModel, frozen=True, extra="forbid"):
    """One training run. Exactly one of `epochs` and `steps` gives its length."""

    format: Literal[1] = Field(1, description="of this table")
    name: str = Field(
        "custom",
        max_length=80,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="letters, digits, '.', '_' and '-', the first a letter or digit",
    )
    source: str = Field("", description="where it is from, in words")
    departures: tuple[str, ...] = Field((), description="where it departs from its source, in words")
    seed: int = Field(0, ge=0, lt=2**53, description="random seed of the whole run")
    batch_size: int = Field(128, ge=1, le=1 << 20, description="images per step, of all processes together")
    epochs: float | None = Field(None, gt=0, le=1e6, description="length of the run; this or steps")
    steps: int | None = Field(None, ge=1, le=10**9, description="length of the run; this or epochs")
    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    start: StartSettings = StartSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: Schedule = Steps()
    loss: LossSettings = LossSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    compute: ComputeSettings = ComputeSettings()
    processes: ProcessSettings = ProcessSettings()

    @model_validator(mode="after")
    def _sound(self) -> Recipe:
        network = {"name": self.network.name}
        faults = _faults_of_the_whole({"epochs": self.epochs, "steps": self.steps, "network": network})
        if faults:
            raise ValueError(". ".join(str(fault) for fault in faults))
        return self

    def steps_on(self, images: int) -> int:
        """The length of a run on so many training images, in steps."""
        return self.steps if self.steps is not None else steps_of(self.epochs or 1, images, self.batch_size)

    def to_toml(self) -> str:
        table = self.model_dump(mode="json")
        if self.checkpoint.every_seconds is None:
            table["checkpoint"]["every_seconds"] = "none"
        return toml(table)


def to_recipe(table: Facts, where: object) -> Recipe:
    """The recipe in a table of plain values.

    Raises:
        UsageError: with every fault of the table at once.
    """
    return _to_recipe(table, where, [])


def _to_recipe(table: Facts, where: object, faults: list[Fault]) -> Recipe:
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        # pydantic looks at the whole only where every part is sound; the user is told of both at once.
        check("this run cannot start", [*faults, *_faults(error), *_faults_of_the_whole(table)], where)
        raise
    check("this run cannot start", faults, where)
    return recipe


def _faults_of_the_whole(table: Facts) -> list[Fault]:
    found: list[Fault] = []
    epochs, steps = table.get("epochs"), table.get("steps")
    if epochs is None and steps is None:
        found.append(Fault("epochs", None, "a run needs a length", "set epochs or steps"))
    elif epochs is not None and steps is not None:
        found.append(Fault("epochs", epochs, f"steps is {steps!r} as well", "set one of the two"))
    network = table.get("network")
    name = network.get("name") if isinstance(network, dict) else None
    if isinstance(name, str):
        try:
            find(name)
        except UsageError as error:
            found.append(Fault("network.name", _short(name), "no such network", error.remedy))
    return found


def _faults(error: ValidationError) -> list[Fault]:
    """What pydantic found, each as subject, value, rule and way out."""
    found: list[Fault] = []
    for entry in error.errors():
        path, given, context = [str(part) for part in entry["loc"]], entry["input"], entry.get("ctx", {})
        path = [part for part in path if not part.startswith("literal[")]  # the member of a union that was tried
        if not path:
            continue  # a fault of the whole
        settings = _settings_around(path)
        if path[0] == "schedule" and path[1:2] and path[1] in SCHEDULES:
            path.pop(1)
        field = settings.get(path[-1])
        rule, remedy = rule_of(entry["type"], entry["msg"]), ""
        match entry["type"]:
            case "extra_forbidden":
                rule, remedy = "no such setting", nearest(path[-1], sorted(settings))
            case "union_tag_invalid" | "union_tag_not_found":
                path, given = [*path, "kind"], context.get("tag", "")
                rule, remedy = "no such schedule", nearest(given, list(SCHEDULES))
            case "string_pattern_mismatch" if field is not None and field.description:
                rule = f"must be {field.description}"
            case "model_type" | "model_attributes_type":
                rule = "must be a group of settings"
            case "too_short" if len(given) >= context["min_length"]:
                continue  # an item of it is at fault, and named
            case "too_short":
                count = context["min_length"]
                rule = f"must have at least {count} {'item' if count == 1 else 'items'}"
            case "literal_error" if path == ["format"]:
                rule, remedy = "not a format of this program", "install the release that wrote it"
            case _ if isinstance(given, float) and not math.isfinite(given):
                rule = "must be a finite number"
        fault = Fault(".".join(path), ... if isinstance(given, dict | BaseModel) else _short(given), rule, remedy)
        if found and entry["type"] == "literal_error" and found[-1][:2] == fault[:2]:
            rule = f"{found.pop().rule} or {rule.removeprefix('must be ')}"
            fault = fault._replace(rule=rule)
        found.append(fault)
    return found


def _short(value: Any) -> Any:
    return (
        "..." if isinstance(value, dict | BaseModel) else value if len(repr(value)) < 80 else repr(value)[:77] + "..."
    )


def _settings_around(path: list[str]) -> dict[str, FieldInfo]:
    """The settings that stand beside the last name of `path`."""
    owner: Any = Recipe
    for name in path[:-1]:
        if owner is None:  # in the schedule, whose kind comes next
            owner = SCHEDULES[name]
            continue
        field = owner.model_fields.get(name)
        kinds = [] if field is None else [k for k in (field.annotation, *get_args(field.annotation)) if _is_group(k)]
        if name == "schedule" and owner is Recipe:
            owner = None
        elif kinds:
            owner = kinds[0]
    return dict(owner.model_fields) if owner is not None else {}


def _is_group(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def as_overrides(changes: Changes) -> list[Override]:
    """The changes in their order, with the full path of every setting and values that TOML knows.

    A table given for a group changes what it names, {"optimiser": {"momentum": 0.8}}, and leaves the rest of the group.

    Raises:
        UsageError: these are no settings by path.
    """
    pairs = changes.items() if isinstance(changes, Mapping) else changes
    found: list[Override] = []
    several = isinstance(pairs, Iterable) and not isinstance(pairs, str | BaseModel)
    for pair in pairs if several else [pairs]:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            raise UsageError(f"{_short(pair)!r} is no setting by its path", "set", 'write set={"epochs": 4}')
        found += _spread(pair[0], plain(pair[1]))
    return found


def _spread(path: str, value: Any) -> list[Override]:
    if not isinstance(value, Mapping) or not _names_a_group(path):
        return [(KINDS.get(path, path) if isinstance(value, str) else path, value)]
    names = sorted(value, key=lambda name: name != "kind")  # which settings a schedule has follows from its kind
    return [one for name in names for one in _spread(f"{path}.{name}", value[name])]


def _names_a_group(path: str) -> bool:
    owner: Any = Recipe
    for name in path.split("."):
        if owner is Recipe and name == "schedule":
            return path in (name, "schedule.warmup", "schedule.hold")
        field = owner.model_fields.get(name)
        if field is None or not _is_group(field.annotation):
            return False
        owner = field.annotation
    return True


_OF_A_KIND = ("schedule.warmup.", "schedule.hold.")


def override(recipe: Recipe, overrides: Iterable[Override], where: object = "settings") -> Recipe:
    """The recipe with some values changed, validated again as a whole.

    Setting `epochs` takes `steps` away and the reverse, `start.freeze=none` the shares of `start.unfreeze`; another
    `schedule.kind` keeps the values that both kinds have, and the highest rate, as `rate` or `peak`.

    Raises:
        UsageError: with every unknown path and every bad value at once, or a path given two values.
    """
    table = recipe.model_dump()
    seen: dict[str, Any] = {}
    faults: list[Fault] = []
    # Whether a schedule has a warm-up or holds follows from its kind, wherever that stands.
    for path, value in sorted(as_overrides(overrides), key=lambda one: one[0].startswith(_OF_A_KIND)):
        if path in seen and seen[path] != value:
            faults.append(Fault(path, _short(value), f"given twice, first as {_short(seen[path])!r}", "give it once"))
        seen[path] = value
        fault = _put(table, path, value)
        if fault is not None:
            faults.append(fault)
    for one, other in (("epochs", "steps"), ("steps", "epochs")):
        if seen.get(one) is not None and other not in seen:
            table[other] = None
    start = table["start"]
    if isinstance(start, dict) and seen.get("start.freeze", "") in (None, "none") and "start.unfreeze" not in seen:
        start["unfreeze"] = ()
    return _to_recipe(table, where, faults)


def _put(table: dict[str, Any], path: str, value: Any) -> Fault | None:
    *parents, last = path.split(".")
    place: Any = table
    for name in parents:
        if isinstance(place, dict) and place.get(name, "absent") is None:
            place[name] = {}
        if not isinstance(place, dict) or not isinstance(place.get(name), dict):
            known = sorted(place) if isinstance(place, dict) else []
            if name in known:
                return Fault(path, _short(value), f"{name} is no group of settings", f"set {name} itself")
            remedy = nearest(name, known) if known else "leave it out"
            return Fault(path, _short(value), f"no such group of settings as {name}", remedy)
        place = place[name]
    if path == "schedule.kind" and isinstance(value, str) and value in SCHEDULES:
        fresh = SCHEDULES[value]().model_dump()
        held = {other: place[name] for name, other in _HIGHEST.items() if name in place} | place
        place.clear()
        place.update({name: held.get(name, own) for name, own in fresh.items()})
    elif place and last not in place and parents[:1] != ["schedule"]:
        return Fault(path, _short(value), "no such setting", nearest(last, sorted(place)))
    if isinstance(value, bool) and type(place.get(last)) in (int, float):  # pydantic would take true for 1
        return Fault(path, value, "must be a number")
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
