"""`residual runs` with many runs: it answers from little of each, and finds what is asked for among them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from residual.files import canonical
from residual.runs.records import evaluation_record, train_record
from tests.conftest import subprocess_environment

SCORES = {"top3": 0.9, "top5": 1.0}
COUNTING = """
import json, os, sys
opened = []
sys.addaudithook(lambda event, details: opened.append(str(details[0])) if event == "open" else None)
from residual.cli.main import run
code = run(["runs", sys.argv[1], "--json"])
read = 0
if os.path.exists("/proc/self/io"):
    read = int(open("/proc/self/io").read().split("rchar: ")[1].split()[0])
mine = [path for path in opened if path.startswith(sys.argv[1])]
print(json.dumps({"code": code, "opened": len(mine), "read": read, "torch": "torch" in sys.modules}), file=sys.stderr)
"""


def make_run(path: Path, number: int, lines: int) -> None:
    """A run as `train` leaves it; every third is not finished."""
    recipe = {
        "name": "digits" if number % 2 else "cifar10-fast",
        "seed": number,
        "optimiser": {"weight_decay": number / 8},
    }
    facts = {
        "recipe": {**recipe, "evaluation": {"watch_test": False}},
        "chosen": {"steps": lines},
        "network": {"name": "resnet-20", "shortcut": "A"},
        "data": {"name": "digits", "validation": 9, "test": 9},
        "created": f"2026-01-01T00:00:{number % 60:02}+00:00",
    }
    path.mkdir(parents=True)
    (path / "run.json").write_bytes(canonical({"format": 1, **facts}))
    finished = number % 3 > 0
    book = b""
    for step in range(1, lines + finished):
        scores = {"loss": 0.5, "top1": step / lines * (1 - number / 1000), **SCORES}
        final = step == lines
        book += canonical(train_record(step, step, 9, scores, 0.1, 0.9, {"seconds": step}))
        book += canonical(evaluation_record("validation", step, step, 9, scores, final, {"seconds": 1}))
        if final:
            book += canonical(evaluation_record("test", step, step, 9, scores, final, {"seconds": 1}))
    (path / "records.jsonl").write_bytes(book)
    if finished:
        (path / "result.json").write_bytes(canonical({"seconds": number}))
    os.utime(path / "run.json", (number, number))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many")
    for number in range(200):
        make_run(root / "all" / f"r{number}", number, 100)
    for number in range(10):
        make_run(root / "ten" / f"r{number}", number, 100)
    (root / "all" / "r77" / "run.json").write_text("{")
    os.utime(root / "all" / "r77" / "run.json", (77, 77))
    return root


def count(folder: Path) -> tuple[dict[str, int], list[dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COUNTING), str(folder)],
        env=subprocess_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stderr), json.loads(done.stdout)


def test_a_list_of_runs_reads_little_of_each(many):
    few, _ = count(many / "ten")
    found, rows = count(many / "all")
    assert (found["code"], found["torch"]) == (0, False)
    assert found["opened"] <= 3 * 200 + 2, "run.json, result.json and the end of the records"
    whole = sum(len((many / "all" / f"r{n}" / "records.jsonl").read_bytes()) for n in range(200))
    assert whole > 200 * 30_000
    assert (found["read"] - few["read"]) / 190 < 12_000
    assert len(rows) == 200
    assert [row["run"] for row in rows if "damaged" in row] == ["r77"]
    assert rows[2]["test_top1"] == rows[2]["validation_top1"] == pytest.approx(0.998)
    assert (rows[3]["test_top1"], rows[3]["step"]) == (None, 99)


def test_the_best_of_a_kind(say, many):
    chosen = ("--where", "recipe=digits", "--where", "test_top1>=.9", "--sort", "test_top1", "--json")
    rows = json.loads(say("runs", many / "all", *chosen).out)
    assert [row["run"] for row in rows[:3]] == ["r1", "r5", "r7"]
    assert [row["run"] for row in rows if "damaged" in row] == ["r77"]
    assert len(rows) > 10


def test_settings_as_columns(say, many):
    said = say("runs", many / "all", "--sort", "optimiser.weight_decay", "--where", "seed<100")
    lines = [line for line in said.out.splitlines() if "digits" in line or "cifar" in line]
    assert "optimiser.weight_decay" in said.out
    assert "12.375" in lines[0]
    rows = json.loads(say("runs", many / "all", "--where", "optimiser.weight_decay=12.5", "--json").out)
    assert [row["run"] for row in rows] == ["r77", "r100"]


def test_the_newest(say, many):
    rows = json.loads(say("runs", many / "all", "--last", "3", "--json").out)
    assert [row["run"] for row in rows] == ["r197", "r198", "r199"]
    rows = json.loads(say("runs", many / "all", "--last", "2", "--where", "recipe=digits", "--json").out)
    assert [row["run"] for row in rows] == ["r197", "r199"]


def test_the_best_three_of_all(say, many):
    rows = json.loads(say("runs", many / "all", "--sort", "test_top1", "--top", "3", "--json").out)
    assert [row["run"] for row in rows] == ["r1", "r2", "r4"]
    rows = json.loads(say("runs", many / "all", "--sort", "test_top1", "--last", "9", "--top", 1, "--json").out)
    assert [row["run"] for row in rows] == ["r191"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--where", "recipe"], ["no condition: 'recipe'", "--where", "recipe=digits"]),
        (["--where", "recip=digits"], ["no run has 'recip'", "did you mean recipe"]),
        (["--where", "seed>x"], ["'x' is not a number"]),
        (["--sort", "optimiser.decay"], ["no run has 'optimiser.decay'"]),
        (["--last", "0"], ["0 runs cannot be listed"]),
        (["--last", "1.5"], ["not a whole number"]),
        (["--top", "3"], ["the first of no order (--top): add --sort"]),
        (["--sort", "seed", "--top", "0"], ["0 runs cannot be listed (--top)"]),
    ],
    ids=str,
)
def test_what_cannot_be_chosen_by(refused, finished, arguments, words):
    refused(2, ["runs", ".", *arguments], *words)


def test_a_comparison_chooses_nothing(refused, finished):
    refused(2, ["runs", "run", "run", "--last", "1"], "choose from a list")
    refused(2, ["runs", "run", "--sort", "seed"], "choose from a list")
