"""The table of `residual runs`: names stay whole where there is little room, studies stand below."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from residual.cli import words
from residual.cli.runs import COLUMNS, GIVEN_UP
from residual.cli.tables import fitting, room
from residual.runs.folder import RunFolder
from residual.runs.studies import runs_of
from residual.runs.summary import names_of
from residual.training.progress import Output
from tests.cli.test_many_runs import make_run

WIDE = dict(zip(COLUMNS, (29, 13, 11, 8, 4, 13, 12, 16, 10, 7), strict=True))
NAME = "photographs-of-the-garden-12"


def test_what_is_missed_least_goes_first():
    for width in range(20, 200):
        shown, left = fitting(WIDE, width, GIVEN_UP)
        assert sorted([*shown, *left]) == sorted(COLUMNS)
        assert {"run", "status"} <= {*shown}
        kept = room(WIDE[name] for name in shown)
        assert kept <= width or set(left) == set(GIVEN_UP)
        assert all(kept + WIDE[name] + 3 > width for name in left), "one of these had room"
    assert fitting(WIDE, 60, GIVEN_UP)[0] == ["run", "data", "status"]
    assert fitting(WIDE, 90, GIVEN_UP)[0] == ["run", "seed", "status", "validation top-1", "test top-1"]
    assert fitting(WIDE, 160, GIVEN_UP) == ([*COLUMNS], [])


def test_settings_that_were_asked_for_stay():
    assert fitting(WIDE | {"optimiser.weight_decay": 22}, 70, GIVEN_UP)[0] == [
        "run",
        "status",
        "optimiser.weight_decay",
    ]


@pytest.mark.parametrize("width", [45, 60, 80])
def test_names_are_whole_on_a_narrow_terminal(say, here, monkeypatch, width):
    make_run(here / "runs" / NAME, 1, 5)
    monkeypatch.setattr(words, "console", lambda: Output(width=width, force_terminal=True, color_system=None))
    said = say("runs")
    lines = said.out.splitlines()
    assert all(len(line) <= width for line in lines)
    (whole,) = [line for line in lines if NAME in line]
    assert "finished" in whole
    assert "left out for want of room" in said.out
    assert "…" not in said.out


def test_without_a_terminal_nothing_is_cut(say, here):
    name = "n" * 120
    make_run(here / "runs" / name, 1, 5)
    (line,) = [line for line in say("runs").out.splitlines() if name in line]
    assert all(word in line for word in ("resnet-20 A", "digits", "5/5", "finished", "1 s"))


def test_studies_stand_below_the_runs(say, here):
    make_run(here / "runs" / "one", 1, 5)
    make_run(here / "runs" / "seeds-digits" / "seed-1", 1, 5)
    make_run(here / "runs" / "seeds-digits" / "seed-3", 3, 5)
    command = "residual study seeds digits --out runs/seeds-digits"
    line = f"study    seeds-digits: seeds, digits, 1 of 2 runs finished: {command}"
    assert say("runs").out.splitlines()[-1] == line
    assert [row["run"] for row in json.loads(say("runs", "--json").out)] == ["one"]
    assert say("runs", "--studies").out.splitlines() == [line]
    (study,) = json.loads(say("runs", "--studies", "--json").out)
    assert (study["study"], study["kind"], study["runs"], study["finished"]) == ("seeds-digits", "seeds", 2, 1)
    assert [row["run"] for row in json.loads(say("runs", "--last", 5, "--json").out)] == ["one"]
    (here / "runs" / "one" / "run.json").unlink()
    assert say("runs").out.splitlines() == ["no runs in runs", line]


def test_the_reason_of_a_damaged_run_is_whole(say, here):
    make_run(here / "runs" / "one", 1, 5)
    (here / "runs" / "one" / "run.json").write_text("{")
    assert "damaged  one: run.json is damaged" in say("runs").out.splitlines()


def test_the_runs_of_a_study_are_named_by_it(here):
    for arm in ("plain-8", "resnet-8"):
        for seed in (1, 2):
            make_run(here / "runs" / "degradation-digits" / arm / f"seed-{seed}", seed, 5)
    make_run(here / "runs" / "alone", 3, 5)
    study = str(here / "runs" / "degradation-digits")
    inner = [f"{study}/{arm}/seed-{seed}" for arm in ("plain-8", "resnet-8") for seed in (1, 2)]
    assert sorted(runs_of(["degradation-digits"])) == sorted(str(Path("runs") / p.split("/runs/")[1]) for p in inner)
    assert sorted(runs_of([study, "alone"])) == sorted([*inner, "alone"])
    assert sorted(runs_of([f"{study}/plain-8"])) == sorted(inner[:2])
    names = ["nowhere", "last", "n" * 300, "a\0b", "~nobody-of-this-name/x"]
    assert runs_of(names) == names
    named = names_of([RunFolder(Path(place)) for place in inner])
    assert named == [f"{arm}/seed-{seed}" for arm in ("plain-8", "resnet-8") for seed in (1, 2)]
