"""From foreign names to ours: one table of names for a network, every tensor accounted for.

A family is a way of naming the tensors of some networks. It says whether names look like its own, which network they
are (`recognise`), and how each tensor of a network is called (`origins`), so that the same table serves both ways.
Nothing is left over and nothing is filled in, but for the counters of batches, which old files do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from residual.errors import ModelError, rule_of
from residual.models.catalogue import departures
from residual.models.entries import NETWORKS
from residual.models.interchange.foreign import Foreign, first
from residual.models.interchange.last_layer import out_of_sequence
from residual.models.networks import ResidualNetwork, build, outline
from residual.models.spec import NetworkSpec

Shapes = Mapping[str, tuple[int, ...]]
_WRAPPED: Final = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "timm_model.")
_AVERAGED: Final = "n_averaged"
_COUNTER: Final = "num_batches_tracked"


class Change(NamedTuple):
    """What is done to a tensor on its way in, in words and as a function; and on its way out."""

    said: str
    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


class Origin(NamedTuple):
    """The foreign name of one of our tensors, and how it is changed."""

    name: str
    change: Change | None = None


Interpolation = Literal["bilinear", "bicubic"]
Resize = Literal["crop", "pad", "squash"]


@dataclass(frozen=True)
class Sight:
    """The images such weights take: side, share that the centre keeps, constants of pixels / 255, how they are resized.

    `trained` is the side they were trained on, where that is another.
    """

    image_size: int
    crop: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    interpolation: Interpolation = "bilinear"
    resize: Resize = "crop"
    trained: int | None = None


@dataclass(frozen=True)
class Family:
    """One library's names.

    Attributes:
        example: names by which a file of it is known, all of which must be there.
        recognise: shapes -> the network they are. Raises `ModelError` where they are none of it.
        origins: our name -> the foreign one, for every tensor of a network.
        refusal: why the library has no such network; empty where it has.
        sight: network -> what the published weights of it were trained on.
        assumed: network -> what its tensors do not tell, line by line, and what is taken for true.
    """

    name: str
    title: str
    example: tuple[str, ...]
    recognise: Callable[[Shapes, str], NetworkSpec]
    origins: Callable[[NetworkSpec], dict[str, Origin]]
    refusal: Callable[[NetworkSpec], str]
    sight: Callable[[NetworkSpec], Sight]
    assumed: Callable[[NetworkSpec], tuple[str, ...]] = lambda _: ()

    def looks_like(self, shapes: Shapes) -> bool:
        return all(name in shapes for name in self.example)


@dataclass(frozen=True)
class Report:
    """What became of every name: `matched` as they were, `converted` with how, `missing` of ours and harmless."""

    family: str
    matched: tuple[str, ...]
    converted: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]

    def with_remarks(self, *remarks: str) -> Report:
        return replace(self, remarks=(*self.remarks, *remarks))

    def as_dict(self) -> dict[str, Any]:
        return {
            "mapping": self.family,
            "matched": len(self.matched),
            "converted": dict(self.converted),
            "missing": list(self.missing),
            "mis-shaped": [],
            "unused": [],
            "remarks": list(self.remarks),
        }


def convert(
    foreign: Foreign, family: Family, where: object, spec: NetworkSpec | None = None, remedy: str = ""
) -> tuple[ResidualNetwork, Report]:
    """The network of a foreign file, in evaluation mode, and the report of its names.

    Args:
        spec: the network, where the file tells it; else its shapes do.
        remedy: what may help where it does not fit, beside another file.

    Raises:
        ModelError: it is no network of that family, or a tensor is missing, mis-shaped or left over.
    """
    tensors, remarks = without_prefix(foreign.tensors)
    spec = spec or family.recognise({name: tuple(t.shape) for name, t in tensors.items()}, str(where))
    if sum(spec.depths) > len(tensors):  # every unit has some; found out before a network of any size is laid out
        what = f"{sum(spec.depths):,} units are said to be in a file of {len(tensors):,} tensors"
        raise ModelError(what, where, "take another file")
    origins = family.origins(spec)
    state: dict[str, Tensor] = {}
    matched, converted, missing, absent, shaped = [], [], [], [], []
    for name, own in outline(spec).state_dict().items():
        origin, change = origins[name]
        if origin not in tensors:
            if name.endswith(_COUNTER):
                state[name] = torch.zeros((), dtype=torch.int64)
                missing.append(origin)
            else:
                absent.append(f"{origin} is missing")
            continue
        given = tensors[origin]
        changed = _changed(given, change)
        if changed is None or changed.shape != own.shape:
            shaped.append(f"{origin} has shape {list(given.shape)}, not that of {name}, {list(own.shape)}")
            continue
        state[name] = changed.to(own.dtype).clone(memory_format=torch.contiguous_format)
        words = [change.said] if change else []
        words += [f"from {_type(given)} to {_type(own)}"] if given.dtype != own.dtype else []
        if words:
            converted.append((origin, ", ".join(words)))
        else:
            matched.append(origin)
    unused = [f"{name} is not of this network" for name in sorted(tensors.keys() - {o.name for o in origins.values()})]
    faults = [*absent, *shaped, *unused]
    if faults:
        counted = f"{len(absent)} missing, {len(shaped)} mis-shaped, {len(unused)} left over"
        what = f"the file is not {spec.name} as {family.title} names it ({counted})"
        raise ModelError(what, where, f"{first(faults)}; {remedy or 'take another file'}")
    poisoned = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if poisoned:
        raise ModelError("the weights are not finite in float32", where, f"{first(poisoned)}; take another file")
    network = build(spec)
    network.load_state_dict(state)
    network.eval()
    remarks = (*foreign.remarks, *remarks)
    return network, Report(family.name, tuple(matched), tuple(converted), tuple(missing), remarks)


def rename(network: ResidualNetwork, family: Family) -> dict[str, Tensor]:
    """The network's tensors by the family's names, as `convert` takes them back.

    Raises:
        ModelError: the library has no such network; says why.
    """
    reason = family.refusal(network.spec)
    if reason:
        raise ModelError(f"there is no such network in {family.title}", network.spec.name, reason)
    origins = family.origins(network.spec)
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    found = {}
    for name, tensor in state.items():
        origin, change = origins[name]
        found[origin] = (change.back(tensor) if change else tensor).contiguous().clone()
    return found


def without_prefix(tensors: Mapping[str, Tensor]) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The tensors without what DataParallel, torch.compile and Lightning put before every name, one in another, and
    without the counter that torch's AveragedModel has beside the network's; a last layer in a sequence named alone."""
    said: list[str] = []
    counter, rest = tensors.get(_AVERAGED), {name: own for name, own in tensors.items() if name != _AVERAGED}
    if counter is not None and counter.numel() == 1 and rest and all(name.startswith("module.") for name in rest):
        said.append(
            f"{_AVERAGED}, {int(counter):,}, is left off: averages of weights, as torch's AveragedModel has them"
        )
        tensors = rest
    while prefix := next((one for one in _WRAPPED if all(name.startswith(one) for name in tensors)), None):
        said.append(f"all {len(tensors)} names begin with {prefix}, which is left off")
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        if not tensors:
            break
    tensors, more = out_of_sequence(tensors)
    return tensors, (*said, *more)


