"""Figures of classes against scikit-learn's, confusions and mistakes against plain counting."""

from __future__ import annotations

import math
import warnings
from collections import Counter

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from residual.evaluation.statistics import (
    brier,
    class_figures,
    confusion_of,
    confusions,
    mean_figures,
    separated,
    surest_right,
    worst_first,
    worst_mistakes,
)

pairs = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40)
    )
)


def matrix(classes, answers):
    found = torch.zeros(classes, classes, dtype=torch.int64)
    for true, predicted in answers:
        found[true, predicted] += 1
    return found


def same(ours, theirs):
    return math.isnan(theirs) if ours is None else ours == pytest.approx(theirs, abs=1e-12)


@pytest.fixture(scope="session")
def metrics():
    """Loaded where it is needed: it takes seconds, and one process in two needs it."""
    import sklearn.metrics

    return sklearn.metrics


@given(drawn=pairs)
@settings(max_examples=60)
def test_figures_of_classes_are_those_of_scikit_learn(metrics, drawn):
    classes, answers = drawn
    true, predicted = zip(*answers, strict=True)
    figures = class_figures(matrix(classes, answers), [str(k) for k in range(classes)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes without images
        theirs = metrics.precision_recall_fscore_support(
            true, predicted, labels=range(classes), zero_division=numpy.nan
        )
    for one, precision, recall, f1, support in zip(figures, *theirs, strict=True):
        assert same(one.precision, precision)
        assert same(one.recall, recall)
        assert same(one.f1, f1)
        assert (one.images, one.predicted) == (support, predicted.count(one.number))
    means = mean_figures(figures)
    for name, values in zip(("precision", "recall", "f1"), theirs[:3], strict=True):
        if name == "precision":  # 0 of a class that has images and is never answered, as scikit-learn's default has it
            values = numpy.where([one.images > 0 for one in figures], numpy.nan_to_num(values), values)
        there = values[~numpy.isnan(values)]
        assert same(means[name], there.mean() if len(there) else math.nan)


def test_a_network_that_answers_one_class_alone_is_not_flattered():
    figures = class_figures(matrix(2, [(0, 0), (1, 0), (1, 0), (0, 0)]), ["dog", "cat"])
    assert figures[1].precision is None
    found = mean_figures(figures)
    assert (found["precision"], found["recall"]) == (0.25, 0.5)
    assert found["f1"] == pytest.approx(1 / 3)


@given(pairs)
@settings(max_examples=40)
def test_confusions_are_those_counted_one_by_one(drawn):
    classes, answers = drawn
    found = confusions(matrix(classes, answers))
    counted = Counter(pair for pair in answers if pair[0] != pair[1])
    assert {(c.true, c.predicted): c.count for c in found} == counted
    assert [c.count for c in found] == sorted(counted.values(), reverse=True)
    assert all(c.share == c.count / sum(t == c.true for t, _ in answers) for c in found)


def test_the_worst_class_stands_first_and_one_without_images_last():
    confusion = torch.tensor([[5, 0, 0, 0], [4, 1, 0, 0], [0, 0, 0, 0], [0, 0, 5, 0]])
    figures = class_figures(confusion, ["good", "poor", "absent", "never"])
    assert [one.name for one in worst_first(figures)] == ["never", "poor", "good", "absent"]
    absent = figures[2]
    assert (absent.precision, absent.recall, absent.f1) == (0.0, None, 0.0)
    assert figures[3].precision is None


def test_the_confusion_is_that_of_the_first_answers():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 2.0, 1.0]])
    assert confusion_of(logits, torch.tensor([1, 0, 2])).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_the_most_surely_wrong_stand_first():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 4, generator=generator), torch.randint(0, 4, (50,), generator=generator)
    found = worst_mistakes(logits, labels, 5)
    loss = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    wrong = [row for row in range(50) if int(logits[row].argmax()) != int(labels[row])]
    assert [m.row for m in found] == sorted(wrong, key=lambda row: -loss[row])[:5]
    shares = logits.double().softmax(1)
    for mistake in found:
        assert (mistake.true, mistake.predicted) == (int(labels[mistake.row]), int(logits[mistake.row].argmax()))
        assert mistake.loss == pytest.approx(float(loss[mistake.row]))
        assert mistake.probability == pytest.approx(float(shares[mistake.row].max()))
        assert mistake.probability_of_truth == pytest.approx(float(shares[mistake.row, mistake.true]))
    assert len(worst_mistakes(logits, labels, 1000)) == len(wrong)


