"""Tables on a terminal of 80 columns and on one of 60: names and numbers whole, what has no room named."""

from __future__ import annotations

import re

import pytest

from residual.cli import words
from residual.cli.tables import say_table
from residual.training.progress import Output


@pytest.fixture(params=[60, 80])
def narrow(request, monkeypatch):
    width = request.param
    monkeypatch.setattr(words, "console", lambda: Output(width=width, force_terminal=True, color_system=None))
    return width


def cells(text):
    """What stands in the cells of tables, by line."""
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in text.splitlines() if "│" in line]


def test_numbers_stay_whole(capsys, narrow):
    rows = [("a name of a class that is rather long", "1,234,567,890", "83.39 to 87.24", "12.50 %", "3")]
    columns = {"name": False, "number": True, "interval": True, "accuracy of it": True, "least": True}
    say_table("title", columns, rows, folding=["name"], given_up=("least", "accuracy of it"), more=" (see there)")
    out = capsys.readouterr().out
    assert all(len(line) <= narrow for line in out.splitlines())
    found = cells(out)
    assert {"1,234,567,890", "83.39 to 87.24"} <= set(found[0])
    assert " ".join(row[0] for row in found) == rows[0][0]
    left = {60: "left out for want of room: least (see there)", 80: "title"}
    assert left[narrow] in " ".join(out.split())
    assert ("left out" in out) == (narrow == 60)


def test_what_could_steer_a_terminal_is_written_out(capsys, narrow):
    say_table("t\x1b[31m", {"a\x1b": False}, [("b\x1b[2J\n",)])
    out = capsys.readouterr().out
    assert "\x1b" not in out.replace("\x1b[3m", "").replace("\x1b[0m", "")
    assert "b\\x1b[2J\\n" in out


def test_networks_and_recipes(say, narrow):
    out = say("models").out
    assert all(len(line) <= narrow for line in out.splitlines())
    assert "…" not in out
    rows = cells(out)
    assert "resnet-110-1layer" in [row[0] for row in rows]
    assert "19,421,274" in next(row for row in rows if row[0] == "plain-1202")
    out = say("recipes").out
    assert all(len(line) <= narrow for line in out.splitlines())
    assert "cifar10-onecycle" in [row[0] for row in cells(out)]
    assert "`residual recipes NAME` has all of one" in " ".join(out.split())


def test_an_evaluation(say, finished, narrow):
    out = say("evaluate", finished).out
    tables = out[out.index("1-crop; intervals") :]
    assert all(len(line) <= narrow for line in tables.splitlines())
    (top,) = [row for row in cells(out) if "top-1" in row]
    assert any(re.fullmatch(r"\d+\.\d\d %", cell) for cell in top)
    assert any(re.fullmatch(r"\d+\.\d\d to \d+\.\d\d", cell) for cell in top)
    assert not any(re.fullmatch("%|to|[0-9.]+ to", cell) for row in cells(out) for cell in row)
