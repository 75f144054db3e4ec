"""Counts and sums, divided once: against a plain loop, with ties and with what is not a number."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from residual.evaluation.scores import KS, Tally, rank_of_truth, sum_type

CPU = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("logits", "label", "rank"),
    [
        ([3.0, 2.0, 1.0], 0, 0),
        ([3.0, 2.0, 1.0], 2, 2),
        ([0.0, 0.0, 0.0], 0, 0),
        ([0.0, 0.0, 0.0], 2, 2),
        ([1.0, 2.0, 2.0], 1, 0),
        ([1.0, 2.0, 2.0], 2, 1),
        ([NAN, NAN, NAN], 0, 5),
        ([NAN, 1.0, 0.0], 0, 5),
        ([NAN, 1.0, 0.0], 1, 5),
        ([0.0, INF, -INF], 1, 0),
        ([0.0, INF, -INF], 2, 2),
    ],
)
def test_the_rank_of_the_truth(logits, label, rank):
    assert rank_of_truth(torch.tensor([logits]), torch.tensor([label])).tolist() == [rank]


def test_a_network_that_always_answers_the_same_hits_its_share():
    """Ten classes, all equally probable: one in ten is right, not all of them."""
    tally = Tally.empty(CPU)
    tally.add(torch.zeros(100, 10), torch.arange(100) % 10)
    assert tally.scores() == {"loss": pytest.approx(math.log(10)), "top1": 0.1, "top3": 0.3, "top5": 0.5}


FEW = st.floats(-4, 4, width=32).map(round)  # many ties


@given(
    st.lists(st.tuples(st.lists(FEW, min_size=6, max_size=6), st.integers(0, 5)), min_size=1, max_size=30), st.data()
)
def test_sums_equal_a_plain_loop_however_they_are_cut(images, data):
    logits = torch.tensor([row for row, _ in images], dtype=torch.float32)
    labels = torch.tensor([label for _, label in images])
    tally = Tally.empty(CPU)
    for part in torch.arange(len(images)).split(data.draw(st.integers(1, len(images)))):
        tally.add(logits[part], labels[part])

    hits, loss = dict.fromkeys(KS, 0), 0.0
    for row, label in images:
        order = sorted(range(6), key=lambda k: (-row[k], k))
        for k in KS:
            hits[k] += label in order[:k]
        loss += math.log(sum(math.exp(value) for value in row)) - row[label]
    assert tally.images == len(images)
    expected = {f"top{k}": hits[k] / len(images) for k in KS} | {"loss": pytest.approx(loss / len(images), abs=1e-5)}
    assert tally.scores() == expected


def test_a_loss_that_is_given_is_taken():
    tally = Tally.empty(CPU)
    tally.add(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), torch.tensor(6.0))
    assert tally.scores()["loss"] == 1.5


def test_half_precision_is_summed_in_full():
    tally, logits = Tally.empty(CPU), torch.randn(200, 10, generator=torch.Generator().manual_seed(1)).bfloat16()
    tally.add(logits, torch.arange(200) % 10)
    expected = torch.nn.functional.cross_entropy(logits.double(), torch.arange(200) % 10)
    assert tally.loss.dtype == torch.float64
    assert tally.scores()["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_no_images_score_nothing():
    assert Tally.empty(CPU).scores() == {"loss": 0.0, "top1": 0.0, "top3": 0.0, "top5": 0.0}


def test_sums_are_double_where_the_device_has_it():
    assert (sum_type(CPU), sum_type(torch.device("mps"))) == (torch.float64, torch.float32)
