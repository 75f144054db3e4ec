"""The papers' figures, shipped with the package, and ours beside them; and in words what was trained here.

Errors in percent. A figure of ours stands with its network, data, length and number of seeds: few are as the paper's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Final

from residual.analysis.elements import plural
from residual.studies.departures import departures, spec_of, strongest
from residual.studies.evidence import Evidence

_CIFAR: Final[Mapping[str, str]] = {"cifar-10": "CIFAR-10", "cifar-100": "CIFAR-100"}
_TRAINING_IMAGES: Final = 50_000
"""Of CIFAR."""
_WIDTHS: Final = "network.widths"
_MOST_CHANGES: Final = 3
_REPORTED: Final[Mapping[str, str]] = {"tiny-imagenet": "validation_error"}
"""What papers report, where it is not the test error: the test images of ImageNet have no labels."""


@dataclass(frozen=True)
class Printed:
    """One table of a paper: errors by arm of a study, or words where it has no figure, after how many iterations of how
    many images. `network` is what the table is of, where arms do not say it, in the words of `network`."""

    study: str
    title: str
    source: str
    length: int
    errors: Mapping[str, float | str]
    network: str = ""
    batch: int = 128


@dataclass(frozen=True)
class Row:
    """An arm: the paper's error, ours as mean, deviation (None for one seed) and seeds, its steps, network and file."""

    arm: str
    paper: float | str | None = None
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    steps: int = 0
    network: str = ""
    evidence: Evidence | None = None


@cache
def printed() -> tuple[Printed, ...]:
    """All tables that are shipped."""
    table = tomllib.loads(files("residual.studies").joinpath("papers.toml").read_text(encoding="utf-8"))
    return tuple(Printed(**entry) for entry in table["table"])


def beside(evidence: Iterable[Evidence]) -> Iterator[tuple[Printed, list[Row]]]:
    """Every table of which some arm was measured: the paper's arms in their order, then those that no table has."""
    found = list(evidence)
    for study in dict.fromkeys(table.study for table in printed()):
        tables = [table for table in printed() if table.study == study]
        own: list[dict[str, Row]] = [{} for _ in tables]
        for one in strongest(found, study):  # the best comes first, and stays
            homes = [(row, _home(tables, row)) for row in _rows(one)]
            # An arm that no table has stands with the others of its file.
            others = next((home for _, home in homes if home is not None), None)
            for row, home in homes:
                place = others if home is None else home
                if place is not None:
                    own[place].setdefault(row.arm, row)
        for table, measured in zip(tables, own, strict=True):
            if measured:
                arms = [*table.errors, *(arm for arm in measured if arm not in table.errors)]
                rows = [replace(measured.get(arm, Row(arm)), paper=table.errors.get(arm)) for arm in arms]
                yield table, rows


def _rows(one: Evidence) -> Iterator[Row]:
    for arm, figures in one.measured.items():
        error = figures.get(_REPORTED.get(one.study, "test_error")) if isinstance(figures, Mapping) else None
        if error:
            steps = int(figures.get("steps", 0))
            yield Row(
                arm,
                mean=error["mean"],
                std=error["std"],
                seeds=len(error["values"]),
                steps=steps,
                network=network(one, [arm]),
                evidence=one,
            )


def _home(tables: Sequence[Printed], row: Row) -> int | None:
    """The table that an arm belongs to: the one of its very network, else the first that has it."""
    places = [place for place, table in enumerate(tables) if row.arm in table.errors]
    return next((place for place in places if tables[place].network == row.network), places[0] if places else None)


def network(one: Evidence, arms: Iterable[str]) -> str:
    """What arms trained, `20 and 56 layers`; nothing where their recipes do not say it."""
    specs = [spec for arm in arms if (spec := spec_of(one, arm)) is not None]
    layers = sorted({spec.weighted_layers for spec in specs})
    if not layers:
        return f"{one.settings['depth']} layers" if "depth" in one.settings else ""
    *most, last = (f"{count:,}" for count in layers)
    kind = " of bottlenecks" if all(spec.unit == "bottleneck" for spec in specs) else ""
    return f"{', '.join(most)} and {last} layers{kind}" if most else f"{last} layers{kind}"


def filters(one: Evidence, arms: Iterable[str]) -> str:
    """What is said of networks that are wider or narrower than the recipe's; nothing of others."""
    changed = (one.recipes[arm].changed for arm in arms if arm in one.recipes)
    widths = next((parts[_WIDTHS] for parts in changed if _WIDTHS in parts), None)
    return f" with {widths[0]} to {widths[-1]} filters" if widths else ""


def changes(one: Evidence, arm: str) -> str:
    """What is said of a recipe that was changed beyond its study, widths apart, which `filters` tells."""
    departed = departures(one, arm) if arm in one.recipes else {}
    found = {path: value for path, value in departed.items() if path != _WIDTHS}
    if len(found) > _MOST_CHANGES:
        return f", its recipe changed in {len(found)} settings"
    return "".join(f", {path}={value}" for path, value in found.items())


def data_set(one: Evidence) -> str:
    """What was trained on; fewer images than the paper's are told."""
    images = one.data.get("training")
    if one.study == "tiny-imagenet":
        return f"{f'{images:,} ' if images else ''}images of classes of ImageNet, single view"
    name = str(one.data.get("name", ""))
    fewer = f" ({images:,} images)" if images and name in _CIFAR and images < _TRAINING_IMAGES else ""
    return _CIFAR.get(name, name) + fewer


def place(one: Evidence) -> str:
    """The file of evidence; what this very command trained is read from none."""
    return f"{one.study}, {one.source}" if one.source == "computed now" else one.source


def trained(one: Evidence, networks: str, steps: Sequence[int], seeds: int) -> str:
    """What was trained: `32 layers, CIFAR-10, 4,000 steps, 2 seeds`."""
    *shorter, longest = sorted({count for count in steps if count}) or [0]
    parts = (
        networks,
        data_set(one),
        " and ".join([*(f"{count:,}" for count in shorter), plural(longest, "step", "steps")]) if longest else "",
        plural(seeds, "seed", "seeds") if seeds else "",
    )
    return ", ".join(part for part in parts if part)
