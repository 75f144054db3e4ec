"""A verdict in words, the same in a terminal, on the page and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from residual.studies.conditions import Value
from residual.studies.evidence import Evidence
from residual.studies.papers import Printed, Row, changes, filters, place, trained
from residual.studies.reproduce import Reproduction
from residual.studies.verdicts import Judgement

_NAMED = {"[1]": "He et al. 2015", "[2]": "He et al. 2016", "[3]": "He et al. 2015 (rectifiers)"}
TITLE = "The claims of five documents, measured"
TINY = (1e-12, 1e-9)
MEANING: Final = (
    "Confirmed: the condition holds on our figures; with a caveat where something must be said beside it.",
    "Wrong in the seed: the papers, or our figures, say otherwise, and what is right stands there.",
    "Not confirmed: the condition does not hold, which on runs shorter than the papers' does not refute the claim.",
    "Not measured: nothing here judges it; `as printed in` says that the seed quotes its source rightly.",
    "Seeds 000 to 004 are the five documents; seeds of result files, as `--seed` has them, are numbers from which the "
    "chance of a training follows. `--protocol final` trained on all images, `tune` held a tenth out; 1-crop and "
    "10-crop are views of an evaluation.",
    "`at_64000` in a figure: of networks trained for the papers' 64,000 iterations, with their recipe unchanged.",
)
"""What the verdicts are."""


def value(number: Value) -> str:
    """A figure, whole numbers with commas; a rounding error is told from an exact zero, and not printed."""
    if isinstance(number, bool):
        return "yes" if number else "no"
    if number == int(number) and abs(number) < 1e15:
        return f"{int(number):,}"
    for least in TINY:  # the limits that rules have; which of them holds is the same on every machine
        if abs(number) < least:
            return f"below {least:g}"
    return f"{number:.4g}"


def cited(text: str) -> str:
    """The text with the papers by name, for a reader who has no list of references before them."""
    for mark, name in _NAMED.items():
        text = text.replace(mark, name)
    return text


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
    printed = one.claim.documented == "unmeasured" and one.claim.source in one.claim.caveat
    if one.claim.source and not printed and one.verdict != "wrong in the seed":
        lines.append(f"Source: {one.claim.source}.")
    if one.verdict == "not measured":
        lines.append(_sentence(one.why))
        if one.way is not None:
            cost = f" ({one.way.cost})" if one.way.cost else ""
            lines.append(f"To measure it: `{one.way.command}`{cost}.")
    return lines


def rules(one: Judgement) -> list[tuple[str, str]]:
    """What confirms the claim, and what shows that the seed is wrong."""
    found = (("confirmed if", one.claim.confirmed), ("else wrong in the seed if", one.claim.right_if))
    return [(words, condition.text) for words, condition in found if condition is not None]


def _sentence(text: str) -> str:
    """With a capital and a full stop; a symbol such as n_l, or the name of a file, stays as it is."""
    first = text.partition(" ")[0].rstrip(".,:;!?")
    begun = text if "_" in first or "." in first else text[:1].upper() + text[1:]
    return begun + ("" if text.endswith((".", "!", "?")) else ".")


def seeds(one: Evidence) -> str:
    """`seed 0`, `seeds 0, 1`, or nothing."""
    numbers = ", ".join(map(str, one.seeds))
    return f"seed{'' if len(one.seeds) == 1 else 's'} {numbers}" if numbers else ""


def origin(one: Judgement) -> str:
    """Where the figures come from."""
    if one.evidence is None:
        return "a document" if one.claim.documented not in (None, "unmeasured") else "-"
    found = one.evidence
    return f"{place(found)} ({', '.join(filter(None, (found.budget, seeds(found))))})"


PAPERS: Final = ("arm", "the paper", "here, mean ± deviation", "trained here", "from")
"""The columns beside the papers."""


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """An arm, the paper's error, ours, what was trained here how long over how many seeds, and its file."""
    paper = row.paper or ""
    if isinstance(paper, float):
        paper = f"{paper:.2f} %"
    if row.mean is None or row.evidence is None:
        return row.arm, paper, "not measured", "", ""
    ours = f"{row.mean:.2f}" + (f" ± {row.std:.2f}" if row.std is not None else "") + " %"
    networks = row.network + filters(row.evidence, [row.arm]) + changes(row.evidence, row.arm)
    return row.arm, paper, ours, trained(row.evidence, networks, [row.steps], row.seeds), place(row.evidence)


def printed_as(table: Printed, rows: Sequence[Row]) -> str:
    """Where a paper's table stands and what it is of, and where the networks here are others."""
    images = f" of {table.batch} images" if table.batch != 128 else ""
    there = f"{table.source}; {table.length:,} iterations{images}"
    others = dict.fromkeys(row.network for row in rows if row.network and row.network != table.network)
    if table.network and others:
        there += f". Trained here: {'; '.join(others)}, where the paper has {table.network}"
    return there


def notes(made: Reproduction) -> list[str]:
    """What a reader must know of the whole: the budget, refused files, files of another release."""
    lines = [_sentence(f"budget {made.label}")]
    lines += [f"Refused: {name}: {reason}." for name, reason in made.refused.items()]
    lines += [_sentence(f"{one.source} was {one.version_note}") for one in made.evidence if one.version_note]
    return lines


def _pairs(changes: Mapping[str, object]) -> str:
    return ", ".join(f"{path}={to}" for path, to in changes.items())


def facts(one: Evidence) -> list[tuple[str, str]]:
    """The provenance of a result file, as names and values."""
    made_by = [f"{name} {version}" for name, version in one.versions.items()]
    recipes = [f"{arm}: {facts.name}, {facts.sha256[:12]}" for arm, facts in one.recipes.items()]
    changes = [facts.changed for facts in one.recipes.values()]
    common = (
        {path: to for path, to in changes[0].items() if all(other.get(path) == to for other in changes)}
        if changes
        else {}
    )
    besides = {arm: {p: to for p, to in facts.changed.items() if p not in common} for arm, facts in one.recipes.items()}
    rows: Sequence[tuple[str, str]] = (
        ("study", f"{one.study}, definition {one.definition[:12]}"),
        ("command", one.command),
        ("budget", one.budget),
        ("commit", one.commit or "-"),
        ("commit, machine and versions", f"those of {one.of}"),
        ("date", one.date),
        ("seconds", f"{one.seconds:,.0f}"),
        ("seed" if len(one.seeds) == 1 else "seeds", ", ".join(map(str, one.seeds)) or "-"),
        ("recipes", "; ".join(recipes) or "-"),
        ("changed in all", _pairs(common)),
        ("changed besides", "; ".join(f"{arm}: {_pairs(own)}" for arm, own in besides.items() if own)),
        ("settings", "; ".join(f"{name}={setting}" for name, setting in one.settings.items()) or "-"),
        ("data", f"{one.data.get('name', '-')}, {len(one.data.get('checksums', {}))} files by SHA-256"),
        ("device", ", ".join(f"{name} {found}" for name, found in one.device.items()) or "-"),
        ("machine", ", ".join(str(found) for found in one.machine.values())),
        ("versions", ", ".join(made_by)),
    )
    return [(name, words) for name, words in rows if words]
