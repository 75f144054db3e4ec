"""A small real sample of the campaign `processes`: two processes against one, a NaN on one of them, a killed worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import processes_scaling
from campaigns import processes
from campaigns.launching import free_port, order_faults, process, together
from campaigns.running import fingerprint, unlike
from residual.runs.folder import RunFolder

STEPS = 31  # of 27 an epoch
NAN = "the loss is not finite at step 40 on rank 1 of 2"


@pytest.mark.slow
def test_two_processes_agree_with_one_and_a_killed_one_changes_nothing(tmp_path: Path) -> None:
    whole, bad, killed = (tmp_path / name for name in ("whole", "bad", "killed"))
    longer = [word.replace(f"steps={STEPS}", "steps=50") for word in processes.command(bad, STEPS)]
    check = [*processes.CHECK, "6", *processes.command(whole, STEPS), ":::", *longer, ":::"]
    samples = tmp_path / "samples"
    first, second = together([check] * 2, samples, "nan:1:40")
    found = json.loads(next(line for line in first.out.splitlines() if line.startswith("{")))
    assert found["evaluations_unequal"] == []
    assert found["layer_apart_float64"] < processes.BOUND_DOUBLE
    assert found["steps_apart_float64"] < processes.BOUND_DOUBLE
    assert found["one_step_apart_float32"] < processes.BOUND_SINGLE
    for one in (first, second):
        assert [line for line in one.out.splitlines() if line.startswith("code ")] == ["code 0", "code 7"], one.err
        assert one.err.splitlines()[-1].startswith(f"error: {NAN} (training images "), one.err
    assert RunFolder(bad).steps() == [40, 35]
    assert order_faults(samples, 41) == []

    agent = process(processes.agents(1, killed, STEPS, free_port())[0], tmp_path / "killed-samples", "kill:1:9")
    _, err = agent.communicate(timeout=200)
    assert agent.returncode == 0, err
    assert (tmp_path / "killed-samples" / "done-kill").exists()
    assert unlike(fingerprint(whole), killed) == []
    assert order_faults(tmp_path / "killed-samples", STEPS) == []
    result = RunFolder(killed).result()
    assert result is not None
    assert result["sessions"] == 2


def test_rates_are_those_between_the_lines_without_evaluations(tmp_path: Path) -> None:
    lines = []
    for step, seconds, judged in ((20, 5.0, 1.0), (40, 8.0, 0.5), (60, 10.5, 0.5), (80, 13.0, 0.5)):
        lines.append({"kind": "train", "step": step, "time": {"seconds": seconds}})
        lines.append({"kind": "evaluation", "step": step, "time": {"seconds": judged}})
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert processes_scaling.rates(tmp_path, 10) == [20 * 10 / 2.0, 20 * 10 / 2.0]
