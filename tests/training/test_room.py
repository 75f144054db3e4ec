"""A lack of memory inside a step: the same step in smaller parts, an event, and a resumed run that does the same.

The failing allocations are real: torch is asked for more than any machine has, where a part is too large.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from campaigns.running import fingerprint
from residual.errors import Interrupted, OutOfMemory, UsageError, lacks_memory
from residual.models import NetworkSettings, ResidualNetwork, build, resolve
from residual.runs.folder import RunFolder
from residual.training import opening
from residual.training.compute import Compute
from residual.training.optimiser import OptimiserPart, OptimiserSettings, make_optimiser, set_rate
from residual.training.progress import Silent, describe
from residual.training.room import Room, evaluate_in_room
from residual.training.schedules import HALVED
from residual.training.step import train_step
from residual.training.train import resume, train
from tests.training.test_step import FLOAT32, some_batch, tiny

EXABYTES = 1 << 58
SETTINGS = {
    "network.name": "resnet-8",
    "network.widths": [4, 4, 8],
    "network.dropout": 0.2,
    "batch_size": 30,
    "steps": 9,
    "data.limit": 160,
    "compute.threads": 1,
    "compute.precision": "float32",
    "checkpoint.every_seconds": None,
}


class Limit:
    """Lets a network's second stage take so many images in training, when the first has moved its statistics."""

    def __init__(self, images: int = 1 << 20) -> None:
        self.images = images

    def put_on(self, network: ResidualNetwork) -> ResidualNetwork:
        def refuse(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            if module.training and len(inputs[0]) > self.images:
                torch.empty(EXABYTES, dtype=torch.uint8)

        network.stages[1].register_forward_pre_hook(refuse)
        return network


def test_the_failing_allocation_is_what_is_looked_for() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator: can't allocate memory") as caught:
        torch.empty(EXABYTES, dtype=torch.uint8)
    assert lacks_memory(caught.value)
    assert lacks_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert lacks_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not lacks_memory(RuntimeError("shape '[3]' is invalid for input of size 2"))


@pytest.mark.parametrize(("most", "parts"), [(6, 2), (3, 4), (1, 12)])
def test_a_step_that_does_not_fit_is_the_step_in_parts(most: int, parts: int) -> None:
    def seed_anew(name: str, parts: int) -> None:
        torch.manual_seed(4)

    found = []
    for limit, accumulate in ((most, 1), (1 << 20, parts)):
        network = tiny(dropout=0.3)
        happened: dict[str, int] = {}
        room = Room(network, happened, 12, accumulate, seed_anew)
        Limit(limit).put_on(network)
        optimiser = make_optimiser(network, OptimiserSettings())
        for step in range(2):
            set_rate(optimiser, 0.1, 0.9)
            torch.manual_seed(4)
            room.enter(step)
            result = train_step(network, optimiser, some_batch(12), FLOAT32, 0.0, step, room=room)
        found.append([*network.state_dict().values(), *OptimiserPart(network, optimiser).tensors().values()])
        assert room.parts == parts
        assert len(result.logits) == 12
        assert set(happened.values()) == ({0} if accumulate == 1 else set())
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_a_single_image_that_does_not_fit_is_said_and_moves_nothing() -> None:
    network = Limit(0).put_on(tiny())
    room = Room(network, {}, 6)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    optimiser = make_optimiser(network, OptimiserSettings())
    room.enter(7)
    with pytest.raises(OutOfMemory, match="at step 7, even with a single image") as caught:
        train_step(network, optimiser, some_batch(), FLOAT32, 0.0, 7, room=room)
    assert caught.value.exit_code == 6
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_parts_that_cannot_be_normalised_are_a_lack_of_memory_too() -> None:
    """A single image whose last maps have one pixel has no variance; torch says so with an error of its own."""
    network = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4)), 10, 1)).train()
    batch = some_batch()
    batch = type(batch)(batch.images[:, :, :4, :4], batch.labels, batch.samples)
    room = Room(Limit(1).put_on(network), {}, 6)
    room.enter(0)
    with pytest.raises(OutOfMemory):
        train_step(network, make_optimiser(network, OptimiserSettings()), batch, FLOAT32, 0.0, 0, room=room)
    plain = make_optimiser(network, OptimiserSettings())
    with pytest.raises(UsageError, match="batch normalisation has one value a channel"):
        train_step(network, plain, batch, FLOAT32, 0.0, 0, OptimiserSettings(accumulate=6))


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    network = tiny()
    network.stages[1].register_forward_pre_hook(lambda module, inputs: torch.zeros(3).view(2))
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        train_step(
            network,
            make_optimiser(network, OptimiserSettings()),
            some_batch(),
            FLOAT32,
            0.0,
            0,
            room=Room(network, {}, 6),
        )


