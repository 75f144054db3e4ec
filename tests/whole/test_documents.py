"""The documents are true: their code runs, their figures are those of the result files, their names exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import residual
from campaigns import readme
from campaigns.running import ROOT, environment
from residual.cli.asked import CUSTOMARY
from residual.cli.main import app, run
from residual.cli.runs import runs
from residual.cli.study_asked import Training
from residual.cli.study_seeds import seeds
from residual.cli.train import train
from residual.models import NetworkSettings, count, resolve
from residual.studies.papers import printed
from residual.training.recipe import override
from residual.training.recipes import RECIPES, find_recipe
from residual.training.settings import settings
from residual.training.values import parse_override
from tests.data.photographs import photographs

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "shorter"),
    [
        ("tour", (("epochs=3", "epochs=2"), ('"steps": 20', '"steps": 4'))),
        ("python", (("range(20)", "range(3)"), ('"epochs": 6', '"epochs": 3'))),
    ],
)
def test_every_block_of_a_page_runs_in_its_order(
    tmp_path: Path, page: str, shorter: tuple[tuple[str, str], ...]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), re.DOTALL)
    assert len(blocks) >= 7
    program = "\n".join(blocks)
    for long, short in shorter:
        assert program.count(long) == 1
        program = program.replace(long, short)
    (tmp_path / "page.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
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


def test_nothing_teaches_to_choose_by_the_test_images() -> None:
    shown = [document.read_text(encoding="utf-8") for document in DOCUMENTS] + [str(runs.__doc__)]
    assert not any("--sort test_" in text or "'test_top1>" in text for text in shown)


def test_every_protocol_says_what_becomes_of_photographs_that_are_divided() -> None:
    for command in (train, seeds, Training):
        said = str(command.__doc__).partition("    protocol\n")[2]
        assert "a val/ of their own" in " ".join(said.split()[:45]), command


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
    pages = [(ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("training", "photographs", "data")]
    groups = {path.partition(".")[0] for path in known}
    known |= {"data.augment", "schedule.hold", "schedule.warmup"}
    for text in (table, *pages):
        words = re.findall(r"`([a-z_]+\.[a-z_.]*[a-z_])(?:=\S+)?`", text)
        named = {word for word in words if word.partition(".")[0] in groups and not word.endswith((".md", ".csv"))}
        assert len(named) > 10 or text is pages[1]
        assert named <= known


def test_the_table_of_recipes_is_that_of_the_program() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `([\w-]+)` \| ([\w-]+) \| (.+?) \| ([\d,]+) (epochs|steps) \| (\d+) \| (.+?) \|", text, re.M
    )
    assert {row[0] for row in rows} == {*RECIPES}
    for name, data, network, length, unit, batch, schedule in rows:
        recipe = RECIPES[name]
        assert (data, int(batch)) == (recipe.data.dataset, recipe.batch_size)
        assert network in (f"`{recipe.network.name}`", "that of the weights")
        assert ("weights" in network) == name.endswith("finetune")
        assert float(length.replace(",", "")) == getattr(recipe, unit)
        kind, rate = schedule.split(", ")[:2]
        assert kind == recipe.schedule.kind
        assert float(rate) in (getattr(recipe.schedule, "peak", None), getattr(recipe.schedule, "rate", None))


def test_every_augmentation_that_is_shown_is_taken() -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    table = text.partition("## Augmentation")[2].partition("## Watching")[0]
    shown = re.findall(r"`([a-z_]+\.[a-z_.]+=\S+?)`", table)
    assert len(shown) > 12
    for one in shown:
        override(RECIPES["cifar10-fast"], [parse_override(one)])


def test_the_block_about_other_watchers_tells_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, block),) = (one for one in _blocks("training.md") if one[0] == "python")
    assert block.count('{"epochs": 3}') == 1
    told: list[tuple[dict[str, float], int]] = []
    mlflow = ModuleType("mlflow")
    monkeypatch.setattr(mlflow, "log_metrics", lambda values, step: told.append((values, step)), raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.chdir(tmp_path)
    short = '{"steps": 2, "network": "resnet-8", "compute.precision": "float32"}'
    exec(compile(block.replace('{"epochs": 3}', short), "block", "exec"), {})
    assert {name for values, _ in told for name in values} >= {"loss/training", "top1/validation", "top1/test"}
    assert told[-1][1] == 2


def _rows_of_other_tools() -> list[str]:
    """What stands on our side of each row, with `DATA/` as a folder of photographs."""
    text = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
    return [row.split(" | ", 1)[1] for row in text.splitlines() if row.startswith("| ") and "| here |" not in row]


def _alternatives(cell: str) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Recipe and settings of each command, and of the settings that a cell gives with a value, apart by `, or `."""
    found = []
    for part in cell.split("`, or `"):
        words = [
            word for text in re.findall(r"`([^`]+)`", f"`{part}`".replace("``", "`")) for word in shlex.split(text)
        ]
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


