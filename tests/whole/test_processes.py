"""A small real sample of the campaign `processes`: two processes against one, a NaN on one of them, a killed worker."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import processes_scaling
from campaigns import processes
from campaigns.launching import free_port, order_faults, process, together
from campaigns.running import fingerprint, unlike
from residual.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("warm")

STEPS = 28  # of 27 an epoch
NAN = "the loss is not finite at step 30 on rank 1 of 2"


@pytest.mark.slow
def test_two_processes_agree_with_one_and_a_killed_one_changes_nothing(tmp_path: Path) -> None:
    killed, whole, bad = (tmp_path / name for name in ("killed", "whole", "bad"))
    words = [*processes.CHECK[1:], "3"]
    for run, steps in ((killed, STEPS), (whole, STEPS), (bad, 40)):
        words += [*processes.command(run, steps), ":::"]
    command = processes.agents(1, killed, free_port(), words)[0]
    agent = process(command, tmp_path / "samples", "kill:1:9 nan:1:30")
    out, err = agent.communicate(timeout=280)
    assert agent.returncode == 0, err
    found = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert found["evaluations_unequal"] == []
    assert found["layer_apart_float64"] < processes.BOUND_DOUBLE
    assert found["steps_apart_float64"] < processes.BOUND_DOUBLE
    assert found["one_step_apart_float32"] < processes.BOUND_SINGLE
    codes = [line for line in out.splitlines() if line.startswith("code ")]
    assert sorted(codes) == ["code 0"] * 4 + ["code 7"] * 2, out + err
    assert err.count(f"error: {NAN} (training images ") == 2, err
    assert RunFolder(bad).steps() == [30, 25]

    assert (tmp_path / "samples" / "done-kill").exists()
    result = RunFolder(killed).result()
    assert result is not None
    assert (result["sessions"], result["processes"]) == (2, [2, 2])
    assert unlike(fingerprint(whole), killed) == []
    assert order_faults(tmp_path / "samples", 31) == []


@pytest.mark.slow
def test_a_study_of_arms_is_shared_and_rank_0_alone_speaks_and_writes(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "residual",
        "study",
        "dropout",
        "digits",
        "--depth",
        "8",
        "--steps",
        "4",
        "--seeds",
        "1",
    ]
    settings = {
        "data.limit": 100,
        "batch_size": 20,
        "network.widths": [4, 4, 8],
        "compute.threads": 1,
        "compute.precision": "float32",
    }
    words += [word for path, value in settings.items() for word in ("--set", f"{path}={json.dumps(value)}")]
    first, other = together([[*words, "--out", str(tmp_path / "study")]] * 2, tmp_path / "samples")
    assert (first.code, other.code) == (0, 0), first.err + other.err
    assert "evidence" in first.out
    assert other.out == ""
    for arm in ("none", "dropout"):
        result = RunFolder(tmp_path / "study" / arm / "seed-0").result()
        assert result is not None
        assert result["processes"] == [2]


@pytest.mark.slow
def test_a_finished_run_is_found_so_where_one_machine_has_its_images_elsewhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("dark", "light"):
        (tmp_path / "here" / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 120, (24, 24, 3), dtype=np.uint8) + (120 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "here" / name / f"{number}.png")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    words = [
        sys.executable,
        "-m",
        "residual",
        "train",
        "photos",
        "--network",
        "resnet-8",
        "--out",
        str(tmp_path / "run"),
    ]
    settings = {"steps": 2, "batch_size": 4, "data.image_size": 32, "network.widths": [4, 4, 4], "start.freeze": "none"}
    settings |= {"data.test": 0.2, "compute.threads": 1, "compute.precision": "float32"}
    words += [word for path, value in settings.items() for word in ("--set", f"{path}={json.dumps(value)}")]
    both = [[*words, "--data", str(tmp_path / place)] for place in ("here", "there")]
    for samples in ("first", "again"):
        ended = together(both, tmp_path / samples)
        assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    assert [entry["event"] for entry in RunFolder(tmp_path / "run").sessions()] == ["began", "finished"]


def test_rates_are_those_between_the_lines_without_evaluations(tmp_path: Path) -> None:
    lines = []
    for step, seconds, judged in ((20, 5.0, 1.0), (40, 8.0, 0.5), (60, 10.5, 0.5), (80, 13.0, 0.5)):
        lines.append({"kind": "train", "step": step, "time": {"seconds": seconds}})
        lines.append({"kind": "evaluation", "step": step, "time": {"seconds": judged}})
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert processes_scaling.rates(tmp_path, 10) == [20 * 10 / 2.0, 20 * 10 / 2.0]
