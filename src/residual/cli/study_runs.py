"""`residual study responses|lesion|probes RUN...`: what is measured on trained networks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from residual.cli.study_asked import say_evidence
from residual.cli.text import Whole, printable

if TYPE_CHECKING:
    from residual.studies.evidence import Evidence
    from residual.studies.run_studies import Asked

Json = Annotated[bool, Parameter(negative=())]

_UNITS = {
    **dict.fromkeys(("error", "probe_first", "probe_last"), ", %"),
    **dict.fromkeys(("mean_rise", "largest_rise", "mean_rise_of_swaps"), ", points"),
}

_MEANING = {
    "response": "standard deviation of what a 3x3 layer gives, the mean over the layers",
    "gradient_ratio": "the gradient at the output of the first convolution over that of the last",
    "additive_violation": "how far the last maps are from the first plus the sum of the branches, as a share",
    "mean_rise": "of the error where one unit is deleted",
    "harmful_units": "whose deletion lowers the error",
    "mean_rise_of_swaps": "of the error where two neighbours change places",
    "silent_blocks": "whose branch is less than a hundredth of what the shortcut carries",
    "least_share": "of a branch beside what its shortcut carries, deviation over deviation",
    "probe_first": "accuracy of a linear classifier on the maps of the first unit, probe last on those of the last",
    "probe_rises": "share of the units after which that accuracy is higher than before",
    "similarity_within": "CKA of neighbouring units of one stage, in the mean",
}


def responses(
    *runs: str,
    images: Whole = 2000,
    data: str | None = None,
    device: str = "auto",
    out: str | None = None,
    json: Json = False,
) -> int:
    """Standard deviations of every 3x3 layer's response, in order and sorted (He et al. 2015, figure 7).

    Also gradients by layer, and how far a residual network is from the sum of its branches.

    Parameters
    ----------
    runs
        Finished runs; those of one network and several seeds make one spread.
    images
        How many test images.
    data
        Where the images are, if not where they were at training.
    device
        auto, cpu, mps, cuda or cuda:N.
    out
        The folder of the result file and its figures; without it, that of the runs.
    json
        The result file's content as JSON.
    """
    from residual.studies.run_studies import study_responses

    return _study(study_responses, "responses", runs, images, data, device, out, json)


def lesion(
    *runs: str,
    images: Whole = 2000,
    data: str | None = None,
    device: str = "auto",
    out: str | None = None,
    json: Json = False,
) -> int:
    """Measure how the error of a trained network changes if a single unit is deleted or two neighbours are swapped.

    Parameters
    ----------
    runs
        Finished runs; those of one network and several seeds make one spread.
    images
        How many test images.
    data
        Where the images are, if not where they were at training.
    device
        auto, cpu, mps, cuda or cuda:N.
    out
        The folder of the result file and its figures; without it, that of the runs.
    json
        The result file's content as JSON.
    """
    from residual.studies.run_studies import study_lesion

    return _study(study_lesion, "lesion", runs, images, data, device, out, json)


def probes(
    *runs: str,
    images: Whole = 2000,
    data: str | None = None,
    device: str = "auto",
    out: str | None = None,
    json: Json = False,
) -> int:
    """Accuracy of linear classifiers on each unit's feature maps, and how similar neighbouring units are.

    Parameters
    ----------
    runs
        Finished runs; those of one network and several seeds make one spread.
    images
        How many test images; probes are fitted on 5,000 training images.
    data
        Where the images are, if not where they were at training.
    device
        auto, cpu, mps, cuda or cuda:N.
    out
        The folder of the result file and its figures; without it, that of the runs.
    json
        The result file's content as JSON.
    """
    from residual.studies.run_studies import study_probes

    return _study(study_probes, "probes", runs, images, data, device, out, json)


def _study(
    study: Callable[[Asked], Evidence],
    name: str,
    runs: tuple[str, ...],
    images: int,
    data: str | None,
    device: str,
    out: str | None,
    json: bool,
) -> int:
    from residual.errors import UsageError
    from residual.runs.studies import runs_of
    from residual.studies.run_studies import Asked, folder_of

    if images < 10:
        raise UsageError(f"{images} images are too few", "--images", "give 10 or more")

    def tell(run: str, done: int, whole: int) -> None:
        if not json and sys.stderr.isatty():
            print(printable(f"{run}: {done} of {whole}"), file=sys.stderr, flush=True)

    command = f"residual study {name} RUN... --images {images}"
    runs = tuple(runs_of(runs))
    asked = Asked(runs, images, data=data, device=device, command=command, tell=tell)
    if not runs:
        raise UsageError("no run was named", "runs", "name one or more runs, such as those of a study")
    folder = folder_of(runs) if out is None else Path(out).expanduser()
    found = study(asked)
    return say_evidence(found, folder, json, lambda: _table(found))


def _table(evidence: Evidence) -> None:
    from rich.table import Table

    from residual.cli.words import console
    from residual.studies.wording import seeds

    names = list(dict.fromkeys(figure for figures in evidence.measured.values() for figure in figures))
    table = Table(title=printable(f"{evidence.study}: {seeds(evidence)}"))
    table.title_justify = "left"
    table.add_column("network")
    for name in names:
        table.add_column(f"{name.replace('_', ' ')}{_UNITS.get(name, '')}", justify="right")
    for network, figures in evidence.measured.items():
        table.add_row(printable(network), *(_cell(figures.get(name)) for name in names))
    console().print(table)
    for name in names:
        if meaning := _MEANING.get(name):
            print(f"{name.replace('_', ' ')}: {meaning}")


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        deviation = f" ± {value['std']:.3g}" if value["std"] is not None else ""
        return f"{value['mean']:.4g}{deviation}"
    return "" if value is None else f"{value:.4g}"
