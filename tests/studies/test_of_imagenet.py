"""Figure 4 on photographs of ImageNet: however they are given out, the claims of the study can be judged."""

from __future__ import annotations

import pytest

from residual.studies.claims import registry
from residual.studies.evidence import read, write
from residual.studies.papers import beside
from residual.studies.table import DEFINITIONS
from residual.studies.training_studies import Wish, degradation
from tests.data.photographs import fill
from tests.data.test_official import WNIDS, tiny

SMALL = (
    ("data.image_size", 32),
    ("batch_size", 6),
    ("network.widths", [8, 8, 8, 8]),
    ("network.stem", "7x7"),
    ("compute.threads", 1),
)


def native(root):
    """Classes are called by their words here."""
    return tiny(root)


def numbered(root):
    for part, images in (("train", 6), ("val", 3), ("test", 3)):
        for colour, name in enumerate(WNIDS):
            fill(root / part / name, images, colour + 10 * len(part))
    return root


@pytest.mark.parametrize("layout", [native, numbered])
def test_every_claim_of_the_study_finds_its_figures(tmp_path, layout):
    place = layout(tmp_path / "images")
    asked = Wish("photos", (0,), 2, (*SMALL, ("data.path", str(place))), tmp_path / "runs")
    studied = degradation(asked, (18, 34))
    write(studied.evidence, tmp_path / "tiny-imagenet.evidence.json")
    found = read(tmp_path / "tiny-imagenet.evidence.json", DEFINITIONS)
    claims = [claim for claim in registry().claims if claim.study == "tiny-imagenet"]
    assert {claim.id for claim in claims} == {"E11", "M14", "M15", "A15", "A16"}
    for claim in claims:
        condition = claim.confirmed
        assert condition is not None
        assert {*condition.figures(found.measured)} == {*condition.paths()}, claim.id
    assert found.caveats[0] == "32 pixels a side and 8 to 8 filters, where the paper has 224 and 64 to 512"
    ((_, rows),) = beside([found])
    assert [row.arm for row in rows if row.evidence] == ["plain-18", "resnet-18", "plain-34", "resnet-34"]


def test_photographs_of_other_things_are_a_study_of_their_own(tmp_path):
    for colour, name in enumerate(("cats", "dogs")):
        fill(tmp_path / "images" / name, 12, colour)
    asked = Wish("photos", (0,), 1, (*SMALL, ("data.path", str(tmp_path / "images"))), tmp_path / "runs")
    assert degradation(asked, (18,), ("plain",)).evidence.study == "degradation"
