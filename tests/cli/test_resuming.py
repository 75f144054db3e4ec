"""Going on with a run: what is refused, what is passed over, and what a signal leaves behind."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from residual.files import canonical, digest
from residual.runs.folder import RunFolder
from residual.runs.records import timeless
from tests.cli.conftest import LONG, SIX, Said, only_error, photograph
from tests.conftest import subprocess_environment

pytestmark = pytest.mark.usefixtures("warm")

NEWEST, BEFORE = "checkpoints/step-00000004", "checkpoints/step-00000002"


def same_figures(run: Path, other: Path) -> bool:
    return timeless(RunFolder(run).records()) == timeless(RunFolder(other).records())


# Refusals of --resume


OTHER = {
    "network": (["--network", "resnet-14"], ["network.name: 'resnet-8' in the run, 'resnet-14' asked"]),
    "optimiser": (["--set", "optimiser.momentum=0.5"], ["optimiser.momentum: 0.95 in the run, 0.5 asked"]),
    "batch": (["--batch-size", "20"], ["batch_size: 30 in the run, 20 asked"]),
    "seed": (["--seed", "3"], ["seed: 0 in the run, 3 asked"]),
    "length": (["--epochs", "9"], ["steps: 6 in the run, None asked", "epochs: None in the run, 9.0 asked"]),
    "schedule": (["--set", "schedule.kind=steps"], ["schedule.kind: 'one-cycle' in the run, 'steps' asked"]),
    "several": (["--seed", "3", "--batch-size", "20"], ["seed: 0 in the run", "batch_size: 30 in the run"]),
    "beside a harmless one": (["--seed", "3", "--set", "checkpoint.keep=5", "--override"], ["seed: 0", "keep"]),
    "recipe": (["digits"], ["batch_size: 30 in the run, 64 asked", "steps: 6 in the run"]),
}


@pytest.mark.parametrize(("arguments", "words"), OTHER.values(), ids=OTHER)
def test_another_run_is_not_this_run_gone_on_with(refused, unfinished, arguments, words):
    refused(2, ["train", "--resume=run", *arguments], "the run differs", "(run)", "start a new run", *words)


@pytest.mark.parametrize("change", ["checkpoint.keep=5", "compute.threads=2", "checkpoint.every_seconds=1"])
def test_harmless_differences_need_a_word(refused, say, unfinished, change):
    line = refused(2, ["train", "--resume", "run", "--set", change], change.split("=")[0], "add --override")
    assert "start a new run" not in line
    said = say("train", "--resume", "run", "--set", change, "--override", "--log", "plain")
    warned = "may differ in its last bits from an uninterrupted run: threads 1 -> 2" in said.err
    assert (said.code, warned, said.err.count("\n")) == (0, "threads" in change, int("threads" in change))
    assert RunFolder(unfinished).result() is not None


def test_the_same_again_is_no_difference(say, unfinished):
    assert say(*SIX[:1], "--resume", "run", "--seed", 0, *SIX[2:]).code == 0


def test_a_finished_run_says_so_and_stays(say, here, finished):
    before = photograph(here)
    said = say("train", "--resume", "run")
    assert (said.code, said.err) == (0, "")
    assert "finished: step 6" in said.out
    assert photograph(here) == before


def test_resume_without_a_name_takes_the_last_run(say, here, unfinished):
    for number, name in enumerate(("old", "new", "older")):
        place = here / "runs" / name
        shutil.copytree(unfinished, place)
        for path in place.iterdir():
            os.utime(path, (10**9 - number, 10**9 - number))
    os.utime(here / "runs" / "new" / "records.jsonl")
    said = say("train", "--resume", "--log", "plain")
    assert said.code == 0
    assert f"run      {Path('runs') / 'new'}: going on at step 4 of 6" in said.out
    assert RunFolder(here / "runs" / "old").result() is None


# Damaged and absent checkpoints


def truncate(run: Path) -> None:
    path = run / NEWEST / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def flip(name: str):
    def change(run: Path) -> None:
        path = run / NEWEST / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return change


def mix(run: Path) -> None:
    shutil.copy(run / BEFORE / "state.safetensors", run / NEWEST / "state.safetensors")


def move_all(run: Path) -> None:
    shutil.rmtree(run / NEWEST)
    shutil.copytree(run / BEFORE, run / NEWEST)


def no_manifest(run: Path) -> None:
    (run / NEWEST / "manifest.json").unlink()


def add(run: Path) -> None:
    (run / NEWEST / "more.bin").write_bytes(b"x")


def from_the_future(run: Path) -> None:
    path = run / NEWEST / "manifest.json"
    body = json.loads(path.read_bytes()) | {"format": 99, "written_by": "98.7"}
    del body["seal"]
    path.write_bytes(canonical(body | {"seal": digest(canonical(body))}))


def device(run: Path) -> None:
    path = run / NEWEST / "state.safetensors"
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(run: Path) -> None:
    (run / NEWEST / "state.json").unlink()
    os.mkfifo(run / NEWEST / "state.json")


def empty(run: Path) -> None:
    shutil.rmtree(run / NEWEST)
    (run / NEWEST).mkdir()


DAMAGES = {
    "truncated": (truncate, "bytes"),
    "weights": (flip("model.safetensors"), "SHA-256"),
    "optimiser": (flip("state.safetensors"), "SHA-256"),
    "JSON": (flip("state.json"), "SHA-256"),
    "manifest": (flip("manifest.json"), "manifest.json is damaged"),
    "mixed": (mix, "state.safetensors"),
    "another step's": (move_all, "step 2"),
    "no manifest": (no_manifest, "no manifest.json"),
    "symlink to a device": (device, "not a regular file"),
    "pipe": (pipe, "not a regular file"),
    "empty": (empty, "no manifest.json"),
}


@pytest.mark.parametrize(("damage", "word"), DAMAGES.values(), ids=DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(say, unfinished, six, damage, word):
    damage(unfinished)
    said = say("train", "--resume", "run", "--log", "plain")
    assert said.code == 0, said.err
    (line,) = said.err.splitlines()
    assert line.startswith("warning: ")
    assert word in line
    assert "step 4 is set aside, step 2 is next" in line
    assert "going on at step 2 of 6" in said.out
    assert same_figures(unfinished, six)


@pytest.mark.parametrize(("damage", "word"), [(add, "more.bin"), (from_the_future, "install that release")])
def test_one_that_may_be_whole_is_not_passed_over(refused, unfinished, damage, word):
    damage(unfinished)
    refused(4, ["train", "--resume", "run"], word, "move that folder away to go on from step 2")


@pytest.mark.parametrize("damage", ["truncated", "manifest", "symlink to a device", "empty"])
def test_no_sound_checkpoint_is_left(refused, say, unfinished, damage):
    shutil.rmtree(unfinished / BEFORE)
    DAMAGES[damage][0](unfinished)
    refused(4, ["train", "--resume", "run"], "no checkpoint of this run can be used", "step-00000004")
    refused(4, ["evaluate", "run"], "step-00000004")


@pytest.mark.parametrize("damage", ["weights", "another step's"])
def test_evaluation_passes_over_a_damaged_checkpoint(say, unfinished, damage):
    DAMAGES[damage][0](unfinished)
    said = say("evaluate", "run", "--json")
    assert said.code == 0
    assert json.loads(said.out)["step"] == 2


def test_a_run_without_checkpoints(refused, say, unfinished, six):
    for name in (NEWEST, BEFORE):
        (unfinished / name).rename(unfinished / "checkpoints" / f".tmp-{name[-8:]}-1")
    refused(4, ["evaluate", "run"], "no model yet", "residual train --resume run")
    before = (unfinished / "records.jsonl").read_bytes()
    said = say("train", "--resume", "run")
    assert said.code == 4
    assert "the checkpoints are gone of a run that had reached step 6" in only_error(said)
    assert (unfinished / "records.jsonl").read_bytes() == before
    for name in ("records.jsonl", "sessions.jsonl"):  # as if killed before the first of them
        (unfinished / name).unlink()
    said = say("train", "--resume", "run", "--log", "plain")
    assert (said.code, said.err) == (0, "")
    assert "run: starting of 6" in said.out
    assert same_figures(unfinished, six)
    assert sorted(p.name[0] for p in (unfinished / "checkpoints").iterdir()) == ["s"] * 3


def test_what_is_no_run(refused, here, finished):
    (here / "empty").mkdir()
    for verb in (["evaluate"], ["train", "--resume"], ["curves"]):
        refused(2, [*verb, "empty"], "empty", "not a run")
        refused(2, [*verb, "run/checkpoints/step-00000099"], "no such run", "step-00000099")
        refused(4, [*verb, "run/run.json"], "run/run.json", "this is a file, and no run")


def test_a_checkpoint_and_a_model_can_be_judged(say, finished):
    for place, step in (("run/checkpoints/step-00000002", 2), ("run/model", 6), ("run", 6)):
        assert json.loads(say("evaluate", place, "--json").out)["step"] == step


def test_a_checkpoint_that_all_may_write_is_warned_of(say, unfinished):
    (unfinished / NEWEST).chmod(0o777)
    said = say("evaluate", "run/" + NEWEST, "--json")
    assert said.code == 0
    (line,) = said.err.splitlines()
    assert line.startswith("warning: ")
    assert "step-00000004" in line
    assert "chmod o-w" in line


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b'{"format": 1}', b'{"format": 7}', b"\xff"])
def test_a_damaged_run_json(refused, say, unfinished, content):
    (unfinished / "run.json").write_bytes(content)
    line = refused(4, ["train", "--resume", "run"], "run")
    assert "run.json" in line or "newer" in line
    assert say("runs", ".").code == 0  # named as damaged, and hides no other


# A full disk


def test_a_write_that_fails_leaves_the_checkpoint_before_it(unfinished, here, six, say):
    before = photograph(here)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))

    done = subprocess.run(
        [sys.executable, "-m", "residual", "train", "--resume", "run", "--log", "plain"],
        cwd=here,
        env=subprocess_environment({"OMP_NUM_THREADS": "1"}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit,
        check=False,
    )
    line = only_error(Said(done.returncode, done.stdout, done.stderr))
    assert done.returncode == 5
    assert "cannot write" in line
    assert "--resume" in line
    after = photograph(here)
    kept = {name: content for name, content in before.items() if "checkpoints" in name}
    assert {name: content for name, content in after.items() if "checkpoints" in name} == kept
    assert say("train", "--resume", "run", "--log", "plain").code == 0
    assert same_figures(unfinished, six)


def test_a_run_that_may_not_be_written(say, unfinished):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    unfinished.chmod(0o500)
    said = say("train", "--resume", "run")
    unfinished.chmod(0o700)
    assert said.code == 5
    assert "run" in only_error(said)


# Two processes, and signals


@pytest.mark.slow
def test_one_run_has_one_process_and_signals_save_it(start, say, here):
    records = here / "run" / "records.jsonl"

    def has_records() -> bool:
        return records.exists() and records.stat().st_size > 0

    first = start(*LONG, "--out", "run")
    first.wait_for(has_records)
    second = say("train", "--resume", "run")
    assert second.code == 5
    line = only_error(second)
    assert "in use by another process" in line
    assert f"process {first.process.pid}" in line
    first.process.kill()
    assert first.end().code == -signal.SIGKILL

    command = ["train", "--resume", "run"]
    for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")):
        length = (here / "run" / "sessions.jsonl").stat().st_size
        third = start(*command, "--log", "plain")
        third.wait_for(lambda length=length: (here / "run" / "sessions.jsonl").stat().st_size > length)
        began = time.monotonic()
        third.process.send_signal(number)
        said = third.end()
        assert time.monotonic() - began < 10
        assert said.code == 128 + number
        stopped = re.search(rf"stopped by {name} at step ([\d,]+) of", only_error(said))
        newest = RunFolder(here / "run").newest_checkpoint()
        assert stopped is not None
        assert newest is not None
        assert newest[0]["step"] == int(stopped[1].replace(",", ""))
        told = re.search(r"residual (train --resume .*)$", said.err.strip())
        assert told is not None
        command = shlex.split(told[1])
        assert "going on at step" in said.out
