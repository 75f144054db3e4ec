"""Which figures the result files of each study give: one literal table, drawn by the program from their points.

Sources: [1] He et al. 2015 (Deep Residual Learning), figures 1, 4, 6 and 7; [2] He et al. 2016 (Identity Mappings),
figures 3 and 6; [3] He et al. 2015 (Delving Deep into Rectifiers), figures 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from residual.analysis import study_figures as drawers
from residual.analysis.elements import Html, tag
from residual.analysis.inline import inline_svg
from residual.analysis.study_figures import Draw, Training, picture
from residual.studies.evidence import Evidence
from residual.studies.papers import filters, network, place, trained


def _every(arm: str) -> bool:
    return True


def _plain(arm: str) -> bool:
    return arm.startswith("plain-")


def _residual(arm: str) -> bool:
    return not _plain(arm)


class Drawn(NamedTuple):
    """A figure: the series it is of, what draws it, its title, what the paper's figure has, and which arms it shows."""

    series: str
    draw: Draw
    title: str
    paper: str = ""
    of: Callable[[str], bool] = _every


def _errors(title: str, paper: str = "", of: Callable[[str], bool] = _every, training: Training = "dashed") -> Drawn:
    return Drawn("curves", partial(drawers.draw_errors, of=of, training=training), title, paper, of)


_ERRORS: Final = (_errors("Training and test error"),)
_LOSS: Final = "its dashed lines are the training loss"
_IMAGENET: Final = (
    "[1] has 18 and 34 layers, on the 1.28 million images of ImageNet, over up to 600,000 steps of 256 images"
)
_RESPONSES: Final = "[1] has also ResNet-110, and all after 64,000 steps"
FIGURES: Final[Mapping[str, tuple[Drawn, ...]]] = {
    "degradation": (
        _errors(
            "Plain networks by depth ([1], figure 1 and figure 6, left)",
            "[1] has 20, 32, 44 and 56 layers (figure 1: 20 and 56) over 64,000 steps, and does not display plain-110, "
            "which stays above 60 %",
            _plain,
        ),
        _errors(
            "Residual networks by depth ([1], figure 6, middle and right)",
            "[1] has 20, 32, 44, 56, 110 and 1,202 layers over 64,000 steps",
            _residual,
        ),
    ),
    "units": (
        _errors(
            "Residual units ([2], figure 6)",
            "[2] has normalisation after the addition in ResNet-110, and pre-activation in ResNet-164, each beside the "
            f"original unit, over 64,000 steps; {_LOSS}",
        ),
    ),
    "shortcuts": (_errors("Shortcuts ([2], figure 3)", f"[2] has 110 layers over 64,000 steps; {_LOSS}"),),
    "momentum": _ERRORS,
    "batchnorm": _ERRORS,
    "dropout": _ERRORS,
    "initialisation": (
        Drawn(
            "curves",
            drawers.draw_losses,
            "Convergence with 22 and 30 layers ([3], figures 2 and 3)",
            "[3] draws the error of validation images of ImageNet",
        ),
        Drawn("signals", drawers.draw_variances, "Variances at the start"),
        Drawn("signals", drawers.draw_gradients, "Gradients at the start"),
    ),
    "responses": (
        Drawn("responses", drawers.draw_responses, "Responses by layer ([1], figure 7, top)", _RESPONSES),
        Drawn("responses", drawers.draw_sorted_responses, "Responses, sorted ([1], figure 7, bottom)", _RESPONSES),
        Drawn("responses", drawers.draw_gradients, "Gradients by layer, after training"),
    ),
    "lesion": (Drawn("lesions", drawers.draw_lesions, "Units deleted, and swapped with their neighbours"),),
    "probes": (
        Drawn("probes", drawers.draw_probes, "Linear probes by depth"),
        Drawn("probes", drawers.draw_similarities, "Similarity of neighbouring units"),
    ),
    "seed001": _ERRORS,
    "find-rate": (Drawn("rates", drawers.draw_rates, "Range tests of the network of seed 001"),),
    "tiny-imagenet": (
        _errors("Plain networks on photographs of ImageNet ([1], figure 4, left)", _IMAGENET, _plain, "thin"),
        _errors("Residual networks on photographs of ImageNet ([1], figure 4, right)", _IMAGENET, _residual, "thin"),
    ),
    "cost": (Drawn("costs", drawers.draw_costs, "Time against multiply-adds"),),
}


def drawable(evidence: Evidence) -> list[Drawn]:
    """The figures of a study for which this file has points."""
    return [one for one in FIGURES.get(evidence.study, ()) if any(map(one.of, evidence.series.get(one.series, ())))]


def caption(evidence: Evidence, one: Drawn) -> str:
    """The title, what was trained here, what the paper's figure has instead, and the file."""
    arms = [arm for arm in evidence.series[one.series] if one.of(arm)]
    lines = [one.title, _here(evidence, arms), one.paper, f"{place(evidence)}, {evidence.budget}"]
    return ". ".join(line for line in lines if line)


def _here(evidence: Evidence, arms: Iterable[str]) -> str:
    """What these arms trained; nothing for points of networks that were not."""
    some = [arm for arm in arms if arm in evidence.recipes]
    if not some:
        return ""
    found = (evidence.measured.get(arm) for arm in some)
    steps = [int(figures["steps"]) for figures in found if isinstance(figures, Mapping) and "steps" in figures]
    networks = network(evidence, some) + filters(evidence, some)
    if not steps:  # of a study of trained networks
        lengths = evidence.settings.get("lengths", {})
        steps = [lengths.get(arm, evidence.settings.get("steps", 0)) for arm in some]
    return f"Here {trained(evidence, networks, steps, len(evidence.seeds))}"


def pictures(files: list[Evidence]) -> Iterator[Html]:
    """Every figure of the files as an element of a page; none of a file that counts in another's figures."""
    places = [{*place(one).split(" and ")} for one in files]
    for number, evidence in enumerate(files):
        if any(places[number] < other for other in places):
            continue
        for turn, one in enumerate(drawable(evidence)):
            svg = picture(one.draw, evidence.series[one.series], one.title, "inline")
            drawn = inline_svg(svg, f"figure-{number}-{turn}", one.title)
            yield tag("figure", drawn, tag("figcaption", caption(evidence, one)))
