"""What several processes must agree on before step 0, told by the one that differs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
import torch

from residual.errors import DataError, EnvironmentFault, UsageError
from residual.launch import Launch
from residual.models import NetworkSettings, build, resolve
from residual.models.synchronised import SynchronisedBatchNorm, apart, own_statistics, synchronise
from residual.ranks import ALONE, Ranks
from residual.runs.folder import RunFolder
from residual.training import processes
from residual.training.compute import Compute
from residual.training.processes import _each_has_a_gpu
from residual.training.recipe import ComputeSettings, override
from residual.training.recipes import RECIPES
from residual.training.sharing import (
    check_alike,
    check_shares,
    check_versions_alike,
    choose_together,
    chosen_anew,
    found_here,
    on_rank,
)

T = TypeVar("T")


class Second(Ranks):
    """Rank 1 of 2, which is told what rank 0 has."""

    rank, world, local = 1, 2, 1

    def __init__(self, told: Any = None) -> None:
        self.told = told

    def first(self, make: Callable[[], T]) -> T:
        found: T = self.told if self.told is not None else make()
        return found


FACTS = {
    "recipe": RECIPES["digits"].model_dump(mode="json"),
    "data": {"name": "digits", "checksums": {"a": "1", "b": "2"}, "class_names": ["0", "1"], "origin": "embedded"},
    "network": {"name": "resnet-20"},
    "chosen": {"steps": 10},
    "settled": {},
}
SPLIT = {"training": [0, 1], "validation": [2]}


def told(facts: Any = FACTS, split: Any = SPLIT) -> Any:
    """What such a rank 0 would tell."""
    found: list[Any] = []

    class Listening(Ranks):
        def first(self, make: Callable[[], T]) -> T:
            found.append(make())
            return make()

    check_alike(facts, split, Listening())
    return found[0]


def test_processes_that_are_alike_go_on() -> None:
    check_alike(FACTS, SPLIT, Second(told()))
    check_versions_alike({"torch": "2.13"}, Second({"torch": "2.13"}))


@pytest.mark.parametrize(
    ("facts", "split", "error", "word"),
    [
        ({"recipe": {**FACTS["recipe"], "seed": 7}}, SPLIT, UsageError, "seed 0 and not 7"),
        ({"data": {**FACTS["data"], "checksums": {"a": "1", "b": "3"}}}, SPLIT, DataError, "rank 0 has: b"),
        ({}, {"training": [0, 2], "validation": [1]}, DataError, "held-out images differ"),
        ({"chosen": {"steps": 11}}, SPLIT, UsageError, "another network or length"),
    ],
)
def test_what_differs_is_named(facts: Any, split: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        check_alike(FACTS, SPLIT, Second(told(FACTS | facts, split)))


def test_the_place_of_the_data_may_differ() -> None:
    data = {**FACTS["recipe"]["data"], "path": "/elsewhere", "threads": 3}
    check_alike(FACTS, SPLIT, Second(told(FACTS | {"recipe": {**FACTS["recipe"], "data": data}})))


def test_another_version_is_named() -> None:
    with pytest.raises(EnvironmentFault, match=r"torch 2\.12 and not 2\.13"):
        check_versions_alike({"torch": "2.12", "numpy": "2"}, Second({"torch": "2.13", "numpy": "2"}))


@pytest.mark.parametrize(
    ("changes", "world", "word"),
    [
        ({"batch_size": 33}, 2, "a batch of 33 cannot be shared equally by 2 processes"),
        ({"batch_size": 8}, 16, "cannot be shared equally by 16"),
        ({"batch_size": 30, "data.augment.mixup": 0.2}, 2, "each of 2 processes has 15 images"),
        ({"batch_size": 48, "network.norm_group": 16}, 2, "groups of 16 images do not fill the 24"),
    ],
)
def test_shares_that_cannot_be_are_refused_with_the_numbers(changes: Any, world: int, word: str) -> None:
    recipe = override(RECIPES["digits"], changes.items())
    network = resolve(recipe.network, 10, 1)
    with pytest.raises(UsageError, match=word):
        check_shares(recipe, network, world)
    check_shares(recipe, network, 1)


def test_all_compute_as_rank_0_does_and_no_single_gpu_is_named_for_all() -> None:
    first = Compute("cpu", "bfloat16", "contiguous", 3, False)
    chosen, reasons = choose_together(ComputeSettings(device="cpu"), Second([first.facts(), {"device": "asked for"}]))
    assert (chosen, reasons) == (first, {"device": "asked for"})
    with pytest.raises(UsageError, match="cuda:1 is one GPU and there are 2 processes"):
        choose_together(ComputeSettings(device="cuda:1"), Second())
    with pytest.raises(EnvironmentFault, match="mps does not serve several"):
        on_rank(Compute("mps", "float32", "contiguous", 1, False), Second())


def test_several_processes_of_a_mac_take_the_cpu_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("residual.device.devices", lambda: ["cpu", "mps"])
    monkeypatch.setattr("residual.device.fault_of", lambda name: None)
    chosen, reasons = choose_together(ComputeSettings(precision="float32"), Second())
    assert (chosen.device, chosen.layout) == ("cpu", "channels-last")
    assert reasons["device"] == "mps does not serve several processes"
    with pytest.raises(EnvironmentFault, match="mps does not serve several processes"):
        choose_together(ComputeSettings(device="mps", precision="float32"), Second())


def test_normalisation_is_synchronised_where_there_is_someone_to_do_it_with() -> None:
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 10, 1))
    names, parameters = list(network.state_dict()), list(network.parameters())
    count = len(own_statistics(network))
    synchronise(network, ALONE)
    assert len(own_statistics(network)) == count > 0
    ranks = Second()
    synchronise(network, ranks)
    norms = [module for module in network.modules() if isinstance(module, SynchronisedBatchNorm)]
    assert 2 * len(norms) == count
    assert own_statistics(network) == []
    assert list(network.state_dict()) == names
    assert all(one is other for one, other in zip(network.parameters(), parameters, strict=True))
    with apart(network):
        assert {norm.ranks for norm in norms} == {ALONE}
    assert {norm.ranks for norm in norms} == {ranks}


def test_groups_stay_in_their_process() -> None:
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4), norm_group=8), 10, 1))
    count = len(own_statistics(network))
    synchronise(network, Second())
    assert len(own_statistics(network)) == count > 0


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A machine with two GPUs; what is taken out of the set is what they can do."""
    able = {"bfloat16", "cuda:0", "cuda:1"}
    for place in ("residual.device.devices", "residual.training.sharing.devices"):
        monkeypatch.setattr(place, lambda: ["cpu", "cuda:0", "cuda:1"])
    for place in ("residual.device.fault_of", "residual.training.sharing.fault_of"):
        monkeypatch.setattr(place, lambda name: None if name == "cpu" or name in able else "no kernel image")
    monkeypatch.setattr("residual.training.compute.has_bfloat16", lambda device: "bfloat16" in able)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    return able