def _blocks(document: str) -> list[tuple[str, str]]:
    """Language and text of the blocks of a document that can be run: no scripts for a scheduler."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    found = re.findall(r"```(sh|python)\n(.*?)```", text, re.DOTALL)
    return [(language, block) for language, block in found if not block.startswith("#!")]


SMALL = ("--set", "steps=2", "--set", "compute.precision=float32", "--log", "plain")


@pytest.mark.slow
def test_every_block_about_photographs_runs_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In one process; trainings are short, and the published weights are those of a small run."""
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "PHOTOS", ["cats", "dogs"], 24)
    photographs(tmp_path / "more", ["cats"], 2)
    shutil.copy(next((tmp_path / "PHOTOS" / "cats").iterdir()), tmp_path / "photo.jpg")
    small = ["--set", "network.widths=[4,4,4,4]", "--out", "weights"]
    assert run(["train", "PHOTOS/", *SMALL, *small]) == 0
    shown = [*_blocks("photographs.md"), *(one for one in _blocks("weights.md") if "photo.jpg" in one[1])]
    assert len(shown) == 8
    names: dict[str, Any] = {}
    for language, block in shown:
        if language == "python":
            exec(compile(block, "block", "exec"), names)
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line.replace("torchvision:resnet50", "weights"), comments=True)
            assert program == "residual"
            more = [*SMALL, *(small[:2] if "--from" not in words else [])] if words[0] == "train" else []
            assert run([*words, *more]) == 0, line
    seen = residual.predict("runs/pets", "photo.jpg")[0].best[0]
    last = capfd.readouterr().out.splitlines()[-1].split()
    assert last[0] == seen[0]
    assert float(last[1]) == pytest.approx(seen[1], abs=0.02)


def test_the_figures_of_the_page_on_the_papers_are_those_of_the_tables() -> None:
    """The papers' beside each name of a row, and ours as the claims have them and the result files."""
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    rows = {name: row for row in text.splitlines() for name in re.findall(r"^\| `([\w-]+)`", row)}
    shown = 0
    for table in printed():
        for arm, error in table.errors.items():
            row = next((row for name, row in rows.items() if name == arm and isinstance(error, float)), None)
            if row is not None and table.study != "tiny-imagenet":
                assert f"{error:.2f}" in "".join(one for one in text.splitlines() if one.startswith(f"| `{arm}`")), arm
                shown += 1
    assert shown > 20
    claims = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    for ours in (
        "7.68",
        "14.96 ± 0.12",
        "15.14 ± 0.08",
        "52.56 ± 1.27",
        "31.43 ± 0.94",
        "31.62 ± 0.63",
        "32.72 ± 0.42",
        "33.73 ± 1.20",
        "32.38 ± 0.79",
        "59.31 ± 0.19",
        "70.31 ± 6.41",
        "30.81 ± 0.25",
    ):
        assert ours in text
        assert ours in claims
    run = json.loads((ROOT / "results" / "cifar10-paper-resnet-20-seed0.json").read_bytes())
    assert f"{run['seconds'] / 60:.0f} minutes" in text
    assert f"{100 * (1 - run['final']['test']['top1']):.2f}" == "7.68"
    networks = json.loads((ROOT / "results" / "train-throughput.json").read_bytes())["networks"]
    rate = networks["resnet-56"]["ours"]["median"]
    assert f"{64_000 * 128 / rate / 3600:.1f} hours without evaluations" in text
    assert f"{rate:.0f} images/s" in text
    for name, row in rows.items():
        if (cost := re.search(r"\| (\d+(?:,\d{3})+) \|", row)) is not None:
            spec = resolve(NetworkSettings(name=name), classes=10)
            assert f"{count(spec, image_size=32).multiply_adds:,}" == cost[1]


def test_the_index_of_decisions_has_all_of_them() -> None:
    folder = ROOT / "docs" / "decisions"
    text = (folder / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"\[(.+?)\]\((\d{4}-.+?\.md)\)", text))
    titles = {path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in folder.glob("0*.md")}
    assert {f"# {int(name[:4])}. {title}": name for title, name in listed.items()} == {
        title: name for name, title in titles.items()
    }
