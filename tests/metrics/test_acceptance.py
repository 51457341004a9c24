from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import slow_metrics as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.errors import ArgumentError, DataError, NonFiniteError, ShapeError
from offmap.metrics import (
    Selection,
    accepted_and_right,
    best_f1_threshold,
    detection_accuracy,
    open_set,
)

few = settings(max_examples=40)  # several calls each


def a_threshold(data, *arrays):
    attained = st.sampled_from(np.concatenate(arrays).tolist())
    return data.draw(attained | st.floats(allow_nan=False))


@given(slow.two_samples_predicted(), st.data())
def test_every_figure_equals_its_definition(system, data):
    id_scores, _, ood_scores = system
    threshold = a_threshold(data, id_scores, ood_scores)
    found = accepted_and_right(*system, threshold=threshold)
    accepted, hits, kept, refused = slow.selected(*system, threshold)
    n, m = len(id_scores), len(ood_scores)
    precision, recall = hits / accepted if accepted else 0.0, hits / n
    assert (found.n_id, found.n_ood, found.base_ratio) == (n, m, n / m)
    assert (found.accepted, found.right) == (accepted, hits)
    assert (found.precision, found.recall) == (precision, recall)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    assert found.f1 == pytest.approx(f1, abs=1e-15)
    assert found.detection_accuracy == pytest.approx((kept / n + refused / m) / 2, abs=1e-15)
    assert found.decided == (kept + refused) / (n + m)


@given(slow.two_samples_predicted())
def test_the_threshold_of_the_best_f1_equals_the_search_through_all(system):
    assert best_f1_threshold(*system) == slow.best_f1_threshold(*system)


@few
@given(slow.two_samples_predicted())
def test_the_best_detection_accuracy_is_that_of_its_threshold(system):
    id_scores, _, ood_scores = system
    accuracy, threshold = detection_accuracy(id_scores, ood_scores)
    assert accepted_and_right(*system, threshold=threshold).detection_accuracy == accuracy


@few
@given(slow.two_samples_predicted(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_nothing(system, random):
    id_scores, right, ood_scores = system
    order = random.sample(range(len(id_scores)), len(id_scores))
    shuffled = id_scores[order], right[order], ood_scores[::-1]
    threshold = best_f1_threshold(*system)
    assert best_f1_threshold(*shuffled) == threshold
    assert accepted_and_right(*shuffled, threshold=threshold) == accepted_and_right(
        *system, threshold=threshold
    )


@few
@given(slow.two_samples_predicted())
def test_an_increasing_transformation_moves_the_threshold_alone(system):
    id_scores, right, ood_scores = system
    moved = slow.by_rank(np.concatenate([id_scores, ood_scores]))
    other = moved[: len(id_scores)], right, moved[len(id_scores) :]
    threshold, there = best_f1_threshold(*system), best_f1_threshold(*other)
    assert set(moved[np.concatenate([id_scores, ood_scores]) == threshold]) == {there}
    assert accepted_and_right(*other, threshold=there) == accepted_and_right(
        *system, threshold=threshold
    )


def test_a_worked_example():
    id_scores, right = [0.1, 0.2, 0.3, 0.9, 0.4], [True, True, False, True, True]
    found = accepted_and_right(id_scores, right, [0.2, 0.5, 0.8], threshold=0.5)
    assert found == Selection(
        n_id=5,
        n_ood=3,
        base_ratio=5 / 3,
        accepted=6,
        right=3,
        precision=0.5,
        recall=0.6,
        f1=6 / 11,
        detection_accuracy=(4 / 5 + 1 / 3) / 2,
        decided=5 / 8,
    )
    with pytest.raises(FrozenInstanceError):
        found.f1 = 1.0


def test_refusing_everything_has_no_precision_and_accepting_everything_no_loss_of_recall():
    system = [0.0, 1.0], [True, True], [2.0, 3.0]
    none, every = (accepted_and_right(*system, threshold=t) for t in (-np.inf, np.inf))
    assert (none.accepted, none.precision, none.recall, none.f1) == (0, 0.0, 0.0, 0.0)
    assert (every.accepted, every.precision, every.recall) == (4, 0.5, 1.0)


def test_equal_scores_are_accepted_together_and_the_smallest_of_equal_thresholds_is_taken():
    # At 1.0 only with its two OOD samples: 2 * 2 / (4 + 2) is below 2 * 1 / (1 + 2).
    tied = [0.0, 1.0], [True, True], [1.0, 1.0]
    assert best_f1_threshold(*tied) == 0.0
    # 2 * 1 / (1 + 2) at 0.0 and 2 * 2 / (4 + 2) at 1.0 are the same.
    assert best_f1_threshold([1.0, 0.0], [True, True], [0.5, 0.7]) == 0.0
    assert best_f1_threshold([1.0, 2.0], [False, False], [0.5]) == 0.5


def test_where_every_label_is_right_the_counts_are_those_of_open_set():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(size=40), rng.normal(1, 1, 30)
    labels = np.zeros(40, np.int64)
    found = accepted_and_right(known, labels == 0, unknown, threshold=0.5)
    predictions = np.zeros(30, np.int64)
    binary = open_set(labels, labels, known, predictions, unknown, threshold=0.5, classes=1).binary
    assert (found.right, found.accepted) == (binary[0, 0], binary[:, 0].sum())


def test_tensors_are_taken():
    right = torch.tensor([True, False])
    system = torch.tensor([0.1, 0.9]), right, torch.tensor([0.5])
    assert accepted_and_right(*system, threshold=0.7).right == 1
    assert best_f1_threshold(*system) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "metric", [best_f1_threshold, lambda *system: accepted_and_right(*system, threshold=0.5)]
)
def test_what_cannot_be_counted_is_refused(metric):
    good = [True, True]
    with pytest.raises(ShapeError, match=r"right must be 2 truth values.* seen bool of shape \(3,"):
        metric([0.0, 1.0], [True, True, True], [0.5])
    with pytest.raises(ShapeError, match="truth values, one a score; seen int64"):
        metric([0.0, 1.0], [1, 0], [0.5])
    with pytest.raises(ShapeError, match="ood_scores must have one dimension"):
        metric([0.0, 1.0], good, np.zeros((1, 1)))
    with pytest.raises(DataError, match="id_scores is empty"):
        metric([], [], [0.5])
    with pytest.raises(DataError, match="ood_scores is empty"):
        metric([0.0, 1.0], good, [])
    with pytest.raises(NonFiniteError, match="id_scores"):
        metric([0.0, np.nan], good, [0.5])


def test_a_threshold_that_is_no_number_is_refused(as_users_run_it):
    for wrong in (float("nan"), "0.5", None, [0.5], np.array([0.5, 0.6])):
        with pytest.raises(ArgumentError, match="threshold must be a number, or infinite"):
            accepted_and_right([0.0], [True], [1.0], threshold=wrong)
    for right in (0.5, np.float32(0.5), torch.tensor(0.5), float("inf")):
        assert accepted_and_right([0.0], [True], [1.0], threshold=right).right == 1
