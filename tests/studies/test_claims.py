"""The registry: whole, judged by studies that exist, with the right statement where a seed is wrong."""

from __future__ import annotations

import csv
import re
from collections import Counter

import pytest

from residual.errors import UsageError
from residual.studies.claims import DOCUMENT, Claim, registry
from residual.studies.conditions import look_up
from residual.studies.departures import figures_of
from residual.studies.reproduce import reproduce
from residual.studies.table import CHECKS, DEFINITIONS, TRAINED, WAYS
from tests.conftest import ROOT, shared_folder

CLAIMS = registry().claims
READ_AGAIN = {"B24", "B31", "M08", "M21", "M26", "M27"}
"""Whose words stand in other lines of the seed than the list has."""


def test_ids_are_single_and_seeds_known():
    assert not [name for name, count in Counter(claim.id for claim in CLAIMS).items() if count > 1]
    assert {claim.seed for claim in CLAIMS} == set(registry().seeds)
    assert all(re.fullmatch(r"\d+(-\d+)?(,\d+)*", claim.lines) for claim in CLAIMS)


@pytest.mark.shared
def test_every_claim_of_the_list_is_in_the_registry_where_the_list_has_it():
    shared = shared_folder()
    if shared is None:
        pytest.skip("the research data is not here: set RESIDUAL_SHARED")
    with (shared / "claims.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    own = {claim.id: claim for claim in CLAIMS}
    assert set(own) - set(rows) == {"A22", "A23", "A24", "B36", "E27", "E28", "H12", "H13", "H14", "M28"}
    assert set(rows) <= set(own)
    for name, row in rows.items():
        assert own[name].seed == row["seed"].split("_")[0], name
        assert (own[name].lines == row["lines"]) is (name not in READ_AGAIN), name
        if row["reading"] == "error":
            assert own[name].right, f"{name} is wrong in the seed and has no right statement"
        if row["needs"] == "N" and row["reading"] == "true":
            assert own[name].study in CHECKS, f"{name} needs no data and no check judges it"


def test_every_claim_is_judged_by_a_study_and_every_check_judges_a_claim():
    studies = {claim.study for claim in CLAIMS} - {DOCUMENT}
    assert studies <= set(DEFINITIONS)
    assert set(CHECKS) <= studies
    assert set(WAYS) == set(DEFINITIONS) == {*CHECKS, *TRAINED}


def test_contradictions_are_of_claims_that_exist():
    known = {claim.id for claim in CLAIMS}
    assert len(registry().contradictions) >= 10
    assert all(known.issuperset(one.claims) and one.claims for one in registry().contradictions)


def test_claims_are_found_by_id_and_by_pattern():
    assert [claim.id for claim in registry().find(["e13", "A19-20"])] == ["E13", "A19-20"]
    assert len(registry().find(["E*"])) == 28
    assert registry().find([]) == CLAIMS
    with pytest.raises(UsageError, match="no claim has the id 'E99'"):
        registry().find(["E13", "E99"])


BASE = {"id": "X1", "seed": "000", "lines": "1", "text": "t", "needs": "nothing", "study": "counts"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"study": DOCUMENT},
        {"study": DOCUMENT, "documented": "wrong"},
        {"confirmed": "a == 1", "right_if": "a == 2"},
        {"confirmed": "a == 1", "documented": "wrong", "right": "r", "source": "s"},
        {"confirmed": "a = 1"},
        {"confirmed": "a == 1", "unknown": 1},
        {"confirmed": "a == 1", "also": "said"},
        {"confirmed": "a == 1", "also_if": "a == 1"},
    ],
)
def test_an_incomplete_claim_is_refused(fields):
    with pytest.raises(ValueError, match=r"X1|no condition|Extra"):
        Claim.model_validate(BASE | fields)


def test_the_registry_is_the_projects_own():
    text = (ROOT / "src" / "residual" / "studies" / "claims.toml").read_text(encoding="utf-8")
    assert "shared" not in text


def test_campaigns_that_claims_name_exist():
    from campaigns.__main__ import CAMPAIGNS

    ways = [way.command for way in WAYS.values()] + [claim.command for claim in CLAIMS]
    named = {found for way in ways for found in re.findall(r"make campaign ([\w-]+)", way)}
    assert named <= set(CAMPAIGNS), named - set(CAMPAIGNS)


def test_figures_that_are_shown_or_have_words_of_their_own_are_those_of_a_study():
    """A misspelt path would be passed over in silence: whatever is named there stands in a stored or computed file."""
    made = reproduce()
    own = {one.claim.id: one for one in made.judgements}
    for claim in CLAIMS:
        wanted = [*claim.shown.split(), *(claim.also_if.paths() if claim.also_if else ())]
        found = own[claim.id]
        if not wanted or found.evidence is None:
            continue
        measured = figures_of(found.evidence)
        assert all(isinstance(look_up(path, measured), int | float) for path in wanted), claim.id
    assert own["E09"].figures["resnet-56.training_error.mean"] > own["E09"].figures["resnet-20.training_error.mean"]
    assert registry().find(["E09"])[0].also in own["E09"].caveats
    assert own["M19"].figures["against_original.full-pre-activation.mean"] > 0
