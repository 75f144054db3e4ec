"""The papers' figures, shipped with the package, and ours beside them; and in words what was trained here.

Errors in percent. A figure of ours stands with its network, data, length and number of seeds: few are as the paper's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from residual.analysis.elements import plural
from residual.models import resolve
from residual.studies.evidence import Evidence, strongest
from residual.training.recipe import override
from residual.training.recipes import RECIPES

_NAMES: Final[Mapping[str, str]] = {"cifar-10": "CIFAR-10", "cifar-100": "CIFAR-100"}
_WHOLE: Final = 50_000
"""The training images of CIFAR."""


@dataclass(frozen=True)
class Printed:
    """One table of a paper: errors by arm of a study, after how many iterations of how many images; an error may be
    words. `depth` is that of the table's networks where arms do not name it."""

    study: str
    title: str
    source: str
    length: int
    errors: Mapping[str, float | str]
    depth: int | None = None
    batch: int = 128


@dataclass(frozen=True)
class Row:
    """An arm: the paper's error, ours as mean, deviation (None for one seed) and seeds, its steps, layers and file."""

    arm: str
    paper: float | str | None
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    steps: int = 0
    layers: int | None = None
    evidence: Evidence | None = None

    @property
    def trained(self) -> str:
        """What was trained here: `32 layers, CIFAR-10, 4,000 steps, 2 seeds`."""
        if self.evidence is None:
            return ""
        return _words({self.layers} - {None}, self.evidence, self.steps, self.seeds)


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
        for one in reversed(strongest(found, study)):  # the best comes last, and stays
            rows = _rows(one)
            homes = {row.arm: _home(tables, row) for row in rows}
            # An arm that no table has stands with the others of its file.
            others = next((home for home in homes.values() if home is not None), None)
            for row in rows:
                home = others if homes[row.arm] is None else homes[row.arm]
                if home is not None:
                    own[home][row.arm] = row
        for table, measured in zip(tables, own, strict=True):
            if measured:
                papers = [measured.pop(arm, Row(arm, None)) for arm in table.errors]
                yield table, [_with(row, table.errors.get(row.arm)) for row in [*papers, *measured.values()]]
