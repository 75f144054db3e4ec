"""Values that are not finite, put into a run at 20 steps each in five places; each must be found in the same step.

input: one pixel of the batch; loss; gradient: one number of a parameter's gradient; weight: one weight before the
step; statistic: one running mean or variance of batch normalisation before the step. Values are NaN, inf and -inf by
turns. The run must stop with an error that names that very step, and every number in the checkpoint and model files of
its folder must be finite. A control, in which nothing is put in, must run to its end.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import safetensors.torch
import torch
from torch import Tensor, nn

from campaigns.running import require, write_result
from residual.chance import stream
from residual.errors import NonFiniteError
from residual.files import Facts
from residual.training import step as stepping
from residual.training.train import train

STEPS = 60
TINY: Facts = {
    "network.name": "resnet-8",
    "network.widths": [4, 8, 16],
    "batch_size": 32,
    "steps": STEPS,
    "data.limit": 400,
    "checkpoint.every_steps": 7,
    "compute.threads": 1,
    "compute.precision": "float32",
}
PLACES = ("input", "loss", "gradient", "weight", "statistic")
VALUES = (math.nan, math.inf, -math.inf)


def steps_of(place: str, count: int, length: int = STEPS) -> list[int]:
    """`count` steps of the run, drawn without repetition; the first and the last are always among them."""
    inner = torch.randperm(length - 2, generator=stream(0, "nonfinite", place))[: count - 2] + 1
    return sorted([0, length - 1, *inner.tolist()])


def _spoil(tensor: Tensor, value: float, step: int) -> None:
    with torch.no_grad():
        tensor[tuple((step + axis) % size for axis, size in enumerate(tensor.shape))] = value


@contextmanager
def injected(place: str, step: int, value: float) -> Iterator[None]:
    """The program with one value put into that step."""
    take, loss_of = stepping.train_step, stepping.loss_of
    now = {"bad": False}

    def spoiled_step(network: nn.Module, optimiser: Any, batch: Any, *others: Any) -> Any:
        now["bad"] = others[2] == step
        hooks = []
        if now["bad"]:
            if place == "input":
                _spoil(batch.images, value, step)
            elif place == "weight":
                parameters = list(network.parameters())
                _spoil(parameters[step % len(parameters)], value, step)
            elif place == "statistic":
                buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
                _spoil(buffers[step % len(buffers)], value, step)
            elif place == "gradient":
                parameters = list(network.parameters())

                def spoil(gradient: Tensor) -> Tensor:
                    spoiled = gradient.contiguous().clone()
                    _spoil(spoiled, value, step)
                    return spoiled

                hooks.append(parameters[step % len(parameters)].register_hook(spoil))
        try:
            return take(network, optimiser, batch, *others)
        finally:
            now["bad"] = False
            for hook in hooks:
                hook.remove()

    def spoiled_loss(logits: Tensor, batch: Any, smoothing: float) -> Tensor:
        loss = loss_of(logits, batch, smoothing)
        return loss * value if now["bad"] and place == "loss" else loss

    with (
        mock.patch("residual.training.session.train_step", spoiled_step),
        mock.patch.object(stepping, "loss_of", spoiled_loss),
    ):
        yield


def finite_on_disk(run: Path) -> bool:
    """Whether every number in every file of tensors of the run is finite; there must be at least a checkpoint's."""
    files = list(run.rglob("*.safetensors"))
    tensors = [tensor for file in files for tensor in safetensors.torch.load(file.read_bytes()).values()]
    return len(files) >= 3 and all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())


def trial(place: str, step: int, value: float, changes: Facts) -> Facts:
    """One run with one value put in: what it said, and whether all is as promised."""
    with tempfile.TemporaryDirectory() as folder:
        run, said = Path(folder) / "run", ""
        try:
            with injected(place, step, value):
                train("digits", set={**TINY, **changes}, out=run)
        except NonFiniteError as error:
            said = str(error)
        found = re.search(r"at step (\d+)", said)
        same_step, finite = found is not None and int(found[1]) == step, finite_on_disk(run)
    return {
        "step": step,
        "value": str(value),
        "said": said.partition(" (")[0],
        "same_step": same_step,
        "finite": finite,
    }


def examine(count: int, changes: Facts | None = None) -> Facts:
    """Every place at `count` steps; and the control."""
    places = {}
    for place in PLACES:
        steps = steps_of(place, count, int((changes or {}).get("steps", STEPS)))
        rows = [trial(place, step, VALUES[n % 3], changes or {}) for n, step in enumerate(steps)]
        sound = sum(row["same_step"] and row["finite"] for row in rows)
        places[place] = {"injected": len(rows), "sound": sound, "rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        run = train("digits", set={**TINY, **(changes or {})}, out=Path(folder) / "run")
        control = run.result() is not None and finite_on_disk(run.path)
    return {"tiny_run": TINY, "places": places, "control_runs_to_its_end": control}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make campaign nonfinite", description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="in each place")
    parser.add_argument("--trial", action="store_true", help="write no result file")
    options = parser.parse_args(argv)
    began = time.monotonic()
    found = examine(options.steps)
    places = found["places"].values()
    code = require(sum(p["sound"] for p in places), sum(p["injected"] for p in places), "found in the same step")
    if not options.trial:
        write_result("nonfinite", found, began)
    return code if found["control_runs_to_its_end"] else 1