def _changed(tensor: Tensor, change: Change | None) -> Tensor | None:
    try:
        return change.forward(tensor) if change else tensor
    except (RuntimeError, IndexError):
        return None


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def described(where: object, parts: Mapping[str, Any]) -> NetworkSpec:
    """The network with these parts, named like the nearest of the catalogue.

    Raises:
        ModelError: the parts make no network.
    """
    try:
        spec = NetworkSpec.model_validate({"name": "imported", **parts})
    except ValidationError as error:
        fault = error.errors()[0]
        place, rule = ".".join(map(str, fault["loc"])), rule_of(fault["type"], fault["msg"])
        told = f"{place} is {fault['input']}: {rule}" if place else rule
        if place == "classes" and fault["input"] == 1:
            told += "; a single answer is a score, of which no network here is made"
        raise ModelError("the tensors make no network known here", where, told) from None

    def distance(name: str) -> int:
        entry = NETWORKS[name]
        found = departures(spec, entry.spec().model_copy(update={"classes": spec.classes, "channels": spec.channels}))
        plain = "shortcut" in found and "none" in found["shortcut"]
        return len(found) + 2 * ("depths" in found) + 2 * ("unit" in found) + 2 * plain

    return spec.model_copy(update={"name": min(NETWORKS, key=distance)})


def unlike(spec: NetworkSpec, wanted: Mapping[str, Any], library: str) -> str:
    """The first parts in which a network differs from what a library can build; empty where it does not.

    `wanted` maps a part to its value, or to a tuple of values.
    """
    faults = []
    for part, allowed in wanted.items():
        value = getattr(spec, part)
        choices = allowed if isinstance(allowed, tuple) and not isinstance(value, tuple) else (allowed,)
        if value not in choices:
            faults.append(f"{part} is {_word(value)} and {library} has {' or '.join(map(_word, choices))}")
    return "; ".join(faults[:3])


def _word(value: Any) -> str:
    return (
        str(list(value)) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    )


PLAIN_SUM: Final[Mapping[str, Any]] = {
    "shortcut_scale": 1.0,
    "branch_scale": 1.0,
    "gate": "none",
    "shortcut_dropout": 0.0,
    "downsampling": "stride",
    "stride_unit": "first",
    "head": "average",
    "norm": "batch",
}
"""What every library's ResNet has, and ours may not."""
