"""From a claim and evidence to a verdict: pure functions, so that one more result file changes what it must change.

A claim is confirmed where its condition holds on the figures of its study, and confirmed with a caveat where something
must be added: by the registry (what the seed leaves out) or by the evidence (few seeds, a shorter schedule). Where the
condition fails, the seed is wrong if the right statement's own condition holds, else the claim is not confirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from residual.files import Facts
from residual.studies.claims import DOCUMENT, Claim
from residual.studies.conditions import Absent, Comparison, Condition, Value, look_up
from residual.studies.departures import FULL_LENGTH, departed, figures_of, strongest, warmed
from residual.studies.evidence import Evidence

Verdict = Literal["confirmed", "confirmed with a caveat", "not confirmed", "wrong in the seed", "not measured"]
VERDICTS: tuple[Verdict, ...] = (
    "confirmed",
    "confirmed with a caveat",
    "wrong in the seed",
    "not confirmed",
    "not measured",
)
_DOCUMENTED: Mapping[str, Verdict] = {
    "confirmed": "confirmed",
    "caveat": "confirmed with a caveat",
    "wrong": "wrong in the seed",
    "unmeasured": "not measured",
}


@dataclass(frozen=True)
class Way:
    """How a study's figures would be had: the command, and what it costs in words."""

    command: str
    cost: str


@dataclass(frozen=True)
class Judgement:
    """The verdict on a claim: the figures it rests on, what must be added, the evidence, and why there is none."""

    claim: Claim
    verdict: Verdict
    figures: Mapping[str, Value]
    caveats: tuple[str, ...] = ()
    evidence: Evidence | None = None
    why: str = ""
    way: Way | None = None

    def as_dict(self) -> Facts:
        claim, evidence = self.claim, self.evidence
        return {
            "id": claim.id,
            "seed": claim.seed,
            "lines": claim.lines,
            "claim": claim.text,
            "study": claim.study,
            "confirmed_if": claim.confirmed.text if claim.confirmed else None,
            "right_if": claim.right_if.text if claim.right_if else None,
            "verdict": self.verdict,
            "figures": dict(self.figures),
            "caveats": list(self.caveats),
            "right": claim.right or None,
            "source": claim.source or None,
            "evidence": None
            if evidence is None
            else {
                "source": evidence.source,
                "budget": evidence.budget,
                "command": evidence.command,
                "seeds": list(evidence.seeds),
                "commit": evidence.commit,
                "date": evidence.date,
                "seconds": evidence.seconds,
                "device": dict(evidence.device),
                "versions": dict(evidence.versions),
                "data": dict(evidence.data),
                "recipes": {arm: facts.sha256 for arm, facts in evidence.recipes.items()},
                "version_note": evidence.version_note or None,
            },
            "why": self.why or None,
            "command": self.way.command if self.way else None,
            "cost": self.way.cost if self.way else None,
        }


def judge(claim: Claim, evidence: Iterable[Evidence], ways: Mapping[str, Way]) -> Judgement:
    """The verdict on a claim from the best evidence of its study that has the figures it asks for.

    Args:
        ways: by study, how its figures would be had.
    """
    caveats = (claim.caveat,) if claim.caveat else ()
    if claim.study == DOCUMENT:
        verdict = _DOCUMENTED[claim.documented or "unmeasured"]
        why = f"a statement about a source: {claim.source}" if verdict != "not measured" else _unmeasured(claim)
        return Judgement(claim, verdict, {}, caveats, why=why, way=_own_way(claim))
    missing: list[str] = []
    untrained: dict[str, None] = {}
    for one in strongest(evidence, claim.study):
        try:
            return _measured(claim, one, ways.get(claim.study), tuple(untrained))
        except Absent as error:
            missing.append(f"no figure {error.path} in {one.source}")
            untrained |= dict.fromkeys(_did_not_train(one, error.path))
    why = missing[0] if missing else f"there is no result file of the study {claim.study}"
    return Judgement(claim, "not measured", {}, caveats, why=why, way=_own_way(claim) or ways.get(claim.study))


def _own_way(claim: Claim) -> Way | None:
    """How the registry says that this claim would be measured."""
    return Way(claim.command, claim.cost) if claim.command else None


