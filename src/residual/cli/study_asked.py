"""What every study that trains may be asked for, as flags; and what is said and written when it is done."""

from __future__ import annotations

import json as json_
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from residual.cli.asked import asked
from residual.cli.text import Log, Whole, printable
from residual.launch import speaks

if TYPE_CHECKING:
    from residual.studies.evidence import Evidence
    from residual.studies.training_studies import Studied, Wish
    from residual.training.progress import Listener


@Parameter(name="*")
@dataclass(frozen=True)
class Training:
    """How the runs of a study are trained.

    Parameters
    ----------
    seeds
        How many seeds.
    first
        The first of them.
    data
        The folder or archive with the images.
    steps
        The length of a run; drops of the rate keep their share of it.
    device
        auto, cpu, mps, cuda or cuda:N.
    protocol
        tune holds a tenth of the training images out for validation, final trains on all of them; photographs with
        a val/ of their own are validated on that under both.
    set
        Any setting of all runs by path; may be given several times.
    out
        The folder of the study; without it, runs/STUDY-RECIPE.
    json
        The result file's content as one JSON value; the lines of the runs go to standard error.
    log
        As in `residual train`.
    """

    seeds: Whole = 2
    first: Whole = 0
    data: str | None = None
    steps: Whole | None = None
    device: str | None = None
    protocol: Literal["tune", "final"] | None = None
    set: Annotated[list[str] | None, Parameter(allow_repeating=True, negative=())] = None
    out: str | None = None
    json: Annotated[bool, Parameter(negative=())] = False
    log: Log = "auto"


USUAL = Training()


def wish(recipe: str, training: Training, command: str) -> Wish:
    """The same as values."""
    from residual.cli.words import telling
    from residual.errors import UsageError
    from residual.studies.training_studies import Wish
    from residual.training.progress import Silent

    if training.seeds < 1:
        raise UsageError(f"{training.seeds} seeds are no study", "--seeds", "give 1 or more")
    changes = asked(training.set, data=training.data, device=training.device, protocol=training.protocol)

    def listener(arm: str, seed: int) -> Listener:
        if not speaks():
            return Silent()
        print(printable(f"{arm}, seed {seed}"), file=sys.stderr if training.json else None, flush=True)
        return telling(training.log, training.json)

    flags = [f"--seeds {training.seeds}", *([f"--first {training.first}"] if training.first else [])]
    flags += [f"--steps {training.steps}"] if training.steps is not None else []
    flags += [f"--protocol {training.protocol}"] if training.protocol is not None else []
    flags += [f"--set {shlex.quote(text)}" for text in training.set or [] if not text.startswith("data.path")]
    command = " ".join([command, *flags])
    seeds = range(training.first, training.first + training.seeds)
    out = None if training.out is None else Path(training.out).expanduser()
    return Wish(recipe, tuple(seeds), training.steps, tuple(changes), out, command, listener)


def numbers(text: str, flag: str) -> list[int]:
    """Whole numbers with commas between them: `20,32,44`.

    Raises:
        UsageError: something else, or a number twice.
    """
    from residual.errors import UsageError

    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or len({*found}) < len(found):
        raise UsageError(f"{text[:60]!r} is no list of different whole numbers", flag, "write it as 20,56")
    return found


def say(studied: Studied, json: bool) -> int:
    """Write and draw the evidence of trained arms; a table of their errors."""
    from rich.table import Table

    from residual.analysis.elements import plural
    from residual.cli.drawing import draw_run
    from residual.cli.words import console

    if not speaks():
        return 0
    compared = studied.compared
    for runs in compared.runs.values():
        for run in runs:
            draw_run(run)
    counted = plural(len(compared.seeds), "seed", "seeds")
    table = Table(title=printable(f"{studied.evidence.study}: {counted}, last step"))
    table.title_justify = "left"
    splits = ("training_error", "validation_error", "test_error")
    for name in ("arm", *(split.replace("_", " ") for split in splits), "training loss", "a run"):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for arm in compared.runs:
        figures = studied.evidence.measured[arm]
        cells = [pair(figures.get(split), " %") for split in splits]
        table.add_row(printable(arm), *cells, pair(figures["training_loss"], "", 3), pair(figures["seconds"], " s", 0))
    return say_evidence(studied.evidence, compared.folder, json, lambda: console().print(table))


def pair(spread: dict[str, float] | None, unit: str, digits: int = 2) -> str:
    """Mean and deviation."""
    if spread is None:
        return ""
    deviation = f" ± {spread['std']:.{digits}f}" if spread["std"] is not None else ""
    return f"{spread['mean']:.{digits}f}{deviation}{unit}"


def say_evidence(evidence: Evidence, folder: Path, json: bool, tell: Callable[[], None]) -> int:
    """Write the result file and draw its figures beside it; then say what `tell` says, or the file as JSON."""
    from residual.studies.evidence import ENDING, place_of, write
    from residual.studies.wording import cited

    path = place_of(evidence, folder)
    write(evidence, path)
    drawn = _draw(evidence, folder, path.name.removesuffix(ENDING))
    if json:
        print(json_.dumps(evidence.as_dict() | {"file": str(path), "pictures": [str(one) for one in drawn]}))
        return 0
    tell()
    for caveat in evidence.caveats:
        print(printable(f"note     {cited(caveat)}"))
    print(printable(f"evidence {path}"))
    for one in drawn:
        print(printable(f"figure   {one}"))
    return 0


def _draw(evidence: Evidence, folder: Path, stem: str) -> Sequence[Path]:
    from residual.cli.drawing import wanted
    from residual.errors import log

    if not wanted():
        return []
    try:
        from residual.analysis.study_figures import draw_file
        from residual.studies.pictures import drawable
        from residual.studies.wording import cited

        drawn = []
        for number, one in enumerate(drawable(evidence), 1):
            path = folder / f"{stem}-{number}.png"
            draw_file(one.draw, evidence.series[one.series], cited(one.title), path)
            drawn.append(path)
    except ImportError as error:
        log.warning("the figures were not drawn: %s", error)
        return []
    return drawn
