"""A small real sample of every campaign, by the campaign's own code."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campaigns import (
    damage,
    digits,
    every_step,
    faults,
    fine_tuning,
    kill,
    nonfinite,
    onnx,
    peers,
    precision,
    protocols,
    readme,
    running,
)
from campaigns.running import fingerprint, finish, unlike
from residual.errors import EnvironmentFault
from residual.runs.folder import RunFolder
from residual.training.train import train

pytestmark = pytest.mark.usefixtures("warm")

SAVING = (
    *kill.TINY,
    "--set",
    "steps=40",
    "--set",
    "batch_size=16",
    "--set",
    "checkpoint.every_steps=2",
    "--set",
    "compute.precision=float32",
)
SMALL_NETWORK = {"network.name": "resnet-8", "network.widths": [4, 4, 8]}
SMALL_CIFAR = tuple(
    word
    for change in ("data.limit=2000", "network.name=resnet-8", "network.widths=[8,16,32]", "compute.precision=float32")
    for word in ("--set", change)
)


@pytest.mark.parametrize("variant", every_step.VARIANTS)
def test_every_step_of_a_tiny_run_can_be_gone_on_from(variant: str, tmp_path: Path) -> None:
    steps = 12 if "hold" in variant else 5
    found = every_step.restore_each(every_step.VARIANTS[variant], steps, tmp_path)
    assert found["identical"] == steps + 1, found["different"]


def test_a_hold_ends_in_the_tiny_run_that_is_resumed_at_every_step(tmp_path: Path) -> None:
    from residual.training.train import train

    changes = every_step.VARIANTS["hold until the error falls"]
    run = train("digits", set={**every_step.TINY, **changes, "steps": 12}, out=tmp_path / "run")
    events = [record for record in run.records() if record["kind"] == "event"]
    assert len(events) == 1
    assert events[0]["step"] % 3 == 0
    assert events[0]["value"] < 0.89
    rates = {record["step"]: record["rate"] for record in run.records() if record["kind"] == "train"}
    assert {rate for step, rate in rates.items() if step <= events[0]["step"]} <= {0.01}
    assert {rate for step, rate in rates.items() if step > events[0]["step"]} == {0.05}


@pytest.mark.slow
def test_runs_killed_at_random_instants_end_like_the_run_left_alone() -> None:
    found = kill.trial(SAVING, kills=2, seed=3, window=0.25)
    assert found["identical"] == 2, found["rows"]


@pytest.mark.slow
def test_a_saver_that_is_not_atomic_fails_the_same_trial() -> None:
    # Its saves last some hundredths of a second. Where a kill finds nothing to break, other instants are tried.
    trials = (kill.trial(SAVING, kills=1, seed=seed, program=kill.BAD, window=0.02) for seed in range(3, 8))
    assert any(found["identical"] == 0 for found in trials)


def test_damage_is_found_and_the_checkpoint_before_serves() -> None:
    assert damage.judge(damage.examine(bits=60, damages=3, every=1 << 14)) == 0


@pytest.mark.slow
def test_a_disk_that_refuses_costs_no_work() -> None:
    found = faults.sweep(stride=24, kinds=("ENOSPC", "kill"))
    assert found["cases"] >= 12
    assert found["sound"] == found["cases"], found["broken"]


def test_a_value_that_is_not_finite_is_found_in_the_same_step() -> None:
    found = nonfinite.examine(2, {"steps": 9, "checkpoint.every_steps": 3})
    assert found["control_runs_to_its_end"]
    assert {name: place["sound"] for name, place in found["places"].items()} == dict.fromkeys(nonfinite.PLACES, 2)


@pytest.mark.slow
def test_the_embedded_default_learns() -> None:
    found = digits.train_seeds(1, ("--epochs", "3", "--set", "network.widths=[8, 16, 32]"))  # a small part of it
    assert found["test_top1"]["mean"] >= 0.8


def test_what_goes_out_comes_back_and_onnx_runtime_agrees(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs residual[onnx]")
    from residual.training.train import train

    run = train("digits", set={**every_step.TINY, "steps": 12, "checkpoint.every_steps": 12}, out=tmp_path / "run")
    found = onnx.examine(run.path, 150, 40, trips=onnx.TRIPS[:1], kinds=(True,))
    assert [graph["images"] for graph in found["graphs"]] == [150]
    assert onnx.judge(found) == 0, found
    found["round_trips"][0]["identical"] -= 1
    assert onnx.judge(found) == 1


def test_the_libraries_own_networks_are_asked_for_where_they_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(EnvironmentFault, match=r"not every library to compare with can be used: .*torchvision"):
        peers.examine(Path("nowhere"))


def test_a_network_of_timm_answers_as_ours_does(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is no tool of this project")
    found = peers.beside_torch("timm", "resnet18", timm.create_model("resnet18"), tmp_path)
    assert max(found["evaluation"], found["training"], found["statistics"]) <= peers.TOLERANCE


def test_a_network_of_transformers_answers_as_ours_does_and_takes_it_back(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="Transformers is no tool of this project")
    made = peers.of_transformers(transformers, "resnet-18")
    rows = [
        peers.beside_torch("transformers", "resnet-18", made, tmp_path),
        peers.out_to_transformers(transformers, "resnet-18", tmp_path),
    ]
    assert max(row[mode] for row in rows for mode in ("evaluation", "training") if mode in row) <= peers.TOLERANCE


def test_fine_tuning_is_compared_with_training_from_scratch_on_the_same_images(tmp_path: Path) -> None:
    problem = replace(
        fine_tuning.PROBLEMS["digits"],
        per_class=6,
        before={"epochs": 1, **SMALL_NETWORK},
        both={"batch_size": 9, "steps": 6, **SMALL_NETWORK},
        tuned=dict(fine_tuning.PROBLEMS["digits"].tuned) | {"start.unfreeze": [0.3, 0.5, 0.5]},
    )
    own = {"compute.threads": 1, "compute.precision": "float32", "checkpoint.every_seconds": None}
    found = fine_tuning.compare(problem, 2, tmp_path, own)
    assert found["test_images"] == 107
    assert found["frozen_tensors"]["unchanged"] == found["frozen_tensors"]["all"] > 60
    one, two, three = (RunFolder(tmp_path / name).split() for name in ("tuned-0", "scratch-0", "tuned-1"))
    assert one["training"] == two["training"] != three["training"]
    assert len(one["training"]) == 18
    differences = [row["fine-tuned"] - row["from scratch"] for row in found["rows"]]
    assert found["paired_differences"]["fine-tuned"]["values"] == tuple(differences)
    assert fine_tuning.unchanged(RunFolder(tmp_path / "tuned-0"))[0] < found["frozen_tensors"]["all"] / 2
    _, figure, chance = readme.ROWS["fine-tuning"]({"problems": {"digits": found}})
    assert f"{100 * found['test_top1']['fine-tuned']['mean']:.2f} %" in figure
    assert chance == "seeds 0, 1"


def test_protocols_are_judged_beside_each_other_and_read_again_without_the_models(tmp_path: Path) -> None:
    runs = [tmp_path / "first", tmp_path / "second"]
    settings = {"steps": 4, "data.limit": 200, "compute.threads": 1, "compute.precision": "float32", **SMALL_NETWORK}
    for seed, run in enumerate(runs):
        train("digits", set={**settings, "seed": seed}, out=run)
    found = protocols.told(protocols.judged(runs, "10-crop", None, tmp_path / "answers", 100))
    for run in runs:
        shutil.rmtree(run)
    assert protocols.told(protocols.judged(runs, "10-crop", None, tmp_path / "answers", 100)) == found
    assert [one["images"] for one in found["members"]] == [100, 100]
    assert [one["place"] for one in found["members"]] == ["first", "second"]
    assert {one["protocol"] for one in [*found["members"], found["ensemble"]]} == {"10-crop"}
    assert found["members_top1"]["values"] == [one["top1"] for one in found["members"]]
    against = found["paired_with_ensemble"][0]
    assert against["difference"] == pytest.approx(found["ensemble"]["top1"] - found["members"][0]["top1"])
    part = {"title": "x", "images": 100, "runs": ["first", "second"], "protocols": {"10-crop": found}}
    what, figure, _ = readme.ROWS["protocols"]({"parts": {"digits": part}})
    assert f"{100 * found['ensemble']['top1']:.2f} %" in figure
    assert "2 runs, which tell nothing of a deviation" in what
    assert "±" not in figure
    _, figure, _ = readme.ROWS["protocols"]({"parts": {"digits": part | {"runs": ["first", "second", "third"]}}})
    assert "±" in figure


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["cifar10-fast", "cifar10-paper"])
def test_a_cifar_recipe_learns_on_real_images_and_one_resumes(recipe: str, cifar: Path, tmp_path: Path) -> None:
    arguments = ["train", recipe, "--data", str(cifar), *SMALL_CIFAR, "--set", "steps=45", "--log", "plain"]
    finish([*arguments, "--out", str(tmp_path / "whole")])
    result = RunFolder(tmp_path / "whole").result()
    assert result is not None
    assert result["final"]["test"]["images"] == 10_000
    assert result["final"]["validation"]["images"] == 200
    assert result["final"]["test"]["top1"] > 0.18, "ten classes: guessing gives .10"
    if recipe != "cifar10-fast":
        return
    copy = tmp_path / "again"
    shutil.copytree(tmp_path / "whole", copy, ignore=shutil.ignore_patterns("result.json", "model", "step-00000045"))
    finish(["train", "--resume", str(copy), "--log", "plain"])
    assert unlike(fingerprint(tmp_path / "whole"), copy) == []


def test_the_verdict_about_bfloat16_says_no_more_than_its_interval() -> None:
    def runs(*top1: float) -> list[dict[str, object]]:
        return [{"final": {"validation": {"top1": value, "loss": 1.0}}, "seconds": 1.0} for value in top1]

    cases = {"no difference was shown: +0.00": 0.0, "worse by -2.00": -0.02, "better by +2.00": 0.02}
    for words, shift in cases.items():
        full = (0.8, 0.801, 0.799)
        half = [value + shift + extra for value, extra in zip(full, (0.001, -0.001, 0.0), strict=True)]
        found = precision.compare({"float32": runs(*full), "bfloat16": runs(*half)})
        assert words in found["verdict"]
    assert "carries no verdict" in precision.compare({"float32": runs(0.8), "bfloat16": runs(0.8)})["verdict"]


def test_parts_that_were_measured_before_keep_how_they_came_about(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "RESULTS", tmp_path)
    kept: dict[str, Any] = {}
    for words in ("--only one", "--only two", "--only two", ""):
        monkeypatch.setattr(sys, "argv", ["campaigns", "parts", *words.split()])
        path = running.write_result("parts", {"value": words}, 0.0, kept if kept and words else None)
        kept = json.loads(path.read_bytes())
        if words == "--only two":
            assert kept["command"] == 'make campaign parts ARGS="--only two"'
            (earlier,) = kept["earlier"]
            assert earlier["command"] == 'make campaign parts ARGS="--only one"'
            assert {"date", "seconds", "versions", "machine"} <= set(earlier)
    assert "earlier" not in kept, "all of it is of the last command"
