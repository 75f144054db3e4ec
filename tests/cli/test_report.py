"""`residual report`: one page from a run or several, the same figures as --json, refusals before any work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

import residual
from tests.analysis.reading import read_page
from tests.analysis.test_figures import picture_size
from tests.cli.conftest import only_error
from tests.conftest import subprocess_environment


def test_a_run_gets_its_page(say, finished):
    said = say("report", finished)
    assert said.code == 0
    assert said.out.splitlines() == ["evaluating run: 359 images", f"report   {finished / 'report.html'}"]
    assert said.err == ""
    page = read_page(finished / "report.html")
    assert "finished" in page.texts
    again = say("report", finished, "--out", "again.html")
    assert (again.code, again.out) == (0, "report   again.html\n")  # the answers were kept
    assert (finished / "report.html").read_bytes() == (finished.parent / "again.html").read_bytes()


def test_json_says_what_the_page_says(say, finished):
    value = json.loads(say("report", finished, "--json", "--out", "a.html").out)
    page = read_page(finished.parent / "a.html")
    (run,) = value["runs"]
    judged = run["judged"]
    evaluated = json.loads(say("evaluate", finished, "--json").out)
    assert judged["confusion"] == evaluated["confusion"]
    assert judged["figures"]["top1"] == evaluated["top1"]
    rows = page.table("Worst first")[1:-1]
    assert [row[0] for row in rows] == [one["name"] for one in judged["classes"]]
    assert [row[4] for row in rows] == [f"{100 * one['f1']:.1f}\u00a0%" for one in judged["classes"]]
    share = f"{100 * judged['figures']['top1']:.2f}\u00a0%"
    assert page.table("Share of images")[-1][3] == share
    assert share in page.texts
    for setting in run["settings"]:
        assert setting["origin"] in page.text()
    assert value["page"] == "a.html"
    assert "\n" not in json.dumps(value)


def test_figures_are_written_as_files(say, finished, monkeypatch):
    monkeypatch.setattr("residual.analysis.report.MOST_MISTAKES", 4)  # a sheet of images takes long to draw
    said = say("report", finished, "--figures", "drawn", "--out", "a.html")
    assert said.code == 0
    names = ["confusion", "curves-by-epoch", "curves-by-step", "most-wrong", "reliability"]
    found = sorted((finished.parent / "drawn").iterdir())
    assert [path.name for path in found] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    for path in found:
        assert min(picture_size(path)) > 100


def test_several_runs_need_a_file_and_a_damaged_one_hides_no_other(say, refused, finished, unfinished_copy):
    line = refused(2, ["report", finished, unfinished_copy], "several runs need a file", "--out report.html")
    assert "(report)" in line
    broken = shutil.copytree(finished, finished.parent / "broken")
    (broken / "run.json").write_text("{")
    said = say("report", finished, unfinished_copy, broken, "--out", "all.html")
    assert said.code == 0
    assert "warning: left out, the run is damaged (broken): run.json is damaged" in said.err
    text = read_page(finished.parent / "all.html").text()
    assert "this run is damaged: run.json is damaged" in text
    assert "not finished: step 4 of 6" in text
    line = only_error(say("report", broken))
    assert "run.json is damaged" in line


@pytest.fixture
def unfinished_copy(finished):
    """The run as it was after four steps, beside the finished one."""
    copy = finished.parent / "half"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "model")
    shutil.rmtree(copy / "checkpoints" / "step-00000006")
    (copy / "result.json").unlink()
    records = (copy / "records.jsonl").read_text().splitlines(keepends=True)
    (copy / "records.jsonl").write_text("".join(line for line in records if json.loads(line)["step"] <= 4))
    return copy.relative_to(finished.parent) if copy.is_absolute() else copy


def test_an_unfinished_run_is_told_as_such(say, unfinished_copy):
    said = say("report", unfinished_copy)
    assert said.code == 0
    assert "note     half: The run is not finished: it stands at step 4 of 6." in said.out
    assert "checkpoint of step 4" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "absent"], ["no such run"]),
        (["report", "run", "run", "--out", "a.html"], ["named twice"]),
        (["report", "run", "--out", "a.pdf"], ["no page format '.pdf'", "end the name in .html"]),
        (["report", "run", "--out", "run/run.json"], ["no page format '.json'"]),
        (["report", "run", "--figures", "run/run.json"], ["this is not a folder"]),
        (["report", "run", "--split", "tests"], ["--split"]),
    ],
)
def test_refusals_change_nothing(refused, finished, arguments, words):
    refused(2, arguments, *words)


def test_a_page_that_cannot_be_written_is_one_line(say, finished):
    (finished.parent / "file").write_text("")
    said = say("report", finished, "--out", "file/a.html")
    assert said.code == 5
    assert "a file stands where a folder is needed" in only_error(said)


def test_the_held_out_images_can_be_chosen(say, finished):
    value = json.loads(say("report", finished, "--split", "validation", "--json").out)
    assert value["runs"][0]["judged"]["figures"]["split"] == "validation"
    assert value["runs"][0]["judged"]["figures"]["images"] == 10


def test_the_same_from_python(finished):
    made = residual.report(finished, out="python.html")
    assert made.page.name == "python.html"
    assert read_page(made.page).texts
    origins = {setting.path: setting.origin for setting in made.data.runs[0].settings}
    assert origins["batch_size"] == "set when it was started"
    assert origins["schedule.peak"] == "recipe digits"
    assert origins["schedule.rise"] == "default"


def test_help_is_quick():
    program = "import sys; from residual.cli.main import run; run(['report', '--help']); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=subprocess_environment(), capture_output=True, text=True, check=True
    )
    assert "worst mistakes" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
