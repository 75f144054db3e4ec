"""The report on the claims as one HTML file, in the style of a run's report: it loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence

from residual.analysis.elements import Column, Html, join, table, tag, terms
from residual.analysis.page import document
from residual.studies import wording
from residual.studies.papers import place
from residual.studies.pictures import pictures
from residual.studies.reproduce import Reproduction
from residual.studies.verdicts import Judgement, tally
from residual.version import VERSION

_COLUMNS = (
    Column("id"),
    Column("lines"),
    Column("claim"),
    Column("verdict"),
    Column("figures, and what must be added"),
    Column("from"),
)


def claims_page(made: Reproduction) -> bytes:
    """The HTML file, UTF-8; the same verdicts and files give the same bytes."""
    anchors = [("notes", "What this report is"), *((f"seed-{n}", f"Seed {n}") for n in made.registry.seeds)]
    papers = _papers(made)
    anchors += [("contradictions", "Seeds against seeds"), *([("papers", "Beside the papers")] if papers else [])]
    anchors += [("figures", "Figures"), ("files", "Result files")]
    links = (tag("li", tag("a", words, href=f"#{name}")) for name, words in anchors)
    lead = f"{len(made.judgements)} claims, each with a verdict, its figures and where they come from"
    head = tag(
        "header",
        tag("p", "Claims", class_="eyebrow"),
        tag("h1", wording.TITLE, tag("span", f"budget {made.budget}", class_="state open")),
        tag("p", lead, class_="lead"),
        tag("nav", tag("ul", *links), aria_label="Contents"),
    )
    body = tag(
        "main",
        _cards(made),
        _notes(made),
        *_seeds(made),
        *_contradictions(made),
        *papers,
        *_figures(made),
        *_files(made),
    )
    foot = tag("footer", f"Made by residual {VERSION} (residual reproduce). This file loads nothing from elsewhere.")
    return document(wording.TITLE, [head, body, foot])


def _cards(made: Reproduction) -> Html:
    """How often each verdict was given."""
    whole = f"of {len(made.judgements)} claims"
    cards = (
        tag(
            "div",
            tag("dt", verdict),
            tag("dd", str(count)),
            tag("dd", whole, class_="how"),
        )
        for verdict, count in tally(made.judgements).items()
    )
    return tag("dl", *cards, class_="cards")


def _notes(made: Reproduction) -> Html:
    lines = (tag("li", _code(note)) for note in (*wording.MEANING, *wording.notes(made)))
    return tag("div", tag("p", "What this report is"), tag("ul", *lines), class_="notes", role="note", id="notes")


def _seeds(made: Reproduction) -> list[Html]:
    parts = []
    for number, title in made.registry.seeds.items():
        own = [one for one in made.judgements if one.claim.seed == number]
        if own:
            parts.append(tag("h2", f"Seed {number}", id=f"seed-{number}"))
            parts.append(table(title, _COLUMNS, [_row(one) for one in own], kind="claims"))
    return parts


def _row(one: Judgement) -> Sequence[str]:
    beside = [tag("div", tag("code", text)) for text in wording.figures(one)]
    words = [tag("div", _code(text)) for text in wording.explained(one)]
    rules = [tag("div", _code(words), " ", tag("code", condition)) for words, condition in wording.rules(one)]
    rule = [tag("details", tag("summary", "rule"), *rules)] if rules else []
    cell = join([*beside, *words, *rule])
    return (one.claim.id, one.claim.lines, one.claim.text, tag("b", one.verdict), cell, wording.origin(one))


def _contradictions(made: Reproduction) -> list[Html]:
    head = tag("h2", "Seeds against seeds", id="contradictions")
    if not made.contradictions:
        return [head, tag("p", "None among these claims.")]
    rows = [(", ".join(one.claims), one.words) for one in made.contradictions]
    columns = (Column("claims"), Column("what they say, and which is right"))
    return [head, table("Where seeds contradict each other, or themselves", columns, rows)]


def _code(text: str) -> Html:
    """The text, what stands between backticks as code."""
    parts = text.split("`")
    return join(tag("code", part) if place % 2 else part for place, part in enumerate(parts))


def _papers(made: Reproduction) -> list[Html]:
    """The papers' tables with ours beside them."""
    columns = [Column(name, numeric=name not in ("arm", "trained here", "from")) for name in wording.PAPERS]
    parts = [
        table(f"{one.title}: {wording.printed_as(one, rows)}", columns, map(wording.cells, rows))
        for one, rows in made.papers()
    ]
    return [tag("h2", "Beside the papers", id="papers"), *parts] if parts else []


def _figures(made: Reproduction) -> list[Html]:
    drawn = list(pictures(made.used()))
    head = tag("h2", "Figures", id="figures")
    if not drawn:
        return [head, tag("p", "No result file with points to draw is among them yet.")]
    return [head, tag("div", *drawn, class_="plots")]


def _files(made: Reproduction) -> list[Html]:
    parts = [tag("h2", "Result files", id="files")]
    for one in made.used():
        parts += [tag("h3", place(one)), terms(wording.facts(one))]
    if len(parts) == 1:
        parts.append(tag("p", "No result file is among them."))
    references = (tag("li", f"{mark} {title}") for mark, title in made.registry.references.items())
    return [*parts, tag("h2", "References", id="references"), tag("ul", *references)]
