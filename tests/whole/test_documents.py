"""The documents are true: their code runs, their figures are those of the result files, their names exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from campaigns import readme
from campaigns.running import ROOT, environment
from residual.cli.main import app

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_block_of_the_tour_runs_in_its_order(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tour.md").read_text(), re.DOTALL)
    assert len(blocks) >= 7
    (tmp_path / "tour.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-W", "error", "tour.py"],
        cwd=tmp_path,
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


def test_the_figures_of_the_readme_are_those_of_the_result_files() -> None:
    text = (ROOT / "README.md").read_text()
    assert readme.put(text, readme.table()) == text, "run `python -m campaigns readme`"


def test_every_result_file_says_how_it_came_about() -> None:
    files = sorted((ROOT / "results").glob("*.json"))
    assert files
    for file in files:
        result = json.loads(file.read_bytes())
        assert {"format", "kind", "command", "date", "seconds", "versions", "machine"} <= set(result), file.name
        if result["kind"] == "training":
            expected = {"recipe", "network", "data", "protocol", "seed", "device", "images_seen", "final", "by_epoch"}
            assert expected <= set(result), file.name
            assert result["data"]["checksums"]
            assert result["protocol"]["selection"] == "none"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_of_the_project_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_command_the_readme_shows_is_one_the_program_knows() -> None:
    text = (ROOT / "README.md").read_text()
    verbs = set(re.findall(r"^residual ([\w-]+)", text, re.MULTILINE)) | set(re.findall(r"`residual ([\w-]+)", text))
    assert len(verbs) >= 6
    for verb in verbs:
        assert verb in app, verb
    targets = set(re.findall(r"make (\w+)", text))
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets <= rules, targets - rules
