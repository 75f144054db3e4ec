"""The papers' figures, shipped with the package, and ours beside them.

Errors in percent. A figure of ours stands with its number of seeds and its length: few are as long as the paper's.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from residual.studies.evidence import Evidence, strongest


@dataclass(frozen=True)
class Printed:
    """One table of a paper: errors by arm of a study, and after how many iterations."""

    study: str
    title: str
    source: str
    length: int
    errors: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """An arm: the paper's error, ours as mean, deviation (None for one seed) and seeds, its steps and file."""

    arm: str
    paper: float | None
    mean: float | None = None
    std: float | None = None
    seeds: int = 0
    steps: int = 0
    source: str = ""


@cache
def printed() -> tuple[Printed, ...]:
    """All tables that are shipped."""
    table = tomllib.loads(files("residual.studies").joinpath("papers.toml").read_text(encoding="utf-8"))
    return tuple(Printed(**entry) for entry in table["table"])


def beside(evidence: Iterable[Evidence]) -> Iterator[tuple[Printed, list[Row]]]:
    """Every table of which some arm was measured: the paper's arms in their order, then those that it lacks."""
    found = list(evidence)
    for table in printed():
        own: dict[str, Row] = {}
        for one in reversed(strongest(found, table.study)):  # the best comes last, and stays
            for arm, figures in one.measured.items():
                error = figures.get("test_error") if isinstance(figures, Mapping) else None
                if error:
                    paper = table.errors.get(arm)
                    count, steps = len(error["values"]), int(figures.get("steps", 0))
                    own[arm] = Row(arm, paper, error["mean"], error["std"], count, steps, one.source)
        if set(own) & set(table.errors):
            rows = [own.get(arm, Row(arm, error)) for arm, error in table.errors.items()]
            yield table, rows + [row for arm, row in own.items() if arm not in table.errors]
