"""`reproduce`: what needs no data is computed, everything else is judged by result files; one verdict a claim."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from residual.files import Facts
from residual.studies.claims import Contradiction, Registry, registry
from residual.studies.departures import strongest
from residual.studies.evidence import Budget, Evidence, gather
from residual.studies.papers import Printed, Row, beside
from residual.studies.pictures import FIGURES
from residual.studies.pooling import pooled
from residual.studies.table import CHECKS, DEFINITIONS, WAYS, checked
from residual.studies.verdicts import Judgement, judge, tally
from residual.version import VERSION

LABELS: Mapping[Budget, str] = {
    "smoke": "smoke: computed for this (`computed now`, `smoke`) is only what needs no data and takes seconds; all "
    "else is judged by stored result files, `cpu` or `gpu` after what trained them",
    "cpu": "cpu: studies without figures of that budget were trained now",
    "gpu": "gpu: studies without figures of that budget were trained now",
}


@dataclass(frozen=True)
class Reproduction:
    """The verdicts, the evidence they rest on, the files that were refused with the reasons, and seconds."""

    budget: Budget
    registry: Registry
    judgements: tuple[Judgement, ...]
    evidence: tuple[Evidence, ...]
    refused: Mapping[str, str]
    seconds: float

    @property
    def label(self) -> str:
        return LABELS[self.budget]

    @property
    def contradictions(self) -> tuple[Contradiction, ...]:
        """Where seeds contradict each other, among the claims that were asked for."""
        asked = {one.claim.id for one in self.judgements}
        return tuple(one for one in self.registry.contradictions if asked.issuperset(one.claims))

    def _shown(self) -> list[Evidence]:
        """The evidence that is no check: of all studies, or where only some claims were asked for, of theirs."""
        asked = {one.claim.study for one in self.judgements}
        whole = len(self.judgements) == len(self.registry.claims)
        return [one for one in self.evidence if one.study not in CHECKS and (whole or one.study in asked)]

    def used(self) -> list[Evidence]:
        """The result files that a verdict, a row of the papers' tables or a figure rests on, which each study's
        strongest gives: studies of which no claim speaks have tables and figures too."""
        found = [one.evidence for one in self.judgements if one.evidence is not None]
        found += [row.evidence for _, rows in self.papers() for row in rows if row.evidence is not None]
        for study in FIGURES:  # of a study the strongest, and those that have other networks
            shown: set[str] = set()
            for number, one in enumerate(strongest(self._shown(), study)):
                if number == 0 or (one.recipes and shown.isdisjoint(one.recipes)):
                    found.append(one)
                    shown |= {*one.recipes}
        return list({id(one): one for one in found if one.study not in CHECKS}.values())

    def papers(self) -> list[tuple[Printed, list[Row]]]:
        """The papers' tables of which some arm was measured, ours beside theirs."""
        return list(beside(self._shown()))

    def as_dict(self) -> Facts:
        return {
            "format": 1,
            "kind": "claims",
            "residual": VERSION,
            "budget": self.budget,
            "label": self.label,
            "seconds": round(self.seconds, 1),
            "verdicts": tally(self.judgements),
            "claims": [one.as_dict() for one in self.judgements],
            "contradictions": [{"claims": list(one.claims), "words": one.words} for one in self.contradictions],
            "refused": dict(self.refused),
        }


def reproduce(
    claims: Sequence[str] = (),
    *,
    budget: Budget = "smoke",
    evidence: Sequence[Path] = (),
    shipped: bool = True,
    more: Callable[[Sequence[str], Sequence[Evidence]], Sequence[Evidence]] = lambda studies, found: (),
    tell: Callable[[str], None] = lambda check: None,
) -> Reproduction:
    """Judge claims.

    Args:
        claims: their ids, `E*` for several; without any, all.
        evidence: result files, or folders of them, beside those in the package.
        shipped: whether those in the package count.
        more: given the studies that the claims need and the evidence there is, trains what the budget allows.
        tell: told of every check before it is made.

    Raises:
        UsageError: no such claim or file.  Refused: a file that was named is no evidence.
    """
    began = time.monotonic()
    known = registry()
    wanted = known.find(claims)
    studies = list(dict.fromkeys(claim.study for claim in wanted))
    stored, refused = gather(evidence, DEFINITIONS, shipped)
    found = list(stored)
    for name in studies:
        if name in CHECKS:
            tell(name)
            # A stored file of a check is somebody's word for what is computed here; what is computed counts.
            found = [one for one in found if one.study != name]
            found.append(checked(name, time.monotonic))
    found += more(studies, pooled(found))
    found = pooled(found)
    judgements = tuple(judge(claim, found, WAYS) for claim in wanted)
    return Reproduction(budget, known, judgements, tuple(found), refused, time.monotonic() - began)
