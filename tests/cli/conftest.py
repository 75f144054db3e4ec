"""What the tests of the command line share: small runs, a caller that judges refusals, pictures of a folder."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from residual.analysis.figures import panel_picture
from residual.analysis.style import MAKER
from residual.cli.main import run
from residual.files import replace_file
from tests.conftest import subprocess_environment

SETTINGS = {
    "network.name": "resnet-8",
    "network.widths": "[4,4,4]",
    "data.limit": "100",
    "batch_size": "30",
    "compute.precision": "float32",
    "compute.threads": "1",
    "checkpoint.every_steps": "2",
    "checkpoint.keep": "3",
}
TINY = ("train", "digits", "--log", "plain", *(t for path, v in SETTINGS.items() for t in ("--set", f"{path}={v}")))
SIX = (*TINY, "--set", "steps=6")
"""Six steps, with checkpoints at 2, 4 and 6."""
LONG = (*TINY, "--set", "steps=1000000", "--set", "evaluation.every_epochs=30")
"""More steps than any test waits for."""

Photo = dict[str, tuple[int, bytes]]


class Said(NamedTuple):
    code: int
    out: str
    err: str


def photograph(folder: Path) -> Photo:
    """Kind, rights and content of everything below a folder; locks, which say nothing, are left out."""
    found: Photo = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        content = b""
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        elif stat.S_ISREG(mode) and path.stat().st_size < 1 << 24:
            content = path.read_bytes()
        if path.name != "lock":
            found[str(path.relative_to(folder))] = (mode, content)
    return found


def only_error(said: Said) -> str:
    """The one line on standard error; warnings may stand before it."""
    *before, line = said.err.splitlines()
    assert line.startswith("error: "), said.err
    assert all(earlier.startswith("warning: ") for earlier in before), said.err
    assert "Traceback" not in said.err + said.out
    assert "fault of the program" not in line
    text = line.removeprefix("error: ")
    assert text[0] == text[0].lower() or text.startswith("Python"), line
    assert ": " in text, line  # what (where): what to do
    assert line.isprintable()
    return line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RESIDUAL_RUNS", raising=False)
    return tmp_path


@pytest.fixture
def say(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`say("models", "--json")` gives one command line to the program, in this process."""

    def call(*arguments: object) -> Said:
        capsys.readouterr()
        code = run([str(a) for a in arguments])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def refused(say: Callable[..., Said], here: Path) -> Callable[..., str]:
    """`refused(2, ["train", ...], "word")`: that code, one line with these words, and nothing on disk changed."""

    def call(code: int, arguments: list[Any] | tuple[Any, ...], *words: str) -> str:
        before = photograph(here)
        said = say(*arguments)
        line = only_error(said)
        assert said.code == code, line
        assert [word for word in words if word not in line] == [], line
        assert photograph(here) == before
        return line

    return call


def few_figures(patch: pytest.MonkeyPatch) -> None:
    """Let a report draw little, for tests that judge where its figures go and not what they show."""
    drawn: dict[str, bytes] = {}

    def panel(lines: Any, panel: Any, against: Any, kind: Any) -> bytes:
        return drawn.get(kind) or drawn.setdefault(kind, panel_picture(lines, panel, against, kind))

    patch.setattr("residual.analysis.page.panel_picture", panel)
    patch.setattr("residual.analysis.report.MOST_MISTAKES", 1)
    patch.setattr("residual.analysis.reporting.draw_curves", lambda lines, path, *_: replace_file(path, MAKER.encode()))


@pytest.fixture(scope="session")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("six") / "run"
    assert run([*SIX, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def finished(six: Path, here: Path) -> Path:
    """A finished run of six steps, `run` in the working folder."""
    return Path(shutil.copytree(six, here / "run")).relative_to(here)


@pytest.fixture
def unfinished(finished: Path) -> Path:
    """The same run as it was after four steps: checkpoints 2 and 4."""
    shutil.rmtree(finished / "model")
    shutil.rmtree(finished / "checkpoints" / "step-00000006")
    (finished / "result.json").unlink()
    return finished


class Process:
    """The program at work in the background."""

    def __init__(self, folder: Path, arguments: tuple[object, ...], **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "residual", *map(str, arguments)],
            cwd=folder,
            env=subprocess_environment({"OMP_NUM_THREADS": "1", **options.pop("env", {})}),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            **options,
        )

    def wait_for(self, happened: Callable[[], object]) -> None:
        until = time.monotonic() + 60
        while not happened():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.02)

    def end(self, timeout: float = 60) -> Said:
        out, err = self.process.communicate(timeout=timeout)
        return Said(self.process.returncode, out, err)


@pytest.fixture
def start(here: Path, warm: None) -> Iterator[Callable[..., Process]]:
    """`start("train", ...)` begins a process; what is left of it at the end is killed."""
    begun: list[Process] = []

    def call(*arguments: object, **options: Any) -> Process:
        begun.append(Process(here, arguments, **options))
        return begun[-1]

    yield call
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