def test_a_run_in_bfloat16_does_not_go_on_where_there_is_none(a_gpu: set[str], tmp_path: Path) -> None:
    compute = Compute("cuda:1", "bfloat16", "channels-last", 1, False)
    digits, folder = RECIPES["digits"], RunFolder(tmp_path)
    assert found_here(compute, digits, folder, False, ALONE) == compute
    a_gpu.remove("bfloat16")
    words = r"cuda:1\) has no bfloat16 .*--set compute.precision=float16, and --override where a run goes on"
    for ranks in (ALONE, Second()):
        with pytest.raises(EnvironmentFault, match=words):
            found_here(compute, digits, folder, False, ranks)
    half = ComputeSettings(device="cuda:1", precision="float16", threads=1)
    assert chosen_anew(half, ALONE).precision == "float16"
    with pytest.raises(EnvironmentFault, match=r"has no bfloat16 .*set it to float16 or auto"):
        chosen_anew(ComputeSettings(device="cuda", precision="bfloat16", threads=1), ALONE)


def test_a_run_goes_on_on_the_gpu_that_can_be_used(a_gpu: set[str], tmp_path: Path) -> None:
    compute, folder = Compute("cuda:0", "float32", "channels-last", 1, False), RunFolder(tmp_path)
    a_gpu.remove("cuda:0")
    assert found_here(compute, RECIPES["digits"], folder, False, ALONE).device == "cuda:1"
    a_gpu.remove("cuda:1")
    for ranks in (ALONE, Second()):
        with pytest.raises(EnvironmentFault, match="cannot be used, torch says: no kernel image"):
            found_here(compute, RECIPES["digits"], folder, False, ranks)


