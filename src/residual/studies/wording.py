"""A verdict in words, the same in a terminal, on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from residual.analysis.elements import plural
from residual.studies.conditions import Value
from residual.studies.evidence import Evidence
from residual.studies.papers import Row
from residual.studies.reproduce import Reproduction
from residual.studies.verdicts import Judgement

TITLE = "The claims of five documents, measured"
TINY = 1e-9


def value(number: Value) -> str:
    """A figure, whole numbers with commas; a rounding error is told from an exact zero, and not printed."""
    if isinstance(number, bool):
        return "yes" if number else "no"
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    if abs(number) < TINY:
        return "below 1e-9"
    return f"{number:.4g}"


def figures(one: Judgement, most: int = 6) -> list[str]:
    """The figures a verdict rests on: `plain-20.layers 20`."""
    shown = [f"{path} {value(number)}" for path, number in one.figures.items()]
    return shown[:most] + ([f"and {len(shown) - most} more"] if len(shown) > most else [])


def explained(one: Judgement) -> list[str]:
    """What stands beside the figures: the right statement, what must be added, or why nothing was measured."""
    lines = []
    if one.verdict == "wrong in the seed":
        lines.append(f"Right: {one.claim.right} ({one.claim.source})")
    lines += [_sentence(text) for text in one.caveats]
    if one.verdict == "not measured":
        lines.append(_sentence(one.why))
        if one.way is not None:
            lines.append(f"To measure it: `{one.way.command}` ({one.way.cost}).")
    return lines


def _sentence(text: str) -> str:
    first = text[:1] if text[1:2] == "_" else text[:1].upper()  # a symbol such as n_l stays as it is
    return first + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def origin(one: Judgement) -> str:
    """Where the figures come from."""
    if one.evidence is None:
        return "a document" if one.claim.documented not in (None, "unmeasured") else "-"
    found = one.evidence
    if found.source == "computed now":
        return f"{found.study}, computed now (smoke)"
    seeds = f", seeds {', '.join(map(str, found.seeds))}" if found.seeds else ""
    return f"{found.source} ({found.budget}{seeds})"


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """An arm, the paper's error, ours, how long ours was trained over how many seeds, and its file."""
    paper = "" if row.paper is None else f"{row.paper:.2f} %"
    if row.mean is None:
        return row.arm, paper, "not measured", "", ""
    ours = f"{row.mean:.2f}" + (f" ± {row.std:.2f}" if row.std is not None else "") + " %"
    return row.arm, paper, ours, f"{row.steps:,} iterations, {plural(row.seeds, 'seed', 'seeds')}", row.source


def notes(made: Reproduction) -> list[str]:
    """What a reader must know of the whole: the budget, refused files, files of another release."""
    lines = [_sentence(f"budget {made.label}")]
    lines += [f"Refused: {name}: {reason}." for name, reason in made.refused.items()]
    lines += [_sentence(f"{one.source} was {one.version_note}") for one in made.evidence if one.version_note]
    return lines


def facts(one: Evidence) -> list[tuple[str, str]]:
    """The provenance of a result file, as names and values."""
    made_by = [f"{name} {version}" for name, version in one.versions.items()]
    recipes = [f"{arm}: {facts.name}, {facts.sha256[:12]}" for arm, facts in one.recipes.items()]
    rows: Sequence[tuple[str, str]] = (
        ("study", f"{one.study}, definition {one.definition[:12]}"),
        ("command", one.command),
        ("budget", one.budget),
        ("commit", one.commit or "-"),
        ("date", one.date),
        ("seconds", f"{one.seconds:,.0f}"),
        ("seeds", ", ".join(map(str, one.seeds)) or "-"),
        ("recipes", "; ".join(recipes) or "-"),
        ("settings", "; ".join(f"{name}={setting}" for name, setting in one.settings.items()) or "-"),
        ("data", f"{one.data.get('name', '-')}, {len(one.data.get('checksums', {}))} files by SHA-256"),
        ("device", ", ".join(f"{name} {found}" for name, found in one.device.items()) or "-"),
        ("machine", ", ".join(str(found) for found in one.machine.values())),
        ("versions", ", ".join(made_by)),
    )
    return [(name, words) for name, words in rows if words]
