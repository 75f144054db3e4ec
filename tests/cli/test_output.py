"""What the program writes, to whom, and what happens when nobody reads it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from residual.errors import log
from residual.runs.folder import RunFolder
from residual.training import progress
from tests.cli.conftest import SIX, TINY, Said, only_error, photograph
from tests.conftest import subprocess_environment

THREE = (*TINY, "--set", "steps=3")
ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def shell(line: str, *arguments: str, **env: str) -> Said:
    """`residual` is `"$@"` in the line."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line, "bash", sys.executable, "-m", "residual", *arguments],
        env=subprocess_environment({"OMP_NUM_THREADS": "1", **env}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


# Readers that go away


def test_training_goes_on_when_its_reader_goes(here):
    said = shell('"$@" | head -1', *SIX, "--out", "run")
    assert (said.code, said.out, said.err) == (0, "run      run: starting of 6\n", "")
    assert RunFolder(here / "run").result() is not None


@pytest.mark.parametrize("arguments", [["models"], ["--help"]], ids=" ".join)
def test_a_reader_that_reads_nothing(here, arguments):
    said = shell('"$@" | true', *arguments)
    assert said == (0, "", "")


def test_standard_output_that_cannot_be_written(here):
    said = shell('"$@" > /dev/full', "completion", "bash")
    assert said.code == 5
    assert only_error(said) == "error: no space left on device (standard output): check the disk and the permissions"


def test_training_goes_on_when_standard_output_cannot_be_written(here):
    said = shell('"$@" > /dev/full', *THREE, "--out", "run")
    assert said.code == 5
    assert "standard output" in only_error(said)
    assert said.err.startswith("warning: standard output cannot be written (no space left on device), the training")
    assert RunFolder(here / "run").result() is not None


def test_a_search_goes_on_when_its_reader_leaves(here):
    words = ("tune", *THREE[1:], "--population", "2", "--generations", "0")
    said = shell('"$@" | head -1', *words, "--study", "piped")
    assert (said.out.count("\n"), said.err) == (1, "")
    assert len(list((here / "runs/piped").glob("trial-*/result.json"))) == 2
    said = shell('"$@" > /dev/full', *words, "--study", "full")
    assert said.err.startswith("warning: standard output cannot be written (no space left on device), the search goes")
    assert len(list((here / "runs/full").glob("trial-*/result.json"))) == 2


def test_closed_streams_receive_nothing_and_no_file_of_the_run_takes_their_place(here):
    said = shell('"$@" <&- >&- 2>&-', *THREE, "--out", "run")
    assert said == (0, "", "")
    run = RunFolder(here / "run")
    assert run.result() is not None
    assert {record["kind"] for record in run.records()} == {"train", "evaluation"}
    assert shell('"$@" 2>&-', "trian") == (2, "", "")
    assert shell('"$@" 2>/dev/full', "trian") == (2, "", "")


def test_a_terminal_that_knows_ascii_alone(here):
    said = shell('TERM=dumb "$@"', *THREE, "--out", "é☃", **ASCII)
    assert (said.code, said.err) == (0, "")
    assert said.out.isascii()
    assert "finished: step 3" in said.out
    said = shell('"$@"', "träin", **ASCII)
    assert said.code == 2
    assert "unknown command" in only_error(said)
    assert said.err.isascii()


class Broken(progress.Silent):
    def __init__(self, error: Exception) -> None:
        self.error, self.calls = error, 0

    def stepped(self, step: int, images: int) -> None:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize(("error", "warnings"), [(BrokenPipeError(), 0), (OSError(28, "No space left"), 1)])
def test_a_listener_that_fails_is_asked_no_more(monkeypatch, error, warnings):
    told: list[str] = []
    monkeypatch.setattr(log, "warning", lambda text, *values: told.append(text % values))
    inner = Broken(error)
    listener = progress.Unbroken(inner)
    for step in range(3):
        listener.stepped(step, 1)
        listener.saved(step)
    listener.ended()
    assert inner.calls == 1
    assert len(told) == warnings


def test_other_faults_of_a_listener_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        progress.Unbroken(Broken(ZeroDivisionError())).stepped(0, 1)


# What is written


def test_plain_lines_have_no_control_characters(say):
    said = say(*SIX, "--out", "run")
    assert (said.code, said.err) == (0, "")
    assert all(character.isprintable() or character == "\n" for character in said.out)
    lines = said.out.splitlines()
    assert lines[0] == "run      run: starting of 6"
    assert "batch_size=30" in lines[1]
    assert any(line.startswith("epoch 1/2, step 3/6; training (running): loss ") for line in lines)
    assert any("; test: loss " in line for line in lines)


def test_parts_of_epochs_are_told_apart(say):
    said = say(*SIX, "--set", "evaluation.every_epochs=0.5", "--out", "run")
    places = [line.split(",")[0] for line in said.out.splitlines() if line.startswith("epoch ")]
    assert places == ["epoch 0.67/2", "epoch 1/2", "epoch 1.67/2", "epoch 2/2"], said.out
    assert [progress.passes(n) for n in (12.00128, 0.333, 0.5, 1200)] == ["12", "0.33", "0.5", "1,200"]
    assert [progress.passes(n * 8 / 45, 8 / 45) for n in (1, 5, 6, 7, 12)] == ["0.18", "0.89", "1", "1.24", "2"], (
        "of batches that do not end with an epoch the first after it"
    )


def test_json_lines_are_nothing_else(say, here):
    said = say(*(token if token != "plain" else "json" for token in SIX), "--out", "run")
    assert (said.code, said.err) == (0, "")
    values = [json.loads(line) for line in said.out.splitlines()]
    assert [value["kind"] for value in values] == [
        "plan",
        *("train", "evaluation"),
        *("train", "evaluation", "evaluation"),
        "result",
    ]
    run = RunFolder(here / "run")
    assert values[1:-1] == run.records()
    assert values[-1] == {**(run.result() or {}), "kind": "result", "run": "run"}
    assert [json.loads(line)["kind"] for line in say("train", "--resume=run", "--log", "json").out.splitlines()] == [
        "result"
    ]


def test_a_training_gives_one_json_value_and_tells_of_itself_on_standard_error(say, here):
    said = say(*SIX, "--out", "run", "--json")
    assert said.code == 0
    value = {**(RunFolder(here / "run").result() or {}), "kind": "result", "run": "run"}
    assert json.loads(said.out) == value
    told = said.err.splitlines()
    assert told[0] == "run      run: starting of 6"
    assert any(line.startswith("epoch 1/2, step 3/6; training (running): loss ") for line in told)
    again = say("train", "--resume=run", "--json")
    assert json.loads(again.out) == value
    assert "note     it was finished already" in again.err
    lines = say(*(token if token != "plain" else "json" for token in SIX), "--out", "other", "--json")
    assert json.loads(lines.out)["run"] == "other"
    kinds = [json.loads(line)["kind"] for line in lines.err.splitlines()]
    assert (kinds[0], kinds[1], len(kinds)) == ("plan", "train", 6)


def test_runs_and_evaluations_as_json(say, finished):
    (row,) = json.loads(say("runs", ".", "--json").out)
    assert (row["run"], row["step"], row["status"]) == ("run", 6, "finished")
    both = json.loads(say("runs", "run", "run", "--json").out)
    assert both["differences"] == {}
    report = json.loads(say("evaluate", "run", "--json").out)
    assert report["top1"] == row["test_top1"]
    assert sum(map(sum, report["confusion"])) == report["images"] == 359
    assert json.loads(say("evaluate", "run", "--json", "--split", "validation").out)["images"] == 10
    table = say("evaluate", "run").out
    assert "most often taken for" in table


def test_a_damaged_run_hides_no_other(say, finished, here):
    (here / "bad").mkdir()
    (here / "bad" / "run.json").write_text("{")
    rows = {row["run"]: row for row in json.loads(say("runs", ".", "--json").out)}
    assert "damaged" in rows["bad"]
    assert rows["run"]["status"] == "finished"


def predictions(text: str, format: str) -> dict[str, list[str]]:
    if format == "json":
        return {row["file"]: [best["class"] for best in row["predictions"]] for row in json.loads(text)}
    found: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(text)):
        found.setdefault(row["file"], [])
        assert bool(row["class"]) is bool(row["probability"]) is not bool(row["error"])
        if row["class"]:
            found[row["file"]].append(row["class"])
            assert 0 <= float(row["probability"]) <= 1
    return found