def _unmeasured(claim: Claim) -> str:
    return {
        "imagenet": "it needs the images of ImageNet",
        "literature": "it speaks of a publication, and nothing here can measure such a statement",
    }.get(claim.needs, "nothing here measures it")


def _did_not_train(evidence: Evidence, path: str) -> Iterable[str]:
    """What a stronger file says of an arm that it has no figures of: weaker ones must not be quoted without it."""
    found = (text for text in evidence.caveats if text.startswith(f"{_arm(path)} did not train"))
    yield from (f"{evidence.source}: {text}" for text in found)


def _measured(claim: Claim, evidence: Evidence, way: Way | None, untrained: Sequence[str]) -> Judgement:
    """The verdict on figures; raises `Absent` where the evidence lacks one of them, or has them of other lengths."""
    if claim.confirmed is None:
        raise ValueError(f"{claim.id} has no condition")
    lengths = evidence.settings.get("lengths", {})
    if len({lengths[name] for path in claim.confirmed.paths() if (name := path.partition(".")[0]) in lengths}) > 1:
        raise Absent("networks of one length")
    measured = figures_of(evidence)
    figures = claim.confirmed.figures(measured)
    if claim.right_if is not None:
        figures |= claim.right_if.figures(measured)
    confirmed = claim.confirmed.holds(measured)
    chance = _chance(evidence, claim.confirmed) if confirmed else ()
    also, beside = _beside(claim, measured)
    figures |= {path: value for path, value in beside.items() if path not in figures}
    caveats = tuple(text for text in (claim.caveat, also, *added(evidence), *chance, *untrained) if text)
    if confirmed:
        verdict: Verdict = "confirmed with a caveat" if caveats else "confirmed"
    elif claim.right_if is not None and claim.right_if.holds(measured):
        verdict = "wrong in the seed"
    else:
        verdict = "not confirmed"
    return Judgement(claim, verdict, figures, caveats, evidence, way=way)


def _beside(claim: Claim, measured: Mapping[str, Any]) -> tuple[str, dict[str, Value]]:
    """What is to be said where the figures are so, and figures that are shown though they decide nothing."""
    figures: dict[str, Value] = {}
    for path in claim.shown.split():
        with suppress(Absent):
            figures[path] = look_up(path, measured)
    if claim.also_if is None:
        return "", figures
    try:
        holds = claim.also_if.holds(measured)
    except Absent:  # of networks that were not trained nothing is to be said
        return "", figures
    return (claim.also, figures | claim.also_if.figures(measured)) if holds else ("", figures)


def added(evidence: Evidence) -> Iterable[str]:
    """What evidence itself asks to be said beside a verdict."""
    yield from evidence.caveats
    yield from departed(evidence)
    yield from warmed(evidence)
    if len(evidence.seeds) == 1:
        yield "one seed"
    if evidence.budget == "smoke" and evidence.recipes:
        yield "smoke: far shorter than anything a verdict should rest on"


def _chance(evidence: Evidence, condition: Condition) -> Iterable[str]:
    """What one seed, or two, leave to chance where all of one arm's lie below all of another's."""
    if not any(_arms_apart(comparison) for comparison in condition.comparisons):
        return
    if len(evidence.seeds) == 1:
        yield "of two equal arms, one lies below the other in this order once in two"
    elif len(evidence.seeds) == 2:  # among 4 in any order
        yield "two seeds: of two equal arms, one lies wholly below the other in this order once in six at most"


def _arms_apart(comparison: Comparison) -> bool:
    """Whether the worst of one arm stands against the best of another."""
    ends = [{_arm(word) for word in side if _is_extreme(word)} for side in comparison.sides]
    return any(one and other and one != other for one, other in pairwise(ends))


def _arm(path: str) -> str:
    return path.removeprefix(f"{FULL_LENGTH}.").partition(".")[0]


def _is_extreme(path: str) -> bool:
    return path.rpartition(".")[2] in ("least", "most")


def tally(judgements: Sequence[Judgement]) -> dict[Verdict, int]:
    """How often each verdict was given."""
    counts = Counter(one.verdict for one in judgements)
    return {verdict: counts[verdict] for verdict in VERDICTS}
