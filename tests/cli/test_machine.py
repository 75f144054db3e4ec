"""Machines that lack something: libraries, a steady clock, a process of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib import metadata

import pytest

from residual import environment
from residual.errors import EnvironmentFault
from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from residual.training import compute
from residual.training.recipe import ComputeSettings
from tests.cli.conftest import SIX, Said, only_error
from tests.conftest import subprocess_environment

USES = (["train"], ["train", "--resume"], ["evaluate"], ["predict", "last", "x.png"])


@pytest.mark.parametrize("arguments", USES, ids=" ".join)
def test_a_library_below_the_minimum(refused, monkeypatch, arguments):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.10.9+cu128" if name == "torch" else real(name))
    refused(6, arguments, "torch 2.10.9+cu128 is too old", sys.executable, f"torch>={environment.MINIMA['torch']}")


def test_an_absent_library(refused, monkeypatch):
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    refused(6, ["train"], "torch is not installed", "pip install")


def test_an_old_python(refused, monkeypatch):
    monkeypatch.setattr(environment, "PYTHON", (99, 0))
    refused(6, ["train"], "is too old", sys.executable)


def shim(residual_cli, here, files: dict[str, str], *arguments: str) -> Said:
    """The program, with files before all others on its path."""
    for name, text in files.items():
        (here / "shim" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "shim" / name).write_text(text)
    path = f"{here / 'shim'}:{subprocess_environment()['PYTHONPATH']}"
    done = residual_cli(*arguments, env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    return Said(done.returncode, done.stdout, done.stderr)


def test_an_old_library_in_a_process(residual_cli, here):
    old = {"torch-1.13.dist-info/METADATA": "Metadata-Version: 2.1\nName: torch\nVersion: 1.13\n"}
    said = shim(residual_cli, here, old, "train")
    assert said.code == 6
    assert "torch 1.13 is too old" in only_error(said)
    assert sorted(path.name for path in here.iterdir()) == ["shim"]


def test_a_library_that_cannot_be_imported(residual_cli, here):
    broken = {"torch/__init__.py": "raise ImportError('libcudart.so.12: cannot open shared object file', name='torch')"}
    said = shim(residual_cli, here, broken, "train")
    assert said.code == 6
    line = only_error(said)
    assert "torch cannot be imported: libcudart.so.12" in line
    assert "pip install" in line


# CUBLAS_WORKSPACE_CONFIG


def test_determinism_minds_cublas_on_a_gpu_alone(monkeypatch):
    settings = ComputeSettings(deterministic=True, precision="float32", threads=1)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "wrong")
    monkeypatch.setattr(compute, "choose_device", lambda _: "cpu")
    assert compute.choose(settings)[0].deterministic
    monkeypatch.setattr(compute, "choose_device", lambda _: "cuda:0")
    with pytest.raises(EnvironmentFault, match=r"CUBLAS_WORKSPACE_CONFIG .*:4096:8") as caught:
        compute.choose(settings)
    assert caught.value.exit_code == 6
    for good in (":4096:8", ":16:8"):
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", good)
        assert compute.choose(settings)[0].device == "cuda:0"


def test_determinism_sets_cublas_where_nobody_has(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    compute.choose(ComputeSettings(deterministic=True, device="cpu", precision="float32", threads=1))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


# The clock


def test_a_clock_that_runs_backwards(say, here, six, monkeypatch):
    start, calls = time.time(), iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: start - 3600 * next(calls))
    for zone in ("Pacific/Kiritimati", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert say(*SIX, "--out", zone).code == 0
        run = RunFolder(here / zone)
        steps = [record["step"] for record in run.records()]
        assert steps == sorted(steps)
        assert all(record["time"]["seconds"] >= 0 for record in run.records())
        assert timeless(run.records()) == timeless(RunFolder(six).records())
        assert run.facts()["created"].endswith("+00:00")
    monkeypatch.undo()
    time.tzset()


# Processes

GO = """
import json, sys
import residual

SETTINGS = {
    "network.name": "resnet-8", "data.limit": 400, "steps": 3, "compute.precision": "float32",
    "batch_size": 64, "checkpoint.every_steps": 2,
}

def go(out):
    run = residual.train("digits", set=SETTINGS, out=out)
    print(json.dumps([out, run.facts()["chosen"]["threads"], run.result()["final"]["test"]["loss"]]), flush=True)
"""

# No `__main__` guard: nothing of ours needs one.
FORK = (
    GO
    + """
import multiprocessing, pathlib, shutil
from residual.cli.main import run

def in_child(target, *arguments):
    child = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        sys.exit("the child hangs")
    return child.exitcode

go("parent")
assert in_child(go, "child") == 0
assert in_child(residual.evaluate, "parent") == 0
parent = pathlib.Path("parent")
shutil.rmtree(parent / "model")
shutil.rmtree(parent / "checkpoints" / "step-00000003")
(parent / "result.json").unlink()
code = in_child(lambda: sys.exit(run(["train", "--resume", "parent"])))
assert code == 6, code
code = in_child(lambda: sys.exit(run(["train", "--set", "compute.threads=2"])))
assert code == 6, code
"""
)

SPAWN = (
    GO
    + """
import multiprocessing

if __name__ == "__main__":
    go("parent")
    child = multiprocessing.get_context("spawn").Process(target=go, args=("child",))
    child.start()
    child.join(60)
    assert child.exitcode == 0
"""
)


def script(here, text: str, threads: int) -> tuple[list[list], str]:
    (here / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=here,
        env=subprocess_environment({"OMP_NUM_THREADS": str(threads)}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_training_in_a_forked_child_of_a_process_that_trained(here):
    lines, err = script(here, FORK, 2)
    (parent, several, expected), (child, one, found) = lines
    assert (parent, several, child, one) == ("parent", 2, "child", 1)
    assert found == pytest.approx(expected, rel=1e-3)
    first, second = err.splitlines()
    for line in (first, second):
        assert line.startswith("error: 2 threads cannot be used in a forked process (compute.threads): set it to 1")


def test_training_in_a_spawned_child(here):
    lines, err = script(here, SPAWN, 1)
    assert err == ""
    assert [line[0] for line in lines] == ["parent", "child"]
    assert lines[0][1:] == lines[1][1:]