def test_predictions_in_three_forms(say, finished):
    said = say("samples", "images", "--count", 5)
    assert (said.code, said.out) == (0, "5 images in images\n")
    rows = predictions(say("predict", "run", "images", "--format", "json", "--top-k", 2).out, "json")
    assert len(rows) == 5
    assert all(len(classes) == 2 for classes in rows.values())
    assert predictions(say("predict", "run", "images", "--format", "csv", "--top-k", 2).out, "csv") == rows
    table = say("predict", "run", "images", "--top-k", 99).out
    assert all(f"images/digit-{number}-0.png" in table for number in range(5))
    assert say("predict", "run", "images", "--picture", "p.png").code == 0


@pytest.mark.parametrize("format", ["csv", "json", "table"])
def test_a_bad_file_hides_no_other_and_is_told(say, finished, here, format):
    say("samples", "images", "--count", 3)
    (here / "images" / "bad.png").write_text("<html>")
    os.mkfifo(here / "images" / "pipe.png")
    said = say("predict", "run", "images", "--format", format)
    assert said.code == 3
    line = only_error(said)
    assert "1 of 4 images could not be read (images/bad.png)" in line
    assert said.err.count("warning: left out: ") == 1
    if format == "table":
        assert said.out.count(".png") == 3
    else:
        answered = predictions(said.out, format)
        assert sum(bool(answers) for answers in answered.values()) == 3
        assert "images/bad.png" in answered


def test_names_of_images_steer_no_terminal_and_are_no_markup(say, finished, here):
    say("samples", "images", "--count", 1)
    (image,) = (here / "images").iterdir()
    for name in ("\x1b[31m.png", "[red]x.png", "a\nb.png", "é.png"):
        (here / "images" / name).write_bytes(image.read_bytes())
    said = say("predict", "run", "images")
    assert said.code == 0
    assert all(character.isprintable() or character == "\n" for character in said.out)
    assert "[red]x.png" in said.out
    assert r"\x1b[31m.png" in said.out
    assert len(predictions(say("predict", "run", "images", "--format", "csv").out, "csv")) == 5


def test_nothing_to_predict(refused, finished, here):
    (here / "empty").mkdir()
    refused(3, ["predict", "run", "empty"], "no image", "empty")
    refused(3, ["predict", "run", "nosuch.png"], "nosuch.png")


@pytest.mark.parametrize("place", ["run/run.json/p.png", "p.exe", "run"])
def test_a_picture_that_cannot_be_drawn(say, finished, here, place):
    say("samples", "images", "--count", 1)
    before = photograph(here)
    for arguments in (["predict", "run", "images", "--picture", place], ["curves", "run", "--out", place]):
        said = say(*arguments)
        assert said.code in (2, 5)
        only_error(said)
    assert photograph(here) == before


def test_samples_are_images(say, here):
    say("samples", "a/b", "--count", 11)
    files = sorted((here / "a" / "b").iterdir())
    assert len(files) == 11
    for file in files:
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))
