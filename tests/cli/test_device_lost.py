"""A device that is lost, or has too little memory, in the middle of a run: one line, and the last checkpoint stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from residual.models import ResidualNetwork, build
from residual.runs.folder import RunFolder
from residual.training import opening
from residual.training.step import train_step
from tests.cli.conftest import SIX, only_error

pytestmark = pytest.mark.usefixtures("undrawn")

LOST = "CUDA error: unspecified launch failure. CUDA kernel errors might be reported at some other call."
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.AcceleratorError(LOST), ["the GPU failed", "unspecified launch failure", "--resume"]),
        (torch.OutOfMemoryError(FULL), ["out of memory", "batch_size", "smaller"]),
    ],
)
def test_the_run_stops_at_the_step_and_goes_on_from_the_checkpoint(
    error: Exception, words: list[str], say: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say(*SIX, "--out", "whole").code == 0

    def fail_at_five(*arguments: Any) -> Any:
        if arguments[5] == 5:
            raise error
        return train_step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("residual.training.session.train_step", fail_at_five)
        said = say(*SIX, "--out", "run")
    assert said.code == 6
    assert [line for line in said.err.splitlines() if line.startswith("error: ")] == said.err.splitlines()
    assert [word for word in words if word not in said.err] == []
    found = RunFolder(here / "run").newest_checkpoint()
    assert found is not None
    assert found[0]["step"] == 4
    assert say("train", "--resume", "run", "--log", "plain").code == 0
    weights = [(here / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]


def test_what_does_not_fit_at_all_is_one_line_and_the_checkpoint_stays(
    say: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10**6))

    def refuse(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training and next(calls) >= 5:  # a call a step, until the sixth does not fit
            torch.empty(1 << 58, dtype=torch.uint8)

    def fragile(spec: Any, seed: int) -> ResidualNetwork:
        network = build(spec, seed)
        network.stages[1].register_forward_pre_hook(refuse)
        return network

    monkeypatch.setattr(opening, "build", fragile)
    said = say(*SIX, "--out", "run")
    assert said.code == 6
    line = only_error(said)
    assert "out of memory at step 5, even with a single image at a time" in line
    found = RunFolder(here / "run").newest_checkpoint()
    assert found is not None
    assert found[0]["step"] == 4
