"""What a run tells torch of determinism ends with it, and stands before CUDA starts."""

from __future__ import annotations

import os

import torch

from residual.training.compute import Compute
from residual.training.train import resume, train
from residual.training.trial import untouched

TINY = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 4],
    "data.limit": 120,
    "batch_size": 40,
    "steps": 3,
    "compute.threads": 1,
    "compute.precision": "float32",
}


def test_a_run_leaves_the_process_as_it_was(tmp_path):
    assert not torch.are_deterministic_algorithms_enabled()
    run = train("digits", set=TINY | {"compute.deterministic": True}, out=tmp_path / "run")
    assert run.facts()["chosen"]["deterministic"]
    assert not torch.are_deterministic_algorithms_enabled()
    resume(run.path)
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_the_caller_asked_of_torch_stays():
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with untouched(torch.device("cpu")):
            torch.use_deterministic_algorithms(True)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_stored_choice_prepares_a_gpu_as_a_new_one_does(monkeypatch):
    chosen: list[torch.device] = []
    told: list[bool] = []
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", told.append)
    Compute("cuda:1", "float32", "channels-last", torch.get_num_threads(), True).prepare()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert chosen == [torch.device("cuda:1")]
    assert told == [True]
    assert not torch.backends.cudnn.allow_tf32