def test_a_process_that_goes_on_looks_at_no_gpu_but_its_own(
    a_gpu: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look makes a context, which keeps half a GiB of the GPU of rank 0 for each of the others."""
    seen: list[str] = []
    for place in ("residual.device.fault_of", "residual.training.sharing.fault_of"):
        monkeypatch.setattr(place, seen.append)
    compute = Compute("cuda:0", "float32", "channels-last", 1, False)
    found = found_here(compute, RECIPES["digits"], RunFolder(tmp_path), False, Second())
    assert found.device == f"cuda:{Second().local}"
    assert {*seen} == {found.device}


@pytest.mark.parametrize(
    ("seen", "direct"),
    [
        ([["a", "b"], ["a", "b"]], True),  # torchrun: each sees all
        ([["a"], ["b"]], True),  # srun: each sees its own
        ([["a"], ["a"]], False),
        ([["a", "b"], []], False),
        ([[], []], False),
    ],
)
def test_all_know_whether_each_has_a_gpu_of_its_own(
    seen: list[list[str]], direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = threading.local()
    monkeypatch.setattr("torch.cuda.is_available", lambda: bool(here.gpus))
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(here.gpus))
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda n: SimpleNamespace(uuid=here.gpus[n]))
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    store = cast(Any, torch.distributed).HashStore()

    def asked(rank: int) -> bool:
        here.gpus = seen[rank]
        return _each_has_a_gpu(Launch(rank, 2, rank, 2, "", 0), store)

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(asked, range(2))] == [direct] * 2


def test_rank_0_says_that_gradients_go_by_way_of_the_host(a_gpu: set[str], caplog: pytest.LogCaptureFixture) -> None:
    ranks, compute = Second(), Compute("cuda:0", "float32", "channels-last", 1, False)
    for rank, direct, said in ((0, True, 0), (1, False, 0), (0, False, 1)):
        caplog.clear()
        ranks.rank, ranks.local, ranks.direct = rank, rank, direct
        assert on_rank(compute, ranks).device == f"cuda:{rank}"
        assert len(caplog.records) == said


def test_processes_meet_without_a_context_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Any] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda n: SimpleNamespace(uuid=n))
    monkeypatch.setattr("torch.cuda.set_device", lambda n: begun.append(f"context on {n}"))
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda backend, **_: begun.append(backend))
    monkeypatch.setattr("residual.training.processes._set_pg_timeout", lambda timeout: None)
    assert processes._begin(Launch(0, 1, 0, 1, "", 0), cast(Any, torch.distributed).HashStore(), 1.0)
    assert begun == ["cpu:gloo,cuda:nccl"]


def test_a_run_that_has_its_batches_is_told_other_processes() -> None:
    recipe, network = override(RECIPES["digits"], [("batch_size", 64)]), resolve(NetworkSettings(name="resnet-8"), 10)
    check_shares(recipe, network, 4, begun=True)
    with pytest.raises(UsageError, match="choose a multiple of 3"):
        check_shares(recipe, network, 3)
    with pytest.raises(UsageError, match="the run keeps its batches: start 1 or 2 or 4"):
        check_shares(recipe, network, 3, begun=True)
