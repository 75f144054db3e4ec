"""Every network known by name: one literal table, and the few questions asked of it.

Axes: `depths` and `widths` have one entry per stage; `image_size` is the side of the square images the paper
used. Names: kind-layers. Source: He et al. 2015 (Deep Residual Learning), section 4.2: n units in each of
three stages make 6n+2 weighted layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydantic import ValidationError

from residual.errors import UsageError, nearest
from residual.models.spec import NetworkSettings, NetworkSpec, ShortcutKind, StemKind, UnitKind


@dataclass(frozen=True)
class Entry:
    """One row of the catalogue: a network as its paper gives it. The first of `shortcuts` is the default."""

    name: str
    depths: tuple[int, ...]
    shortcuts: tuple[ShortcutKind, ...]
    source: str
    widths: tuple[int, ...] = (16, 32, 64)
    stem: StemKind = "3x3"
    unit: UnitKind = "basic"
    dataset: str = "CIFAR-10"
    classes: int = 10
    channels: int = 3
    image_size: int = 32

    def spec(self, shortcut: ShortcutKind | None = None) -> NetworkSpec:
        """The network of this row, with the default shortcut unless another is given."""
        return NetworkSpec(
            name=self.name,
            depths=self.depths,
            widths=self.widths,
            stem=self.stem,
            unit=self.unit,
            shortcut=shortcut or self.shortcuts[0],
            classes=self.classes,
            channels=self.channels,
        )


_PAPER: Final = "He et al. 2015, section 4.2, 6n+2"
_TINY: Final = "He et al. 2015, section 4.2, 6n+2; a size of our own, for quick trials"
_PLAIN: Final[tuple[ShortcutKind, ...]] = ("none",)
_RESIDUAL: Final[tuple[ShortcutKind, ...]] = ("A", "B")

_ROWS: Final = (
    Entry("plain-8", (1, 1, 1), _PLAIN, _TINY),
    Entry("plain-20", (3, 3, 3), _PLAIN, _PAPER),
    Entry("plain-32", (5, 5, 5), _PLAIN, _PAPER),
    Entry("plain-44", (7, 7, 7), _PLAIN, _PAPER),
    Entry("plain-56", (9, 9, 9), _PLAIN, _PAPER),
    Entry("plain-110", (18, 18, 18), _PLAIN, _PAPER),
    Entry("resnet-8", (1, 1, 1), _RESIDUAL, _TINY),
    Entry("resnet-14", (2, 2, 2), _RESIDUAL, _TINY),
    Entry("resnet-20", (3, 3, 3), _RESIDUAL, _PAPER),
    Entry("resnet-32", (5, 5, 5), _RESIDUAL, _PAPER),
    Entry("resnet-44", (7, 7, 7), _RESIDUAL, _PAPER),
    Entry("resnet-56", (9, 9, 9), _RESIDUAL, _PAPER),
    Entry("resnet-110", (18, 18, 18), _RESIDUAL, _PAPER),
    Entry("resnet-1202", (200, 200, 200), _RESIDUAL, _PAPER),
)

NETWORKS: Final[Mapping[str, Entry]] = MappingProxyType({row.name: row for row in _ROWS})


def _bare(name: str) -> str:
    """The name without what people spell differently: case, hyphens, underscores, spaces."""
    return "".join(letter for letter in name.lower() if letter not in "-_ ")


_BARE: Final = {_bare(name): entry for name, entry in NETWORKS.items()}


def find(name: str) -> Entry:
    """The entry of that name; resnet20, ResNet-20 and resnet_20 are one. Raises `UsageError` for an unknown name."""
    entry = _BARE.get(_bare(name))
    if entry is None:
        raise UsageError(f"there is no network {name[:80]!r}", "network.name", nearest(name[:80], list(NETWORKS)))
    return entry


def variants() -> list[tuple[str, ShortcutKind]]:
    """Every (name, shortcut) the catalogue offers, in its order, the default shortcut of a network first."""
    return [(entry.name, shortcut) for entry in NETWORKS.values() for shortcut in entry.shortcuts]


def resolve(settings: NetworkSettings, classes: int, channels: int = 3) -> NetworkSpec:
    """The catalogue's entry with the settings' overrides, for that many classes and input channels.

    Any shortcut may be put on any entry. Raises `UsageError` with every fault when the name is unknown or the
    parts do not fit together.
    """
    base = find(settings.name).spec().model_dump()
    chosen = settings.model_dump(exclude={"name"}, exclude_none=True)
    try:
        return NetworkSpec.model_validate({**base, **chosen, "classes": classes, "channels": channels})
    except ValidationError as error:
        raise UsageError("this network cannot be built", settings.name, ". ".join(_faults(error))) from None


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        yield f"network.{place} is {fault['input']!r}: {message}" if place else message