class Falling(Silent):
    """The memory falls short from step 4 on; a signal comes at `stop`."""

    def __init__(self, limit: Limit, stop: int = -1) -> None:
        self.limit, self.stop = limit, stop

    def stepped(self, step: int, images: int) -> None:
        if step == 4:
            self.limit.images = 15
        if step == self.stop:
            signal.raise_signal(signal.SIGINT)


def test_a_run_in_parts_resumes_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, stop in (("alone", -1), ("cut", 6)):
        with monkeypatch.context() as patch:
            limit = Limit()
            patch.setattr(opening, "build", lambda spec, seed, limit=limit: limit.put_on(build(spec, seed)))
            try:
                train("digits", set=SETTINGS, out=tmp_path / name, listener=Falling(limit, stop))
            except Interrupted:
                assert stop > 0
    run = RunFolder.open(tmp_path / "alone")
    assert RunFolder.open(tmp_path / "cut").steps()[0] == 6
    assert run.steps() == [9, 5]  # the end of the step in parts was saved at once
    resume(tmp_path / "cut")  # with memory enough: the events say in how many parts
    assert fingerprint(tmp_path / "cut") == fingerprint(run.path)
    (event,) = [record for record in run.records() if record["kind"] == "event"]
    assert event == {"kind": "event", "name": f"{HALVED}1", "step": 4, "value": 2}
    assert "computed in 2 parts from here on" in describe(event)
    result = run.result()
    assert result is not None
    assert result["events"] == [{"name": f"{HALVED}1", "step": 4, "value": 2}]


def test_an_evaluation_that_does_not_fit_takes_fewer_images_at_a_time(caplog: pytest.LogCaptureFixture) -> None:
    from residual.data.datasets import DataSettings, divide, open_dataset
    from residual.data.preprocessing import measure

    settings = DataSettings(dataset="digits", limit=100)
    dataset = open_dataset(settings)
    division = divide(dataset, settings)
    network, device = tiny(), torch.device("cpu")
    arguments = (dataset.train, division.training, measure(dataset.train, division.training, "mean-std"), device)
    plain = evaluate_in_room(network, *arguments, 20)
    limit = 0

    def refuse(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > limit:
            torch.empty(EXABYTES, dtype=torch.uint8)

    network.stages[1].register_forward_pre_hook(refuse)
    limit = 5
    spared = evaluate_in_room(network, *arguments, 20)
    assert plain is not None
    assert spared is not None
    assert spared.images == plain.images
    assert spared.scores == pytest.approx(plain.scores, rel=1e-5)
    assert "5 images are evaluated at a time, not 10" in caplog.text
    limit = 0
    with pytest.raises(OutOfMemory, match="a single image was evaluated"):
        evaluate_in_room(network, *arguments, 20)


def test_a_gpu_that_is_full_is_met_the_same_way() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    compute = Compute("cuda:0", "float32", "channels-last", 1, False)
    network = build(resolve(NetworkSettings(name="resnet-20"), 10, 3)).to("cuda").train()
    optimiser = make_optimiser(network, OptimiserSettings())
    source = torch.Generator().manual_seed(0)
    batch = type(some_batch())(
        torch.randn(4096, 3, 32, 32, generator=source).cuda(), (torch.arange(4096) % 10).cuda(), torch.arange(4096)
    )
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + (1 << 31)) / total))
    try:
        happened: dict[str, int] = {}
        room = Room(network, happened, 4096)
        room.enter(3)
        set_rate(optimiser, 0.1, 0.9)
        train_step(network, optimiser, batch, compute, 0.0, 3, room=room)
        assert room.parts > 1
        assert set(happened.values()) == {3}
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