def test_a_loss_that_is_no_number_is_the_worst():
    logits = torch.tensor([[0.0, 9.0], [math.nan, 0.0], [9.0, 0.0]])
    found = worst_mistakes(logits, torch.tensor([0, 1, 0]), 5)
    assert [mistake.row for mistake in found] == [1, 0]
    assert math.isnan(found[0].loss)


def test_the_surest_right_answer_of_each_class():
    logits = torch.tensor([[2.0, 0.0, 0.0], [3.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 5.0]])
    found = surest_right(logits, torch.tensor([0, 0, 1, 1, 1]))
    assert [(one.row, one.number) for one in found] == [(1, 0), (3, 1)]
    assert found[0].probability == pytest.approx(math.exp(3) / (math.exp(3) + 2))


def test_a_row_that_is_no_number_is_wrong():
    rows = torch.tensor([[math.nan, 1.0, 0.0], [0.0, math.nan, 2.0], [math.nan] * 3, [3.0, 1.0, 0.0]])
    labels = torch.tensor([0, 1, 2, 0])
    assert torch.equal(confusion_of(rows, labels), matrix(3, [(0, 1), (1, 2), (2, 0), (0, 0)]))
    assert [one.row for one in worst_mistakes(rows, labels, 9)] == [0, 1, 2]
    assert all(one.true != one.predicted for one in worst_mistakes(rows, labels, 9))
    assert [one.row for one in surest_right(rows, labels)] == [3]


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 3), min_size=3, max_size=3)), min_size=1))
def test_classes_are_told_apart_as_counting_all_pairs_says(drawn):
    """Few different probabilities, so that many are equal."""
    labels = torch.tensor([label for label, _ in drawn])
    probabilities = torch.tensor([scores for _, scores in drawn], dtype=torch.float64)
    figures = class_figures(torch.zeros(3, 3, dtype=torch.int64), "abc")
    for one in separated(figures, probabilities, labels):
        scores = probabilities[:, one.number].tolist()
        own = [score for score, label in zip(scores, labels.tolist(), strict=True) if label == one.number]
        other = [score for score, label in zip(scores, labels.tolist(), strict=True) if label != one.number]
        if not own or not other:
            assert (one.auc, one.average_precision) == (None, None)
            continue
        pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in own for b in other]
        assert one.auc == pytest.approx(sum(pairs) / len(pairs))
        wanted, before = 0.0, 0
        for least in sorted(set(scores), reverse=True):
            hits = sum(a >= least for a in own)
            wanted += (hits - before) / len(own) * hits / sum(score >= least for score in scores)
            before = hits
        assert one.average_precision == pytest.approx(wanted)


def test_probabilities_that_are_no_numbers_are_the_worst_there_are():
    figures = class_figures(torch.zeros(2, 2, dtype=torch.int64), "ab")
    broken = torch.full((4, 2), torch.nan)
    found = separated(figures, broken, torch.tensor([0, 0, 1, 1]))
    assert [one.auc for one in found] == [0.0, 0.0]


def test_the_brier_score_is_the_squared_distance_from_the_truth():
    labels = torch.tensor([0, 1])
    assert brier(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), labels) == 0
    assert brier(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), labels) == 2
    assert brier(torch.full((2, 2), 0.5), labels) == pytest.approx(0.5)
