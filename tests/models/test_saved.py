"""Weights to bytes and back, and every refusal."""

import pytest
import safetensors.torch
import torch
from torch import nn

from residual.errors import ModelError
from residual.models import build, find, load_weights, pack_weights

SPEC = find("resnet-8").spec("B")


def trained():
    """A network whose running statistics are no longer the initial ones."""
    network = build(SPEC, 1)
    network(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(9)))
    return network


def altered(**tensors):
    """The packed weights with some tensors replaced, or left out where None; `__` stands for a dot."""
    state = dict(trained().state_dict())
    for name, tensor in tensors.items():
        state[name.replace("__", ".")] = tensor
    return safetensors.torch.save({name: tensor for name, tensor in state.items() if tensor is not None})


def test_round_trip_is_exact_to_the_bit():
    source, target = trained(), build(SPEC, 2)
    load_weights(target, pack_weights(source), "here")
    own = target.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in source.state_dict().items())
    assert own["stem.norm.num_batches_tracked"] == 1
    assert pack_weights(target) == pack_weights(source)


def test_memory_format_stays_and_changes_no_byte():
    source = trained()
    target = nn.utils.convert_conv2d_weight_memory_format(build(SPEC, 2), torch.channels_last)
    weight = target.get_parameter("stages.1.0.conv1.weight")
    address = weight.data_ptr()
    load_weights(target, pack_weights(source), "here")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert weight.data_ptr() == address
    assert weight.requires_grad
    assert pack_weights(target) == pack_weights(source)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: b"", "cannot be read"),
        (lambda: b"not safetensors at all", "cannot be read"),
        (lambda: pack_weights(trained())[:-1], "cannot be read"),
        (lambda: altered(classifier__bias=None), "classifier.bias is missing"),
        (lambda: altered(extra=torch.zeros(1)), "extra is unknown"),
        (lambda: altered(classifier__bias=torch.zeros(7)), r"classifier.bias has shape \[7\], not \[10\]"),
        (lambda: altered(classifier__bias=torch.zeros(10).half()), "classifier.bias has type float16, not float32"),
        (lambda: altered(stem__norm__bias=torch.full((16,), float("nan"))), r"not all finite.*stem\.norm\.bias"),
        (lambda: altered(stem__norm__running_var=torch.full((16,), float("inf"))), r"stem\.norm\.running_var"),
    ],
    ids=["empty", "noise", "cut", "missing", "unknown", "shape", "type", "nan", "inf"],
)
def test_refused_in_words_and_nothing_is_loaded(data, message):
    network = build(SPEC, 2)
    before = pack_weights(network)
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(network, data(), "model.safetensors")
    assert caught.value.exit_code == 4
    assert "(model.safetensors)" in str(caught.value)
    assert pack_weights(network) == before


def test_only_the_first_differences_are_named():
    with pytest.raises(ModelError, match=r"stages\.\S+ is unknown, .* and \d+ more") as caught:
        load_weights(build(SPEC), pack_weights(build(find("resnet-20").spec("B"))), "w")
    assert str(caught.value).count("is unknown") == 5
