"""The report on the claims as Markdown: the same verdicts, without the figures that are drawn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from residual.studies import wording
from residual.studies.papers import place
from residual.studies.reproduce import Reproduction
from residual.studies.verdicts import Judgement, tally


def is_report(path: Path) -> bool:
    """Whether a file is such a document."""
    try:
        with open(path, "rb") as stream:
            return stream.readline(1000).strip() == f"# {wording.TITLE}".encode()
    except OSError:
        return False


def markdown(made: Reproduction) -> str:
    """The document; the same verdicts and files give the same text."""
    found = made.registry
    lines = [
        f"# {wording.TITLE}",
        "",
        "Written by `residual reproduce --markdown docs/claims.md`. Each claim has a verdict, the figures it rests",
        "on and where they come from. What counts as confirmed was decided before measuring, but for A06, A20-20,",
        "A23, B06, B12 and E07, whose caveats say what was changed, and for E27, E28, B36, H13, H14 and M28, which",
        "were added when figures of their studies existed: H14 has the rule of B05, M28 those of E19 and E20; E28 and",
        "H13 have one part of B04's, which was known to hold, where B04 as a whole is not confirmed; E27 has another",
        "part of it, and E10's with 1e-4 for 1e-6, since the network is trained; B36 has one of its own. What counts",
        "stands under Rules, as in `src/residual/studies/claims.toml`.",
        "",
        *(f"- {note}" for note in (*wording.MEANING, *wording.notes(made))),
        "",
        "| verdict | claims |",
        "|---|---|",
        *(f"| {verdict} | {count} |" for verdict, count in tally(made.judgements).items()),
        "",
    ]
    for number, title in found.seeds.items():
        own = [one for one in made.judgements if one.claim.seed == number]
        if own:
            lines += [f"## Seed {number}: {title}", "", *_table(own), ""]
    if made.contradictions:
        lines += ["## Seeds against seeds", "", "| claims | what they say, and which is right |", "|---|---|"]
        lines += [f"| {', '.join(one.claims)} | {_cell(one.words)} |" for one in made.contradictions]
        lines.append("")
    for table, rows in made.papers():
        lines += [f"## Beside the papers: {table.title}", "", f"{wording.printed_as(table, rows)}.", ""]
        lines += [f"| {' | '.join(wording.PAPERS)} |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(map(_cell, wording.cells(row)))} |" for row in rows]
        lines.append("")
    if made.used():
        lines += ["## Result files", ""]
        for one in made.used():
            lines += [f"### {place(one)}", "", *(f"- {name}: {_cell(words)}" for name, words in wording.facts(one)), ""]
    lines += ["## Rules", "", *_rules(made.judgements), ""]
    lines += ["## References", "", *(f"- {mark} {title}" for mark, title in found.references.items()), ""]
    return "\n".join(lines)


def _table(judgements: Iterable[Judgement]) -> Iterable[str]:
    yield "| id | lines | claim | verdict | figures, and what must be added | from |"
    yield "|---|---|---|---|---|---|"
    for one in judgements:
        beside = "; ".join(wording.figures(one))
        words = ". ".join(part for part in (f"`{beside}`" if beside else "", " ".join(wording.explained(one))) if part)
        cells = (one.claim.id, one.claim.lines, one.claim.text, one.verdict, words, wording.origin(one))
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _rules(judgements: Iterable[Judgement]) -> Iterable[str]:
    """The conditions by claim; a statement about a document has none."""
    yield "| claim | what counts |"
    yield "|---|---|"
    for one in judgements:
        if words := "; ".join(f"{words} `{condition}`" for words, condition in wording.rules(one)):
            yield f"| {one.claim.id} | {_cell(words)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
