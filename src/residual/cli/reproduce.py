"""`residual reproduce`."""

from __future__ import annotations

import json as json_
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from residual.cli.text import printable

if TYPE_CHECKING:
    from residual.studies.reproduce import Reproduction

Budget = Literal["smoke", "cpu", "gpu"]


def reproduce(
    *,
    claims: Annotated[list[str] | None, Parameter(allow_repeating=True, consume_multiple=True, negative=())] = None,
    budget: Budget = "smoke",
    evidence: Annotated[list[str] | None, Parameter(allow_repeating=True, negative=())] = None,
    data: str | None = None,
    out: str | None = None,
    markdown: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check what five documents say about residual networks: a verdict for each claim, with its evidence.

    What needs no data is computed in seconds; the rest is judged by result files, those of the package and yours.

    Parameters
    ----------
    claims
        Ids of claims, such as E13 or A19-20, or several as 'E*'; without any, all of them.
    budget
        smoke trains nothing; cpu (hours) and gpu (days) first train the studies that lack a result file of that budget.
    evidence
        A result file of a study, or a folder of them; may be given several times.
    data
        With cpu or gpu: where the images of CIFAR-10 are, if not in a usual place.
    out
        The .html file; without it, claims.html in the folder of runs.
    markdown
        Also write the report as Markdown into this file.
    json
        Say everything as one JSON value instead of a table; the page is written all the same.
    """
    from residual.analysis.style import is_ours
    from residual.cli.words import telling
    from residual.errors import UsageError
    from residual.evaluation.destination import mind_places
    from residual.files import replace_file
    from residual.runs.folder import runs_root
    from residual.studies.claims_page import claims_page
    from residual.studies.markdown import is_report
    from residual.studies.markdown import markdown as as_markdown
    from residual.studies.plans import trainer
    from residual.studies.reproduce import reproduce as judge_all
    from residual.training.progress import Listener

    page = Path(out).expanduser() if out is not None else runs_root() / "claims.html"
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"no page format {page.suffix or '(none)'!r}", page, "end the name in .html")
    if out is not None:
        mind_places([page], "--out", is_ours)
    if markdown is not None:
        mind_places([Path(markdown).expanduser()], "--markdown", is_report)

    def tell(check: str) -> None:
        if not json and sys.stderr.isatty():
            print(f"checking {check}", file=sys.stderr, flush=True)

    def listener(arm: str, seed: int) -> Listener:
        print(printable(f"{arm}, seed {seed}"), file=sys.stderr if json else None, flush=True)
        return telling("auto", json)

    files = [Path(name).expanduser() for name in evidence or []]
    more = trainer(budget, data, listener)
    made = judge_all(claims or (), budget=budget, evidence=files, more=more, tell=tell)
    replace_file(page, claims_page(made))
    if markdown is not None:
        replace_file(Path(markdown).expanduser(), as_markdown(made).encode())
    if json:
        print(json_.dumps(made.as_dict() | {"page": str(page)}, allow_nan=False))
        return 0
    _say(made)
    print(printable(f"page     {page}"))
    if markdown is not None:
        print(printable(f"markdown {markdown}"))
    return 0


def _say(made: Reproduction) -> None:
    from rich.table import Table
    from rich.text import Text

    from residual.cli.words import console
    from residual.studies import wording
    from residual.studies.verdicts import tally

    title = f"{wording.TITLE} (budget {made.budget})"
    table = Table(title=Text(title), title_justify="left")
    for column in ("id", "claim", "verdict", "figures, and what must be added"):
        table.add_column(column, overflow="fold")
    for one in made.judgements:
        beside = "; ".join(wording.figures(one, 3))
        words = " ".join(part for part in (f"{beside}." if beside else "", *wording.explained(one)) if part)
        cells = (one.claim.id, one.claim.text, one.verdict, words)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(table)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in tally(made.judgements).items() if count)
    print(printable(f"verdicts {counts}"))
    for note in wording.notes(made):
        print(printable(f"note     {note}"))
