"""Which figures the result files of each study give: one literal table, drawn by the program from their points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from residual.analysis import study_figures as drawers
from residual.analysis.elements import Html, tag
from residual.analysis.inline import inline_svg
from residual.analysis.study_figures import Draw, picture
from residual.studies.evidence import Evidence


class Drawn(NamedTuple):
    """A figure: the series it is of, what draws it, and its title."""

    series: str
    draw: Draw
    title: str


_ERRORS: Final = (Drawn("curves", drawers.draw_errors, "Training and test error"),)
FIGURES: Final[Mapping[str, tuple[Drawn, ...]]] = {
    "degradation": (Drawn("curves", drawers.draw_errors, "Plain and residual networks (figures 1, 4 and 6 of [1])"),),
    "units": (Drawn("curves", drawers.draw_errors, "Units ([2], figure 6 and table 2)"),),
    "shortcuts": (Drawn("curves", drawers.draw_errors, "Shortcuts ([2], figure 3 and table 1)"),),
    "momentum": _ERRORS,
    "batchnorm": _ERRORS,
    "dropout": _ERRORS,
    "initialisation": (
        Drawn("curves", drawers.draw_losses, "Convergence with 22 and 30 layers ([3], figures 2 and 3)"),
        Drawn("signals", drawers.draw_variances, "Variances at the start"),
        Drawn("signals", drawers.draw_gradients, "Gradients at the start"),
    ),
    "responses": (
        Drawn("responses", drawers.draw_responses, "Responses by layer ([1], figure 7, top)"),
        Drawn("responses", drawers.draw_sorted_responses, "Responses, sorted ([1], figure 7, bottom)"),
        Drawn("responses", drawers.draw_gradients, "Gradients by layer, after training"),
    ),
    "lesion": (Drawn("lesions", drawers.draw_lesions, "Units deleted, and swapped with their neighbours"),),
    "probes": (
        Drawn("probes", drawers.draw_probes, "Linear probes by depth"),
        Drawn("probes", drawers.draw_similarities, "Similarity of neighbouring units"),
    ),
    "seed001": _ERRORS,
    "find-rate": (Drawn("rates", drawers.draw_rates, "Range tests of the network of seed 001"),),
    "tiny-imagenet": _ERRORS,
    "cost": (Drawn("costs", drawers.draw_costs, "Time against multiply-adds"),),
}


def drawable(evidence: Evidence) -> list[Drawn]:
    """The figures of a study for which this file has points."""
    return [one for one in FIGURES.get(evidence.study, ()) if evidence.series.get(one.series)]


def pictures(files: list[Evidence]) -> Iterator[Html]:
    """Every figure of the files as an element of a page."""
    for number, evidence in enumerate(files):
        for place, one in enumerate(drawable(evidence)):
            svg = picture(one.draw, evidence.series[one.series], one.title, "inline")
            words = f"{one.title}. {evidence.source}, {evidence.budget}"
            yield tag("figure", inline_svg(svg, f"figure-{number}-{place}", one.title), tag("figcaption", words))
