"""What wrappers put before or beside the names of a network is left off, and told."""

from __future__ import annotations

import pytest
import torch

from residual.errors import ModelError
from residual.models.interchange.families import bring_in
from tests.models.interchange.test_mappings import MADE, foreign


def test_the_prefix_of_data_parallel_is_left_off_only_where_all_have_it():
    library, state, _ = MADE["cifar, option A"]
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    _, report, *_ = bring_in(foreign(wrapped), library, "here")
    assert f"all {len(state)} names begin with module., which is left off" in report.remarks
    del wrapped["module.linear.bias"]
    with pytest.raises(ModelError, match="no network known here has these"):
        bring_in(foreign(wrapped | {"linear.bias": state["linear.bias"]}), library, "here")


@pytest.mark.parametrize("prefixes", [("_orig_mod.",), ("model.",), ("module.", "_orig_mod."), ("model.", "net.")])
def test_so_are_those_of_compile_and_lightning(prefixes):
    library, state, _ = MADE["cifar, option A"]
    wrapped = {"".join(prefixes) + name: tensor for name, tensor in state.items()}
    _, report, *_ = bring_in(foreign(wrapped), library, "here")
    assert [line for line in report.remarks if "is left off" in line] == [
        f"all {len(state)} names begin with {prefix}, which is left off" for prefix in prefixes
    ]


def test_averaged_weights_are_taken_without_their_counter():
    library, state, _ = MADE["cifar, option A"]
    model = torch.optim.swa_utils.AveragedModel(torch.nn.Linear(2, 2)).state_dict()
    assert [name for name in model if not name.startswith("module.")] == ["n_averaged"]
    averaged = {"n_averaged": torch.tensor(1200), **{f"module.{name}": tensor for name, tensor in state.items()}}
    network, report, *_ = bring_in(foreign(averaged), library, "here")
    assert torch.equal(network.state_dict()["classifier.bias"], state["linear.bias"])
    assert report.remarks[0].startswith("n_averaged, 1,200, is left off")
    with pytest.raises(ModelError):  # a name of the network's own, or nothing known
        bring_in(foreign(averaged | {"n_averaged": torch.ones(3)}), library, "here")
