"""`residual reproduce`: every claim that needs no data is really checked, and the report says all of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from residual.cli.main import run as command
from residual.studies.claims import registry
from residual.studies.claims_page import claims_page
from residual.studies.evidence import write
from residual.studies.markdown import markdown
from residual.studies.plans import trainer
from residual.studies.reproduce import reproduce
from residual.studies.table import CHECKS
from residual.studies.verdicts import VERDICTS, judge
from residual.studies.wording import cells, explained, facts, notes, origin, value
from tests.conftest import ROOT
from tests.studies.test_evidence import CLAIM, MEASURED, sample

CLAIMS = registry().claims
NO_DATA = [claim.id for claim in CLAIMS if claim.study in CHECKS]


@pytest.fixture(scope="module")
def whole():
    """All claims, once: some seconds."""
    return reproduce()


@pytest.fixture(scope="module")
def verdicts(whole):
    return {one.claim.id: one for one in whole.judgements}


def test_every_claim_has_a_verdict(whole):
    assert [one.claim.id for one in whole.judgements] == [claim.id for claim in CLAIMS]
    assert sum(whole.as_dict()["verdicts"].values()) == len(CLAIMS)


@pytest.mark.parametrize("name", NO_DATA)
def test_a_claim_that_needs_no_data_has_the_verdict_its_figures_give(verdicts, name):
    one = verdicts[name]
    assert one.verdict in ("confirmed", "confirmed with a caveat", "wrong in the seed")
    assert one.evidence is not None
    assert one.evidence.budget == "smoke"
    assert one.evidence.source == "computed now"
    assert one.figures
    expected = (
        "wrong in the seed" if one.claim.right_if else "confirmed with a caveat" if one.claim.caveat else "confirmed"
    )
    assert one.verdict == expected


def test_the_claims_that_are_wrong_are_told_with_the_right_statement(verdicts):
    wrong = {name for name, one in verdicts.items() if one.verdict == "wrong in the seed"}
    assert {"E14", "E19", "B19", "B24", "M04", "M07", "M09", "A09", "A17", "M26"} <= wrong
    assert all(verdicts[name].claim.right and verdicts[name].claim.source for name in wrong)


def test_what_is_not_measured_says_why_and_how_it_would_be(verdicts):
    for one in verdicts.values():
        if one.verdict == "not measured":
            assert one.why
            nowhere = one.claim.documented and one.claim.needs != "imagenet"
            assert nowhere or (one.way and one.way.command and one.way.cost)


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith(("#", "data:"))]
        assert tag != "script"

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_loads_nothing_and_has_every_claim_with_its_verdict(whole):
    page = Page()
    page.feed(claims_page(whole).decode())
    text = "".join(page.text)
    assert page.loads == []
    assert "budget smoke" in text
    for one in whole.judgements:
        assert one.claim.text in text
        assert one.claim.right == "" or one.verdict != "wrong in the seed" or one.claim.right.replace("`", "") in text
    assert all(verdict in text for verdict in VERDICTS)
    assert all(one.words in text for one in whole.contradictions)


def test_the_document_in_docs_is_that_of_this_release(whole):
    """By verdict: figures may differ in their last digits from one machine to the next."""

    def verdict_of_claims(text: str) -> dict[str, str]:
        rows = [line.split(" | ") for line in text.splitlines() if re.match(r"\| [A-Z]\d\d", line)]
        return {cells[0].removeprefix("| "): cells[3] for cells in rows if len(cells) == 6}

    stored = verdict_of_claims((ROOT / "docs" / "claims.md").read_text(encoding="utf-8"))
    assert stored == {one.claim.id: one.verdict for one in whole.judgements}, (
        "run `residual reproduce --markdown docs/claims.md`"
    )
    assert verdict_of_claims(markdown(whole)) == stored


def test_networks_that_no_claim_is_about_are_shown_too(whole):
    lesions = [one for one in whole.used() if one.study == "lesion"]
    assert [{*one.recipes} for one in lesions] == [{"resnet-56"}, {"plain-20", "plain-56", "resnet-20"}]


def test_figures_are_written_so_that_rounding_is_no_figure():
    assert [value(v) for v in (True, False, 0.0, 3.0, 1e-16, 1e-10, 2.5, 25_583_592, 0.123456)] == [
        "yes",
        "no",
        "0",
        "3",
        "below 1e-12",
        "below 1e-09",
        "2.5",
        "25,583,592",
        "0.1235",
    ]


def test_names_of_files_keep_their_letters_and_one_seed_is_one(tmp_path):
    path = tmp_path / "mine.evidence.json"
    write(sample(seeds=(0,), versions={"residual": "0.0.1"}), path)
    made = reproduce(["B28", "A20-20"], evidence=[path], shipped=False)
    (lacking,) = (one for one in made.judgements if one.claim.id == "A20-20")
    assert "No figure at_64000.resnet-20.test_error.mean in mine.evidence.json." in " ".join(explained(lacking))
    assert any(note.startswith("mine.evidence.json was made by") for note in notes(made))
    for numbers, words in (((0,), "seed 0"), ((0, 1), "seeds 0, 1")):
        one = judge(CLAIM, [sample(seeds=numbers, source="x")], {})
        assert one.evidence is not None
        assert origin(one) == f"x (cpu, {words})"
        assert words in [f"{name} {text}" for name, text in facts(one.evidence)]


def test_the_command_judges_some_claims_with_a_file_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.evidence.json"
    write(sample(settings={"steps": 64_000}), path)  # the longer one goes before that of the package
    arguments = ["reproduce", "--claims", "H03", "H10", "--evidence", str(path)]
    assert command([*arguments, "--out", "c.html", "--markdown", "c.md", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["verdict"]) for one in said["claims"]] == [
        ("H03", "confirmed"),
        ("H10", "confirmed with a caveat"),
    ]
    assert said["claims"][0]["evidence"]["seeds"] == [0, 1, 2]
    assert (tmp_path / "c.html").read_bytes().startswith(b"<!doctype html>")
    assert "mine.evidence.json" in (tmp_path / "c.md").read_text()
    assert command(["reproduce", "--claims", "H10"]) == 0
    out = capsys.readouterr().out
    assert "budget smoke" in out
    assert "1 confirmed with a caveat" in out


def test_a_budget_makes_the_evidence_that_lacks_and_no_more(cifar, tmp_path, monkeypatch):
    """By a study that trains nothing: the images of CIFAR-10 counted."""
    monkeypatch.setenv("RESIDUAL_RUNS", str(tmp_path))
    more = trainer("cpu", str(cifar))
    made = reproduce(["B16"], budget="cpu", shipped=False, more=more)
    (one,) = made.judgements
    assert one.verdict == "wrong in the seed"
    assert (one.figures["training"], one.figures["test"]) == (50_000, 10_000)
    stored = tmp_path / "studies-cpu" / "cifar-10.evidence.json"
    again = reproduce(["B16"], budget="cpu", shipped=False, evidence=[stored], more=more)
    assert again.judgements[0].evidence is not None
    assert again.judgements[0].evidence.source == stored.name
    assert more(["cifar-10"], again.evidence) == []


def test_the_papers_figures_stand_beside_ours(tmp_path):
    error = {"mean": 9.5, "std": 0.25, "least": 9.25, "most": 9.75, "values": [9.25, 9.75]}
    measured = {**MEASURED, "resnet-20": {"test_error": error, "steps": 8000}}
    path = tmp_path / "x.evidence.json"
    write(sample(measured=measured), path)
    made = reproduce(["H03"], evidence=[path], shipped=False)
    ((table, rows),) = made.papers()
    assert table.errors["resnet-20"] == 8.75
    first = ("resnet-20", "8.75 %", "9.50 ± 0.25 %", "CIFAR-10, 8,000 steps, 2 seeds", "x.evidence.json")
    assert cells(rows[0]) == first
    assert cells(rows[1])[:3] == ("resnet-32", "7.51 %", "not measured")
    page = claims_page(made).decode()
    assert all(cell in page for cell in ("8.75 %", "9.50 ± 0.25 %"))
    assert f"| {' | '.join(first)} |" in markdown(made)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--claims", "Z1"], 2, "no claim has the id"),
        (["--out", "page.pdf"], 2, "no page format"),
        (["--evidence", "absent.json"], 2, "no result file"),
    ],
)
def test_mistakes_are_one_line(arguments, code, words, capsys):
    assert command(["reproduce", *arguments]) == code
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1
