"""A run that judges nothing, as one trained on all of a folder that has no test images."""

from __future__ import annotations

from tests.cli.test_photographs import PLAIN
from tests.data.photographs import photographs


def test_a_run_that_judges_nothing_says_so_and_names_a_command_that_works(say, here):
    photographs(here / "PHOTOS", count=14)
    short = ("--set", "steps=1", *PLAIN, "--protocol", "final")
    said = say("train", "PHOTOS/", *short, "--out", "run")
    assert "this run will have no figure at all" in said.err
    assert "there are no test images and none are held out: no figure" in said.out
    assert "top-1 " not in said.out.partition("finished")[2]
    assert "the figure is" not in said.out
    (line,) = (line for line in said.out.splitlines() if line.startswith("next"))
    assert line.endswith("residual evaluate run --data OTHER_IMAGES")
    photographs(here / "OTHER", count=2)
    assert say(*line.split()[2:-1], "OTHER").code == 0
    said = say("train", "PHOTOS/", *short, "--set", "data.test=0.2", "--out", "tested")
    assert "no figure" not in said.out
    assert "residual evaluate tested\n" in said.out
