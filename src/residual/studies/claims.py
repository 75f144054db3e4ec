"""The registry of claims: what the five seeds say, and what counts as confirmed.

The table is `claims.toml` beside this file. A claim names the study whose figures judge it and a condition on them;
`right_if` is the condition of the right statement where the seed's is wrong. A claim of the study `document` is about
what a source says: `documented` is its verdict, and nothing is measured. Why so: docs/decisions/0010.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from residual.errors import UsageError, nearest
from residual.studies.conditions import Condition, parse

Needs = Literal["nothing", "cifar-10", "cifar-100", "tiny-imagenet", "imagenet", "literature"]
Status = Literal["confirmed", "caveat", "wrong", "unmeasured"]
DOCUMENT: Final = "document"

_Condition = Annotated[Condition, BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)]


class Claim(BaseModel):
    """One claim. `caveat` says what must be added to it, `also` what where the figures meet `also_if`; `shown` names
    figures, between blanks, that stand beside the verdict and do not decide it. `right` and `source` say how the claim
    should read, and who says so; `command` and `cost` how it would be measured, where that is not as for the rest of
    its study."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    id: str
    seed: str
    lines: str
    text: str
    needs: Needs
    study: str
    confirmed: _Condition | None = None
    right_if: _Condition | None = None
    documented: Status | None = None
    caveat: str = ""
    also: str = ""
    also_if: _Condition | None = None
    shown: str = ""
    right: str = ""
    source: str = ""
    command: str = ""
    cost: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        if (self.study == DOCUMENT) != (self.documented is not None) or (
            (self.study == DOCUMENT) == (self.confirmed is not None)
        ):
            raise ValueError(f"{self.id}: a claim has a condition, or a verdict that stands in a document")
        if (self.right_if is not None or self.documented == "wrong") and not (self.right and self.source):
            raise ValueError(f"{self.id}: a claim that is wrong needs the right statement and its source")
        if bool(self.also) != (self.also_if is not None):
            raise ValueError(f"{self.id}: what is also said needs its condition, and the condition its words")
        return self


@dataclass(frozen=True)
class Contradiction:
    """Claims that contradict each other, or one that contradicts itself, in words, and which of them is right."""

    claims: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Registry:
    """The seeds by number with what they are, the papers by mark, all claims in their order, and where they contradict
    each other or themselves."""

    seeds: Mapping[str, str]
    references: Mapping[str, str]
    claims: tuple[Claim, ...]
    contradictions: tuple[Contradiction, ...]

    def find(self, ids: Sequence[str]) -> tuple[Claim, ...]:
        """The claims of these ids, or all of them where none is named; `E*` names several.

        Raises:
            UsageError: there is no such claim.
        """
        if not ids:
            return self.claims
        known = {claim.id: claim for claim in self.claims}
        found: dict[str, Claim] = {}
        for wanted in (name.strip().upper() for text in ids for name in text.split(",")):
            fitting = [name for name in known if fnmatchcase(name, wanted)]
            if not fitting:
                remedy = nearest(wanted, [*known])
                raise UsageError(f"no claim has the id {wanted[:40]!r}", "--claims", remedy)
            found |= {name: known[name] for name in fitting}
        return tuple(found.values())


@cache
def registry() -> Registry:
    """The registry as it is shipped."""
    table = tomllib.loads(files("residual.studies").joinpath("claims.toml").read_text(encoding="utf-8"))
    claims = tuple(Claim.model_validate(entry) for entry in table["claim"])
    against = tuple(Contradiction(tuple(entry["claims"]), entry["words"]) for entry in table["contradiction"])
    return Registry(table["seeds"], table["references"], claims, against)
