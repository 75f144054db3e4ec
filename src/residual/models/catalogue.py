"""The questions asked of the table of networks: a name, many names, a network with some parts changed."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Final

from pydantic import ValidationError

from residual.errors import UsageError, nearest, rule_of
from residual.models.entries import NETWORKS, Entry
from residual.models.spec import PRE_ACTIVATION, NetworkSettings, NetworkSpec, ShortcutKind
from residual.models.stems import stem_for


def _bare(name: str) -> str:
    """The name without what people spell differently: case, hyphens, underscores, spaces."""
    return "".join(letter for letter in name.lower() if letter not in "-_ ")


_BARE: Final = {_bare(name): entry for name, entry in NETWORKS.items()}


def find(name: str) -> Entry:
    """The entry of that name; resnet20, ResNet-20 and resnet_20 are one. Raises `UsageError` for an unknown name."""
    if not isinstance(name, str):
        raise UsageError(f"{name!r:.40} is no name of a network", "network.name", "name one, as in resnet-20")
    entry = _BARE.get(_bare(name))
    if entry is None:
        raise UsageError(f"there is no network {name[:80]!r}", "network.name", nearest(name[:80], list(NETWORKS)))
    return entry


def matching(pattern: str) -> list[Entry]:
    """The entries whose names fit a pattern with `*`, `?` or `[...]`. Raises `UsageError` when none does."""
    found = [entry for bare, entry in _BARE.items() if fnmatchcase(bare, _bare_pattern(pattern))]
    if not found:
        raise UsageError(f"no network is named like {pattern[:80]!r}", "models", "`residual models` lists them all")
    return found


def _bare_pattern(pattern: str) -> str:
    """As `_bare`, but the hyphen of a range in brackets stays."""
    parts = pattern.lower().replace("_", "-").split("[")
    inside = [part.partition("]") for part in parts[1:]]
    return _bare(parts[0]) + "".join(f"[{first}{close}{_bare(rest)}" for first, close, rest in inside)


def variants() -> list[tuple[str, ShortcutKind]]:
    """Every (name, shortcut) the catalogue offers, in its order, the default shortcut of a network first."""
    return [(entry.name, shortcut) for entry in NETWORKS.values() for shortcut in entry.shortcuts]


def resolve(
    settings: NetworkSettings | str,
    classes: int,
    channels: int = 3,
    image_size: int | tuple[int, int] | None = None,
) -> NetworkSpec:
    """The catalogue's entry with the settings' overrides, for that many classes and input channels.

    Any part may be put on any entry. With an `image_size` (the side, or height and width) a network for ImageNet
    gets the stem that suits it, unless the settings name one; without it, the stem of its paper.
    Raises `UsageError` with every fault when the name is unknown or the parts do not fit together.
    """
    if not isinstance(settings, NetworkSettings):
        settings = NetworkSettings(name=find(settings).name)
    entry = find(settings.name)
    base = entry.spec().model_dump()
    chosen = settings.model_dump(exclude={"name"}, exclude_none=True)
    if chosen.get("stem") == "auto" or ("stem" not in chosen and entry.stem_by_size and image_size is not None):
        size = entry.image_size if image_size is None else image_size
        chosen["stem"] = stem_for((size, size) if isinstance(size, int) else size)
    if "order" in chosen:
        chosen.setdefault("projection_norm", chosen["order"] not in PRE_ACTIVATION)
        if chosen["order"] != "full-pre-activation":
            chosen.setdefault("first_activation", "stem")
            chosen.setdefault("pool_padding", "lowest")
    if chosen.get("norm", base["norm"]) != base["norm"]:
        chosen.setdefault("conv_bias", chosen["norm"] == "none")
    try:
        spec = NetworkSpec.model_validate({**base, **chosen, "classes": classes, "channels": channels})
    except ValidationError as error:
        raise UsageError("this network cannot be built", settings.name, ". ".join(_faults(error))) from None
    if image_size is not None and (side := _shorter(image_size)) < spec.least_side:
        rule = f"image_size is {side}; pooling leaves nothing of it, so choose at least {spec.least_side}"
        raise UsageError("this network cannot be built", settings.name, rule)
    return spec


def _shorter(image_size: int | tuple[int, int]) -> int:
    return image_size if isinstance(image_size, int) else min(image_size)


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = rule_of(fault["type"], fault["msg"])
        yield f"network.{place} is {fault['input']!r}: {message}" if place else message


def departures(spec: NetworkSpec, model: NetworkSpec) -> dict[str, tuple[Any, Any]]:
    """The parts in which `spec` differs from `model`: part -> (of the model, of the spec)."""
    old, new = model.model_dump(mode="json"), spec.model_dump(mode="json")
    return {part: (old[part], new[part]) for part in new if part != "name" and old[part] != new[part]}


def settings_of(spec: NetworkSpec) -> NetworkSettings:
    """The settings that `resolve` makes this network of, for its classes and channels and images of any size."""
    entry = find(spec.name)
    model = entry.spec().model_copy(update={"classes": spec.classes, "channels": spec.channels})
    parts = set(departures(spec, model)) - {"classes", "channels"}
    parts |= {"stem"} if entry.stem_by_size else set()
    # `resolve` lets these follow the parts they belong to.
    parts |= {"projection_norm"} if "order" in parts else set()
    parts |= {"conv_bias"} if "norm" in parts else set()
    return NetworkSettings.model_validate({"name": entry.name, **{part: getattr(spec, part) for part in parts}})
