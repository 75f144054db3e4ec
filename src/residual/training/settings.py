"""Every setting of a recipe as a row: path, values, default and what it is. Read from the models that check them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from residual.files import Facts
from residual.models import NetworkSettings
from residual.runs.summary import spelt
from residual.training.recipe import Recipe
from residual.training.schedules import SCHEDULES

_SIGNS = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
_FREE: dict[Any, str] = {int: "whole number", float: "number", str: "word", bool: "true, false"}


@dataclass(frozen=True)
class Setting:
    """A setting: its path in a recipe, what it takes, its default (none: left open; its own: the network's) and what it
    is."""

    path: str
    values: str
    default: str
    meaning: str

    def as_dict(self) -> Facts:
        return asdict(self)


def settings(pattern: str = "*") -> list[Setting]:
    """All settings, in the order of a recipe; those of a schedule once for each kind that has them.

    Args:
        pattern: only paths that it matches, as `optimiser.*`; a group's name stands for all in it.
    """
    return [one for one in _of(Recipe, "") if fnmatchcase(one.path, pattern) or one.path.startswith(f"{pattern}.")]


def _of(model: type[BaseModel], above: str, kind: str = "", absent: bool = False) -> Iterator[Setting]:
    """The settings of a group; an `absent` one is not there until one of its settings is."""
    for name, field in model.model_fields.items():
        path = f"{above}{name}"
        groups = [one for one in _parts(field.annotation) if isinstance(one, type) and issubclass(one, BaseModel)]
        if path == "schedule":
            kinds = ", ".join(SCHEDULES)
            yield Setting("schedule.kind", kinds, field.get_default().kind, "how the learning rate goes over a run")
            for word, schedule in SCHEDULES.items():
                yield from (one for one in _of(schedule, "schedule.", word) if one.path != "schedule.kind")
        elif groups:
            yield from _of(groups[0], f"{path}.", kind, field.get_default() is None)
        else:
            meaning = field.description or ""
            default = field.get_default()
            left = "its own" if default is None and model is NetworkSettings else spelt(default)
            left = f"none ({left} once there is one)" if absent else left
            yield Setting(path, _values(field), left, f"{kind}: {meaning}" if kind else meaning)


def _parts(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, without None; anything else alone."""
    if get_origin(annotation) is Annotated:
        return _parts(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(part for one in get_args(annotation) for part in _parts(one) if part is not NoneType)
    return (annotation,)


def _values(field: FieldInfo) -> str:
    words = [_words(part) for part in _parts(field.annotation)]
    bounds = _bounds([*_metadata(field.annotation), *field.metadata])
    return " ".join(filter(None, (", ".join(dict.fromkeys(words)), bounds)))


def _words(kind: Any) -> str:
    """What a type takes, in words."""
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(spelt(value) for value in get_args(kind))
    if origin is tuple:
        inner = get_args(kind)
        return f"list: {_words(_parts(inner[0])[0])}" if inner[-1] is ... else f"[{', '.join(map(_inner, inner))}]"
    return "table" if origin is dict else _FREE.get(kind, str(getattr(kind, "__name__", kind)))


def _inner(kind: Any) -> str:
    return _words(_parts(kind)[0])


def _metadata(annotation: Any) -> Iterator[Any]:
    """The bounds that stand in a type, whichever member of a union has them."""
    if get_origin(annotation) is Annotated:
        inner, *found = get_args(annotation)
        for one in found:
            yield from one.metadata if isinstance(one, FieldInfo) else [one]
        yield from _metadata(inner)
    elif get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _metadata(part)


def _bounds(found: list[Any]) -> str:
    """`from 0 below 1`."""
    bounds = {name: value for one in found for name in _SIGNS if (value := getattr(one, name, None)) is not None}
    return " ".join(words.format(_number(bounds[name])) for name, words in _SIGNS.items() if name in bounds)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
