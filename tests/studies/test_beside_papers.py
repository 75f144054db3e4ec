"""What the report shows beside the papers: every measured study, named as what was trained here, drawn as there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pytest

from residual.studies import arm_table
from residual.studies.claims import Claim
from residual.studies.claims_page import claims_page
from residual.studies.evidence import Evidence, made, recipe_facts, write
from residual.studies.markdown import markdown
from residual.studies.papers import beside
from residual.studies.pictures import FIGURES, caption, drawable
from residual.studies.reproduce import Reproduction, reproduce
from residual.studies.table import DEFINITIONS, checked
from residual.studies.verdicts import Way, judge
from residual.studies.wording import cells, explained, printed_as
from tests.studies.test_evidence import CHECKSUMS

SPREAD = {"mean": 9.5, "std": 0.25, "least": 9.25, "most": 9.75, "values": [9.25, 9.75]}
BOTTLENECKS = {"network.unit": "bottleneck", "network.shortcut": "B"}


def trained(study: str, arms: Mapping[str, Mapping], **changes) -> Evidence:
    """Invented evidence of arms: 4,000 steps, two seeds, an error of 9.5 +- .25 %."""
    curve = {"step": [1000, 4000], "mean": [30.0, 9.5], "std": [1.0, 0.25]}
    facts = {
        "settings": {"steps": 4000},
        "seeds": (0, 1),
        "data": {"name": "cifar-10", "checksums": CHECKSUMS, "training": 50_000},
        "recipes": {arm: recipe_facts("cifar10-paper", parts) for arm, parts in arms.items()},
        "series": {"curves": {arm: {"training error": curve, "test error": curve} for arm in arms}},
        "source": f"{study}.evidence.json",
    }
    measured = {arm: {"test_error": SPREAD, "steps": 4000} for arm in arms}
    return made(DEFINITIONS[study], "cpu", "a command", measured, **(facts | changes))


def arms_in(evidence: Iterable[Evidence]) -> dict[str, list[str]]:
    """By table of a paper, the arms that were measured."""
    return {table.source: [row.arm for row in rows if row.evidence] for table, rows in beside(evidence)}


SHORTCUTS = trained("shortcuts", arm_table.shortcuts(32), settings={"steps": 4000, "depth": 32})
ORDERS = trained("units", arm_table.units(32), settings={"steps": 4000, "depth": 32})
NETWORKS = ["resnet-110", "preact-110", "preact-20"]
NAMED = trained("units", arm_table.units(0, NETWORKS), settings={"steps": 4000, "networks": NETWORKS})


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Reproduction:
    """All claims, with a file of a study that no claim speaks of."""
    folder = tmp_path_factory.mktemp("evidence")
    write(SHORTCUTS, folder / SHORTCUTS.source)

    def some(name: str, clock: Callable[[], float]) -> Evidence:
        """Two checks are enough to see that they have no table; all of them are in test_reproduce.py."""
        return checked(name, clock) if name in ("layer", "one-cycle") else made(DEFINITIONS[name], "smoke", "", {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("residual.studies.reproduce.checked", some)
        return reproduce(evidence=[folder], shipped=False)


def test_a_study_without_a_claim_has_its_table_its_figure_and_its_file(whole):
    assert all(one.claim.study != "shortcuts" for one in whole.judgements)
    assert [one.source for one in whole.used()] == [SHORTCUTS.source]
    page, text = claims_page(whole).decode(), markdown(whole)
    for words in ("[2] table 1", "8.70 %", SHORTCUTS.source):
        assert words in page
        assert words in text
    assert "Shortcuts ([2], figure 3). Here 32 layers, CIFAR-10, 4,000 steps, 2 seeds" in page


def test_where_some_claims_are_asked_for_only_their_studies_are_shown(tmp_path):
    for one in (SHORTCUTS, ORDERS):
        write(one, tmp_path / one.source)
    made = reproduce(["M18"], evidence=[tmp_path], shipped=False)
    assert [one.source for one in made.used()] == [ORDERS.source]


def test_what_this_command_trained_is_shown_too():
    """Found beside the others: it has no file yet, and was taken for a check."""
    fresh = trained("units", arm_table.units(32), source="computed now")
    made = reproduce(["M18"], shipped=False, more=lambda studies, found: [fresh])
    assert made.used() == [fresh]
    assert "### units, computed now" in markdown(made)


def test_a_row_says_what_was_trained_here():
    ((table, rows),) = beside([SHORTCUTS])
    said = {row.arm: cells(row) for row in rows}
    assert said["half"][1:4] == ("12.35 %", "9.50 ± 0.25 %", "32 layers, CIFAR-10, 4,000 steps, 2 seeds")
    assert {said[arm][1] for arm in ("none", "dropout", "half-branch-unscaled")} == {"> 20 %"}
    assert printed_as(table, rows).endswith("Trained here: 32 layers, where the paper has 110 layers")
    data = {"name": "folder", "training": 100_000}
    arms = arm_table.degradation((18, 34), ("plain",))
    measured = {arm: {"validation_error": SPREAD, "steps": 4000} for arm in arms}  # its test images have no labels
    ((table, rows),) = beside([replace(trained("tiny-imagenet", arms, data=data), measured=measured)])
    assert cells(rows[0])[3] == "18 layers, 100,000 images of classes of ImageNet, single view, 4,000 steps, 2 seeds"
    assert "600,000 iterations of 256 images" in printed_as(table, rows)


def test_a_mean_stands_beside_the_papers_mean():
    ((_, rows),) = beside([trained("degradation", arm_table.degradation((38, 110), ("resnet",)))])
    said = {row.arm: cells(row)[1] for row in rows}
    assert said["resnet-110"] == "6.61 ± 0.16 % (best 6.43 %)"
    assert said["resnet-38"] == "", "no table has this depth: it stands with the others of its file"


def test_an_arm_stands_in_the_table_it_belongs_to():
    arms = {arm: {**parts, **BOTTLENECKS} for arm, parts in arm_table.units(110).items()}
    deep = trained("units", arms, settings={"steps": 4000, "depth": 110})
    first, second, third = "[2] table 2, ResNet-110", "[2] table 2, ResNet-164", "[2] table 3"
    orders, named = [*arm_table.UNITS], ["resnet-110", "preact-110", "preact-20"]
    for evidence, expected in (
        ([ORDERS, NAMED], {first: orders, third: named}),
        ([deep], {second: orders}),
        ([deep, ORDERS], {first: orders, second: orders}),
    ):
        assert arms_in(evidence) == {f"{name}, medians of five": arms for name, arms in expected.items()}
    ((table, rows),) = beside([deep])
    assert [cells(row)[1] for row in rows] == ["5.93 %", "6.50 %", "6.14 %", "5.91 %", "5.46 %"]
    assert cells(rows[0])[3].startswith("164 layers of bottlenecks, CIFAR-10")
    assert "Trained here" not in printed_as(table, rows)


def lines_of(study: str, number: int, evidence: Evidence) -> list:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    one = FIGURES[study][number]
    one.draw(axes, evidence.series[one.series])
    return list(axes.get_lines())


@pytest.mark.parametrize(("study", "training"), [("degradation", "--"), ("tiny-imagenet", "-")])
def test_figures_are_those_of_the_paper(study, training):
    evidence = trained(study, arm_table.degradation((20, 56), ("plain", "resnet")))
    for number, kind in enumerate(("plain", "resnet")):
        lines = lines_of(study, number, evidence)
        assert [line.get_linestyle() for line in lines] == [training, "-"] * 2
        assert all(
            thin.get_linewidth() < bold.get_linewidth() for thin, bold in zip(lines[::2], lines[1::2], strict=True)
        )
        assert [line.get_label() for line in lines[1::2]] == [f"{kind}-20", f"{kind}-56"]
    only = trained(study, arm_table.degradation((20,), ("resnet",)))
    assert [one.title for one in drawable(only)] == [FIGURES[study][1].title]


def test_more_arms_than_colours_can_be_told_apart():
    lines = lines_of("shortcuts", 0, SHORTCUTS)[1::2]
    assert len(lines) == 8
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 8


def test_a_caption_says_what_differs_from_the_paper():
    evidence = trained("degradation", arm_table.degradation((20, 56), ("plain", "resnet")))
    words = caption(evidence, FIGURES["degradation"][0])
    assert "figure 4" not in words
    assert "figure 1 and figure 6, left" in words
    assert "Here 20 and 56 layers, CIFAR-10, 4,000 steps, 2 seeds" in words
    assert "does not display plain-110" in words
    assert "figure 4, left" in FIGURES["tiny-imagenet"][0].title
    assert "ResNet-110" in FIGURES["responses"][0].paper
    assert all(len(one.title) <= 80 for figures in FIGURES.values() for one in figures)


DOCUMENT = {"id": "X", "seed": "000", "lines": "1", "text": "t", "study": "document", "documented": "unmeasured"}


def test_a_claim_of_a_document_says_how_it_would_be_measured_or_that_nothing_can():
    claim = Claim.model_validate(DOCUMENT | {"needs": "imagenet", "command": "a command", "cost": "a year"})
    found = judge(claim, [], {})
    assert found.way == Way("a command", "a year")
    assert explained(found)[-1] == "To measure it: `a command` (a year)."
    words = " ".join(explained(judge(Claim.model_validate(DOCUMENT | {"needs": "literature"}), [], {})))
    assert "nothing here can measure" in words


def test_rules_can_be_read(whole):
    page, text = claims_page(whole).decode(), markdown(whole)
    one = next(one for one in whole.judgements if one.claim.right_if)
    assert f"| {one.claim.id} | confirmed if `{one.claim.confirmed.text}`; else wrong in the seed if" in text
    assert page.count("<details>") == sum(one.claim.confirmed is not None for one in whole.judgements)
