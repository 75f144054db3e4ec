"""The documents are true: their code runs, their figures are those of the result files, their names exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from campaigns import readme
from campaigns.running import ROOT, environment
from residual.cli.asked import CUSTOMARY
from residual.cli.main import app
from residual.training.recipe import override
from residual.training.recipes import find_recipe
from residual.training.settings import settings
from residual.training.values import parse_override

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.slow
def test_every_block_of_the_tour_runs_in_its_order(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tour.md").read_text(), re.DOTALL)
    assert len(blocks) >= 7
    program = "\n".join(blocks)
    for long, short in (('"epochs": 3', '"epochs": 2'), ('"steps": 20', '"steps": 4')):
        assert program.count(long) == 1
        program = program.replace(long, short)
    (tmp_path / "tour.py").write_text(program)
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


def _shown() -> list[tuple[str, list[str]]]:
    """Every command line of the documents for users: the document, and its words after `residual`."""
    found = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        if document.name in ("claims.md", "log.md"):  # written by the program; of its time
            continue
        text = document.read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
        lines += re.findall(r"^    (residual .*)$", text, re.MULTILINE)
        for line in lines:
            # No shell is asked: a comment ends the line, and what is meant for another command is left out.
            for command in re.findall(r"(?:^|-m |; )residual (\w[^;&|#>]+)", line):
                found.append((document.name, [word.strip("'\",.`") for word in command.split()]))
    return found


SHOWN = _shown()


def test_there_are_commands_in_the_documents() -> None:
    assert len(SHOWN) > 100
    assert len({words[0] for _, words in SHOWN}) > 15


@cache
def _options(words: tuple[str, ...]) -> tuple[frozenset[str], str]:
    """The options of the command that these two words begin with, and its name."""
    here, name = app, []
    for word in words:
        if word.startswith("-") or word not in here:
            break
        here = here[word]
        name.append(word)
    arguments = here.assemble_argument_collection() if here.default_command is not None else ()
    return frozenset(name for one in arguments for name in one.names), " ".join(name)


def test_every_option_that_is_shown_is_one() -> None:
    for document, words in SHOWN:
        options, name = _options(tuple(words[:2]))
        said = f"{document}: residual {' '.join(words)}"
        assert name or words[0].startswith("-"), said
        own = words[: words.index("--launch") + 1] if "--launch" in words else words  # then come a launcher's
        for word in own:
            if word.startswith("--") and len(word) > 2:
                assert word.partition("=")[0] in {*options, "--help", "--version", "--debug"}, said


def test_every_setting_that_is_shown_is_one() -> None:
    known = {one.path for one in settings()} | {"network", "optimiser", "schedule"}
    known |= {one.path.removeprefix("network.") for one in settings("network")}  # as `residual models` has them
    shown = {
        path
        for document in DOCUMENTS
        if document.name not in ("claims.md", "log.md")
        for path in re.findall(r"--set '?([\w.]+)=", document.read_text(encoding="utf-8"))
    }
    assert len(shown) > 10
    assert shown <= known
    table = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8").partition("## What it is called")[2]
    groups = {path.partition(".")[0] for path in known}
    named = {word.partition("=")[0] for word in re.findall(r"`([a-z_]+\.[a-z_.]+(?:=\S+)?)`", table)}
    assert len(named) > 20
    assert {word for word in named if word.partition(".")[0] in groups} <= known


def _rows_of_other_tools() -> list[str]:
    """What stands on our side of each row, with `DATA/` as a folder of photographs."""
    text = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
    return [row.split(" | ", 1)[1] for row in text.splitlines() if row.startswith("| ") and "| here |" not in row]


def _alternatives(cell: str) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Recipe and settings of each command, and of the settings that a cell gives with a value, apart by `, or `."""
    found = []
    for part in cell.split("`, or `"):
        words = [word for text in re.findall(r"`([^`]+)`", f"`{part}`".replace("``", "`")) for word in shlex.split(text)]
        started = "--from" in words
        given = [word for word in words if re.fullmatch(r"[a-z_]+\.[a-z_.]+=\S+", word)]
        lengths = [("epochs", float(words[at + 1])) for at, word in enumerate(words) if word == "--epochs"]
        changes = [*lengths[:1], *(parse_override(word) for word in given)]
        if given or lengths:
            found.append(("photos-finetune" if started else "photos", changes))
    return found


def test_what_other_tools_are_answered_with_can_be_trained() -> None:
    """The settings of a row are accepted together, by the recipe that photographs get."""
    rows = [one for cell in _rows_of_other_tools() for one in _alternatives(cell)]
    assert len(rows) >= 8
    for recipe, changes in rows:
        override(find_recipe(recipe), changes)
    (adam,) = (dict(changes) for _, changes in rows if ("optimiser.kind", "adamw") in changes)
    assert override(find_recipe("photos"), adam.items()).optimiser.kind == "adamw"
    for answer in CUSTOMARY.values():
        override(find_recipe("photos"), map(parse_override, re.findall(r"--set (\w[\w.]+=[^\s,]+)", answer)))
