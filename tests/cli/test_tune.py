"""`residual tune` and `residual study show` from the command line."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from residual.cli import words
from residual.cli.asked import ending
from residual.cli.study import _table as table
from residual.cli.tune import describe
from residual.training import durations
from residual.training.recipe import override
from residual.training.recipes import RECIPES
from tests.cli.conftest import Process, Said, only_error, photograph

TINY = (
    "digits", "--network", "resnet-8", "--set", "network.widths=[4, 8, 16]", "--set", "data.limit=100",
    "--set", "steps=3", "--batch-size", "30", "--sampler", "ga-001",
    "--population", "2", "--generations", "1", "--log", "plain",
)  # fmt: skip


def printed(summary: Any, width: int, patch: pytest.MonkeyPatch) -> list[str]:
    """The table of a study, on a terminal of that width."""
    screen = Console(width=width, file=io.StringIO(), force_terminal=True, no_color=True, highlight=False)
    with patch.context() as here:
        here.setattr(words, "console", lambda: screen)
        table(summary)
    assert isinstance(screen.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.file.getvalue()).splitlines()


def test_a_budget_ends_a_search_that_can_be_gone_on_with(
    say: Callable[..., Said], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(durations, "seconds_of", lambda text, where: 1e-9)
        said = say("tune", *TINY, "--study", "short", "--budget", "1s")
    assert said.code == 0, said.err
    assert "the budget is spent before the study is finished: 0 of at most " in said.out
    assert " individuals are done\nno individual is finished\n" in said.out
    assert "next     residual tune --study short\n         residual study show short\n" in said.out
    assert say("tune", "--study", "short", "--log", "plain").out.count("3 of 3") == 1
    assert "short: ga-001, finished; 3 trained" in say("study", "show", "short").out
    only_error(said := say("tune", *TINY, "--budget", "15"))
    assert "is no time between a second and a year" in said.err


def test_a_study_from_the_command_line(
    say: Callable[..., Said], here: Path, monkeypatch: pytest.MonkeyPatch, pictures: None
) -> None:
    said = say("tune", *TINY, "--study", "first")
    assert said.code == 0, said.err
    assert "generation 1/1: 1 to be trained, 1 survive" in said.out
    assert "3 of 3, 0:00 left" in said.out
    assert re.search(r"validation top-1 \d+\.\d\d% of 10 images, 95 % interval \d+\.\d to \d+\.\d %", said.out)
    assert re.search(r"recipe\.toml --protocol final --seed 1$", said.out.rstrip())
    assert (here / "runs/first/study.png").read_bytes().startswith(b"\x89PNG")
    shown = say("study", "show", "first")
    assert shown.code == 0
    assert "first: ga-001, finished; 3 trained" in shown.out
    value = json.loads(say("study", "show", "first", "--json").out)
    assert value["counts"]["trained"] == 3
    assert value["best"]["fitness"] == max(value["best_so_far"])
    assert [row["number"] for row in value["individuals"]] == [0, 1, 2]
    for width in (60, 80, 120):
        lines = printed(value, width, monkeypatch)
        assert max(map(len, lines)) <= width, width
        assert ("weight_decay" in lines[3]) == (width > 60), "all genes in one column where they do not fit"
        for row in value["individuals"]:
            figures = [f"{gene:.4g}" for gene in row["genes"].values()]
            assert all(any(figure in line.split() for line in lines) for figure in figures), width
    before = photograph(here / "runs/first/trial-0000")
    again = say("tune", "--study", "first", "--json")
    assert json.loads(again.out) == {"kind": "result", **json.loads(say("study", "show", "first", "--json").out)}
    assert again.err.startswith("study    first (")
    assert photograph(here / "runs/first/trial-0000") == before
    listed = json.loads(say("runs", "runs/first", "--json").out)
    assert {row["run"] for row in listed} == {"trial-0000", "trial-0001", "trial-0002"}


def test_wrong_studies_are_refused_in_one_line(refused: Callable[..., str]) -> None:
    refused(2, ["tune", "--population", "1"], "--population is 1", "2 or more")
    refused(2, ["tune", "--sampler", "gaa"], "did you mean ga")
    refused(2, ["tune", "--gene", "schedule.peak=log:3:1"], "smaller")
    refused(2, ["tune", "--rule", "keep=7"], "keep is 7")
    refused(2, ["tune", "--sampler", "ga-001", "--rule", "cut=true"], "cut is True", "must be a number")
    refused(2, ["tune", "--sampler", "ga-001", "--rule", "cut=7"], "cut is 7", "name 1 to 2, middle or any")
    refused(2, ["tune", "--study", ""], "the name of the study is empty")
    refused(2, ["study", "compare", "--study", ""], "the name of the study is empty")
    refused(2, ["tune", "digits", "--set", "compute.thread=1"], "did you mean threads")
    refused(2, ["study", "compare", "digits", "--set", "compute.thread=1"], "did you mean threads")
    refused(2, ["tune", "--space", "seed002"], "did you mean seed001")
    refused(2, ["tune", "digts"], "did you mean digits")
    refused(2, ["tune", "--grace", "0.1"], "--grace")
    refused(2, ["tune", "--grace", "inf"], "--grace is inf")
    refused(2, ["study", "show", "none"], "no study is named 'none'")
    refused(2, ["study", "compare", "--arms", "default,gaa"], "--arms is 'gaa'", "did you mean ga")
    refused(2, ["study", "compare", "digits", "--gene", "epochs=int:1:9"], "not train the same number of steps")
    line = refused(2, ["tune", "--study", "x", "--storage", "mysql+evil://me:hush@host/x"], "SQLite or PostgreSQL only")
    assert "hush" not in line


def test_a_wrong_database_is_exit_code_5(say: Callable[..., Said], here: Path) -> None:
    (here / "poem.sqlite3").write_text("tyger tyger, burning bright")
    said = say("tune", *TINY, "--study", "x", "--storage", "sqlite:///poem.sqlite3")
    assert said.code == 5
    assert "not an SQLite database" in only_error(said)
    assert (here / "poem.sqlite3").read_text() == "tyger tyger, burning bright"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for another process")
def test_ctrl_c_saves_and_the_same_name_goes_on(
    start: Callable[..., Process], say: Callable[..., Said], here: Path
) -> None:
    long = [word.replace("steps=3", "steps=400") for word in TINY]
    process = start("tune", *long, "--study", "stopped")
    process.wait_for(lambda: list(here.glob("runs/stopped/trial-0000/checkpoints/step-*")))
    os.kill(process.process.pid, signal.SIGINT)
    said = process.end()
    assert said.code == 130
    assert "residual tune --study stopped" in said.err
    value = json.loads(say("study", "show", "stopped", "--json").out)
    assert {row["state"] for row in value["individuals"]} == {"waiting"}


@pytest.mark.slow
def test_a_launcher_trains_what_a_worker_trains_itself(say: Callable[..., Said], here: Path) -> None:
    one = (*TINY[:-4], "--generations", "0", *TINY[-2:])  # of one generation
    own = (*one, "--set", "compute.threads=1", "--set", "compute.precision=float32", "--study")
    found = []
    for place, launch in (("launched", ("--launch", sys.executable)), ("alone", ())):
        said = say(*("tune", *own, "same", *launch, "--storage", f"sqlite:///{place}.sqlite3"))
        assert said.code == 0, said.err
        assert f"residual study show same --storage sqlite:///{place}.sqlite3" in said.out
        runs = sorted((here / "runs/same").glob("trial-*/result.json"))
        found.append([json.loads(run.read_bytes())["final"] for run in runs])
        (here / "runs/same").rename(here / place)
    assert found[0] == found[1]
    assert len(found[0]) == 2
    assert "--launch" in only_error(say("tune", *TINY, "--launch", "no-such-launcher -n 2"))


def test_the_final_protocol_reads_the_test_images_that_a_search_leaves_alone(tmp_path: Path) -> None:
    read, unread = tmp_path / "read.toml", tmp_path / "unread.toml"
    read.write_text(RECIPES["digits"].to_toml())
    unread.write_text(override(RECIPES["digits"], [("evaluation.test", False)]).to_toml())
    assert ending(str(unread), "final", []) == [("evaluation.test", True)]
    assert ending(str(unread), "final", [("evaluation.test", False)]) == []
    assert [ending(str(unread), protocol, []) for protocol in ("tune", None)] == [[], []]
    assert [ending(name, "final", []) for name in (str(read), "digits", None)] == [[], [], []]


def test_photographs_without_a_test_are_told_to_keep_some_aside() -> None:
    recipe = override(RECIPES["photos"], [("data.path", "PHOTOS")]).model_dump(mode="json")
    event: dict[str, Any] = {"kind": "study", "name": "x", "storage": "x", "seed": 0, "own": [0.2]}
    event |= {"recipe": recipe, "algorithm": {"name": "ga"}, "space": {"genes": {"schedule.peak": "log:1:2"}}}
    assert describe(event)[-2:] == [
        "first    the recipe's own values",
        "images   a folder test/, or --set data.test=0.1, keeps some aside that nothing is chosen on",
    ]
    recipe["data"]["test"] = 0.1
    assert "images" not in "".join(describe(event | {"own": None}))


def test_events_are_told_in_words() -> None:
    event: dict[str, Any] = {"kind": "individual", "event": "fail", "number": 3, "reason": "diverged", "best": None}
    event |= {"done": 4, "expected": 15, "seconds_left": 3700.0}
    assert describe(event) == ["  individual 3: failed: diverged; 4 of 15, 1:01:40 left"]
    event |= {"event": "complete", "fitness": 0.5, "best": 0.75, "best_number": 1, "seconds_left": None}
    assert describe(event) == ["  individual 3: top-1 50.00%; best 75.00% (individual 1); 4 of 15"]
