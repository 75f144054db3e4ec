"""A device that is lost, has too little memory, or is not there when a run goes on: one line, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from residual.cli.main import _explain
from residual.device import alike_here
from residual.models import ResidualNetwork, build
from residual.runs.folder import RunFolder
from residual.training import opening
from residual.training.step import train_step
from residual.training.train import resume
from tests.cli.conftest import SIX, only_error

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


def of_a_gpu(run: Path) -> None:
    """Have a run be one of a machine with a GPU, that was killed before it ended."""
    facts = json.loads((run / "run.json").read_bytes())
    facts["chosen"]["device"] = "cuda:2"
    (run / "run.json").write_text(json.dumps(facts))
    (run / "result.json").unlink()


def test_a_run_of_a_gpu_goes_on_without_one_where_that_is_allowed(
    say: Any, refused: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert say(*SIX, "--out", "run").code == 0
    of_a_gpu(here / "run")
    words = ("the run computes on cuda:2, and this machine has cpu", "--resume run --device cpu --override")
    refused(6, ["train", "--resume", "run"], *words)
    shutil.copytree(here / "run", here / "other")
    assert say("train", "--resume", "run", "--device", "cpu", "--override", "--log", "plain").code == 0
    assert say("train", "--resume", "run").code == 0, "a finished one needs no device"
    refused(6, ["train", "--resume", "run", "--extend-to", "8steps", "--out", "longer"], words[0], "add --device cpu")
    assert not (here / "longer").exists()
    assert resume(here / "other", override_safe=True).result() is not None, "as a worker of a search has it"


def test_the_first_gpu_serves_where_another_one_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert alike_here("cuda:2") == ["cuda:0", "cuda:1"]
    assert alike_here("cuda:1") == ["cuda:1", "cuda:0"]
    assert alike_here("cpu") == ["cpu"]


class TritonMissing(RuntimeError):
    __module__ = "torch._inductor.exc"


@pytest.mark.parametrize(
    ("command", "error", "words", "never"),
    [
        ("predict", torch.AcceleratorError(LOST), ["the GPU failed", "give the command again"], "--resume"),
        ("report", RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), ["the GPU failed"], "--resume"),
        ("find-lr", RuntimeError("CUDA unknown error - this may be due to\nan environment"), ["(--device)"], "an env"),
        ("tune", torch.AcceleratorError(LOST), ["go on with --study"], "--resume"),
        ("study", torch.AcceleratorError(LOST), ["go on with the same command"], "--resume"),
        (
            "train",
            RuntimeError("adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set"),
            ["(compute.deterministic)", "leave --deterministic out"],
            "fault of the program",
        ),
        (
            "train",
            RuntimeError("Deterministic behavior was enabled, but this is not deterministic because it uses CuBLAS"),
            ["(compute.deterministic)"],
            "fault of the program",
        ),
        ("train", TritonMissing("Cannot find a working triton\nmore"), ["(compute.compile): set it to none"], "more"),
        ("predict", RuntimeError("GET was unable to find an engine to execute this"), ["out of memory"], "engine"),
        ("train", RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when"), ["out of memory"], "CUBLAS"),
        ("train", RuntimeError("shape '[3]' is invalid"), ["a fault of the program"], "--resume"),
    ],
)
def test_what_a_gpu_says_becomes_advice_that_fits_the_command(
    command: str, error: Exception, words: list[str], never: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _explain(error, [command])
    said = capsys.readouterr().err
    assert code == (1 if "a fault of the program" in words else 6)
    assert said.count("\n") == 1
    assert [word for word in words if word not in said] == []
    assert never not in said
