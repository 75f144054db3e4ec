"""Randomness is an address: the same address gives the same draws, in every process and every release."""

import subprocess
import sys

import pytest
import torch

from residual.chance import derive, seed_device, stream
from tests.conftest import subprocess_environment

# Written down once. Another value here means that every run ever made can no longer be repeated.
KNOWN = {
    (0,): 5254295370254170289,
    (0, "order", 0): 1864822792221289227,
    (1, "order", 0): 1341983847465664397,
    (0, "order", 1): 1332101017241992705,
    (0, "augment", "crop", 7): 2556858705877379372,
    (2026, "initialise", "stem.conv.weight"): 1084686927990172177,
}


@pytest.mark.parametrize(("address", "number"), KNOWN.items(), ids=str)
def test_an_address_keeps_its_number(address, number):
    assert derive(*address) == number
    assert 0 <= number < 2**63


def test_an_address_keeps_its_draws():
    assert torch.randperm(10, generator=stream(0, "order", 0)).tolist() == [2, 1, 4, 8, 3, 0, 9, 5, 6, 7]
    assert torch.rand(3, generator=stream(0, "order", 0)).tolist() == [
        0.6448447704315186,
        0.8680061101913452,
        0.7594305276870728,
    ]


def test_draws_do_not_depend_on_what_was_drawn_before():
    first = torch.rand(5, generator=stream(3, "a", 1))
    torch.manual_seed(1)
    torch.rand(100)
    torch.rand(100, generator=stream(3, "b", 1))
    assert torch.equal(torch.rand(5, generator=stream(3, "a", 1)), first)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    torch.rand(5, generator=stream(3, "a"))
    assert torch.equal(torch.get_rng_state(), before)


def test_other_addresses_have_other_draws():
    addresses: list[tuple[int, *tuple[str | int, ...]]]
    addresses = [(seed, name, epoch) for seed in range(10) for name in ("order", "augment") for epoch in range(10)]
    addresses += [(0, "order"), (0, "order", "0"), (0, "1", 2), (0, 1, "2"), (0, "or", "der", 0), (0, "order, 0")]
    assert len({derive(*address) for address in addresses}) == len(addresses)


def test_the_hash_seed_of_the_interpreter_plays_no_part():
    program = "from residual.chance import derive; print(derive(2026, 'initialise', 'stem.conv.weight'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=subprocess_environment({"PYTHONHASHSEED": "12345"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) == KNOWN[2026, "initialise", "stem.conv.weight"]


def test_the_generators_of_a_device_draw_as_torch_seeds_them(monkeypatch):
    cpu, address = torch.device("cpu"), derive(0, "step", 3, 0)
    draws = []
    for seed in (torch.manual_seed, lambda seed: seed_device(seed, cpu)):
        torch.rand(5)
        seed(address)
        dropped = torch.nn.functional.dropout(torch.ones(1000), 0.5)
        draws.append(torch.cat([dropped, torch.randn(7), torch.randperm(9).float()]))
    assert torch.equal(*draws)
    of_gpus = [torch.Generator() for _ in range(3)]
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "default_generators", of_gpus)
    seed_device(address, torch.device("cuda:1"))
    assert [one.initial_seed() == address for one in of_gpus] == [False, True, False]
    assert torch.initial_seed() == address
