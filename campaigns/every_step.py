"""State saved at every step of a tiny run; each restored, and each whole rest compared.

A restored run starts from a copy of the folder that holds one checkpoint and the record file of the
*finished* run, so it must also cut the records back.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from campaigns.running import fingerprint, require, unlike, write_result
from residual.files import Facts
from residual.runs.folder import MODEL, RESULT, RunFolder
from residual.training.train import resume, train

TINY: Facts = {
    "network.name": "resnet-8",
    "network.widths": [4, 8, 16],
    "batch_size": 32,
    "evaluation.every_epochs": 0.2,
    "checkpoint.every_steps": 1,
    "checkpoint.keep": 1000,
    "compute.threads": 1,
    "compute.precision": "float32",
}
VARIANTS: dict[str, Facts] = {
    "one cycle": {},
    "dropout": {"network.dropout": 0.3},
    "hold until the error falls": {
        "schedule.kind": "steps",
        "schedule.rate": 0.05,
        "schedule.drops": [30],
        "schedule.hold.rate": 0.01,
        "schedule.hold.until_error": 0.89,
        "schedule.hold.window": 3,
    },
    "bfloat16": {"compute.precision": "bfloat16"},
}


def restore_each(changes: Facts, steps: int, place: Path) -> Facts:
    """Run `steps` steps; go on from the checkpoint of each; count the rests that are identical."""
    whole = train("digits", set={**TINY, **changes, "steps": steps}, out=place / "whole")
    reference = fingerprint(whole.path)
    different: dict[int, list[str]] = {}
    for step in range(steps + 1):
        copy = place / f"from-{step}"
        shutil.copytree(whole.path, copy, ignore=shutil.ignore_patterns(MODEL, RESULT, "lock*"))
        for other in RunFolder(copy).steps():
            if other != step:
                shutil.rmtree(RunFolder(copy).checkpoint_path(other))
        resume(copy)
        wrong = unlike(reference, copy)
        if wrong:
            different[step] = wrong
        shutil.rmtree(copy)
    return {"steps": steps, "restored": steps + 1, "identical": steps + 1 - len(different), "different": different}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign every-step", description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args(argv)
    began = time.monotonic()
    found = {}
    code = 0
    for name, changes in VARIANTS.items():
        with tempfile.TemporaryDirectory() as place:
            found[name] = restore_each(changes, options.steps, Path(place))
        code |= require(found[name]["identical"], found[name]["restored"], f"{name}: identical rests")
    write_result("every-step", {"tiny_run": TINY, "variants": found}, began)
    return code
