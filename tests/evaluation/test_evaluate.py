"""Every image once, none twice; the network afterwards as it was before."""

import pytest
import torch

from residual.data.preprocessing import Preprocessing, measure
from residual.data.source import MemorySource
from residual.errors import OutOfMemory
from residual.evaluation import evaluate as evaluating
from residual.evaluation.evaluate import evaluate
from residual.models import NetworkSettings, build, layout_of, pack_weights, resolve
from residual.ranks import Ranks

CPU = torch.device("cpu")
CLASSES, COUNT = 4, 23


@pytest.fixture
def source():
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (COUNT, 1, 12, 12), generator=generator).to(torch.uint8)
    return MemorySource(images, torch.randint(CLASSES, (COUNT,), generator=generator))


@pytest.fixture
def network():
    found = build(resolve(NetworkSettings(name="resnet-8"), CLASSES, channels=1), seed=1)
    found(torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(3)))  # running statistics of its own
    return found


def score(network, source, indices=None, **options):
    chosen = torch.arange(COUNT) if indices is None else indices
    return evaluate(network, source, chosen, measure(source, torch.arange(COUNT), "mean-std"), CPU, **options)


def one_by_one(network, source, indices):
    """Predicted classes and losses of single images."""
    preprocessing = measure(source, torch.arange(COUNT), "mean-std")
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(preprocessing.normalise(source.read(i.view(1)))) for i in indices])
    return logits.argmax(1), torch.nn.functional.cross_entropy(logits, source.labels[indices], reduction="none")


@pytest.mark.parametrize("batch_size", [1, 5, 23, 500])
def test_figures_do_not_depend_on_the_batch(network, source, batch_size):
    found = score(network, source, batch_size=batch_size)
    predicted, losses = one_by_one(network, source, torch.arange(COUNT))
    assert found is not None
    assert found.images == COUNT
    assert found.scores["top1"] == float((predicted == source.labels).sum()) / COUNT
    assert found.scores["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)


def test_the_confusion_has_true_classes_in_rows(network, source):
    found = score(network, source, batch_size=5)
    assert found is not None
    predicted, _ = one_by_one(network, source, torch.arange(COUNT))
    expected = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    for truth, guess in zip(source.labels.tolist(), predicted.tolist(), strict=True):
        expected[truth, guess] += 1
    assert torch.equal(found.confusion, expected)
    assert found.confusion.sum(1).tolist() == source.labels.bincount(minlength=CLASSES).tolist()
    assert found.confusion.trace() == round(found.scores["top1"] * COUNT)


def test_only_the_named_images_count(network, source):
    indices = torch.tensor([20, 3, 3, 11])
    found = score(network, source, indices, batch_size=3)
    predicted, _ = one_by_one(network, source, indices)
    assert found is not None
    assert found.images == 4
    assert found.scores["top1"] == float((predicted == source.labels[indices]).double().mean())


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_halt_gives_no_figure_at_all(network, source, after):
    seen: list[int] = []
    network.train()
    assert score(network, source, batch_size=5, halt=lambda: len(seen) == after, progress=seen.append) is None
    assert seen == [5] * after
    assert network.training


def test_progress_tells_every_image_once(network, source):
    seen: list[int] = []
    score(network, source, batch_size=5, progress=seen.append)
    assert seen == [5, 5, 5, 5, 3]


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(network, source, training):
    network.train(training)
    before = pack_weights(network)
    score(network, source)
    assert pack_weights(network) == before  # running statistics included
    assert all(module.training == training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_network_is_left_as_it_was_after_a_failure(network, source):
    def fail(_):
        raise KeyError

    network.train()
    with pytest.raises(KeyError):
        score(network, source, progress=fail)
    assert network.training


def test_weights_that_are_not_numbers_flatter_nobody(network, source):
    with torch.no_grad():
        network.classifier.bias.fill_(float("nan"))
    found = score(network, source)
    assert found is not None
    assert [found.scores[name] for name in ("top1", "top3", "top5")] == [0.0, 0.0, 0.0]
    assert found.scores["loss"] != found.scores["loss"]


class Second(Ranks):
    rank, world = 1, 2


def test_one_of_several_processes_takes_fewer_images_where_its_memory_asks_for_it(network, source, caplog):
    whole = score(network, source, batch_size=10, ranks=Second())

    def refuse(module, inputs):
        if len(inputs[0]) > limit:
            torch.empty(1 << 58, dtype=torch.uint8)

    network.stages[1].register_forward_pre_hook(refuse)
    limit = 3
    seen: list[int] = []
    found = score(network, source, batch_size=10, ranks=Second(), progress=seen.append)
    assert seen == [10]
    assert torch.equal(found.confusion, whole.confusion)
    assert found.confusion.sum() == 10, "the second of three batches, and no image twice"
    assert found.scores == pytest.approx(whole.scores, rel=1e-5)
    assert "5 images are evaluated at a time, not 10" in caplog.text
    limit = 0
    with pytest.raises(OutOfMemory, match="a single image was evaluated"):
        score(network, source, batch_size=10, ranks=Second())
    with pytest.raises(RuntimeError, match="allocate memory"):
        score(network, source, batch_size=10)


def test_images_lie_as_the_device_wants_them(monkeypatch):
    assert layout_of(torch.device("mps")) == torch.contiguous_format, "as in training"
    assert layout_of(CPU) == torch.channels_last
    images = torch.randint(256, (COUNT, 3, 12, 12)).to(torch.uint8)
    coloured = MemorySource(images, torch.zeros(COUNT, dtype=torch.int64))
    network, seen = build(resolve(NetworkSettings(name="resnet-8"), CLASSES, channels=3), seed=1), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].is_contiguous()))
    score(network, coloured)
    monkeypatch.setattr(evaluating, "layout_of", lambda device: torch.contiguous_format)
    score(network, coloured)
    assert seen == [False, True]


def test_images_are_sent_and_constants_move_once(network, source, monkeypatch):
    sent: list[int] = []
    moved: list[torch.device] = []

    def send(values, device):
        sent.append(len(values))
        return values

    def on(constants, device):
        moved.append(device)
        return constants

    monkeypatch.setattr(evaluating, "sent", send)
    monkeypatch.setattr(Preprocessing, "on", on)
    score(network, source, batch_size=10)
    assert sent == [10, 10, 10, 10, 3, 3], "labels and images"
    assert moved == [CPU]
