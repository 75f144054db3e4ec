"""True averages of the statistics, against the means of every batch; and nothing changed where a signal comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from residual.models import NetworkSettings, build, resolve
from residual.training.statistics import measure_statistics, parts_of
from residual.training.train import train


def network():
    made = build(resolve(NetworkSettings(name="resnet-8", widths=(4, 4, 4), dropout=0.5), 10, 1)).train()
    for batch in batches():
        made(batch + 3)  # statistics that lag behind
    return made


def batches():
    source = torch.Generator().manual_seed(1)
    return [torch.randn(6, 1, 12, 12, generator=source) for _ in range(5)]


def test_the_statistics_are_the_means_over_the_batches():
    measured = network()
    inputs: list[torch.Tensor] = []
    norm = measured.stem.norm
    handle = norm.register_forward_pre_hook(lambda module, given: inputs.append(given[0].detach()))
    weights = {name: p.clone() for name, p in measured.named_parameters()}
    count = int(norm.num_batches_tracked)
    assert measure_statistics(measured, batches())
    handle.remove()
    assert len(inputs) == 5
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0))
    assert norm.momentum == 0.1
    assert int(norm.num_batches_tracked) == count
    assert all(torch.equal(p, weights[name]) for name, p in measured.named_parameters())
    assert measured.training
    assert all(module.training for module in measured.modules())
    again = {name: b.clone() for name, b in measured.named_buffers()}
    assert measure_statistics(measured, batches())
    assert all(torch.equal(b, again[name]) for name, b in measured.named_buffers())


def test_a_signal_leaves_them_as_they_were():
    measured = network()
    before = {name: t.clone() for name, t in measured.state_dict().items()}
    answers = iter([False, False, True])
    assert not measure_statistics(measured, batches(), halt=lambda: next(answers))
    assert all(torch.equal(t, before[name]) for name, t in measured.state_dict().items())
    assert measured.stem.norm.momentum == 0.1


@pytest.mark.parametrize(
    ("count", "batch_size", "shares", "parts"),
    [(64, 16, 1, 4), (65, 16, 1, 5), (5, 1, 1, 3), (64, 16, 4, 16), (65, 16, 16, 32), (1, 16, 4, 1), (30, 30, 2, 2)],
)
def test_no_part_is_larger_than_what_a_step_takes_at_a_time(
    count: int, batch_size: int, shares: int, parts: int
) -> None:
    assert parts_of(count, batch_size, shares) == parts


def test_where_memory_is_lacking_fewer_images_are_measured_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []
    most = 48

    def measured(network: Any, batches: Any, *rest: Any) -> bool:
        kept = [*batches]
        if max(map(len, kept)) > most:
            raise RuntimeError("CUDA out of memory")
        sizes.extend(len(images) for images in kept)
        return measure_statistics(network, kept, *rest)

    monkeypatch.setattr("residual.training.session.measure_statistics", measured)
    settings = {"network.name": "resnet-8", "network.widths": [4, 4, 4], "batch_size": 24, "steps": 1}
    settings |= {"data.limit": 100, "evaluation.precise_statistics": 48, "compute.threads": 1}
    train("digits", set=settings | {"optimiser.accumulate": 3}, out=tmp_path / "enough")
    assert sizes == [24] * 2, "parts of a step are no parts of this"
    sizes.clear()
    most = 8
    train("digits", set=settings, out=tmp_path / "little")
    assert sizes == [6] * 8
    assert "out of memory: 6 images are measured at a time" in caplog.text


def test_an_error_leaves_them_as_they_were() -> None:
    measured = network()
    before = {name: tensor.clone() for name, tensor in measured.state_dict().items()}

    def failing() -> Any:
        yield from [*batches()][:1]
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        measure_statistics(measured, failing())
    assert all(torch.equal(t, before[name]) for name, t in measured.state_dict().items())
    assert measured.stem.norm.momentum == 0.1
