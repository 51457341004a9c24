from dataclasses import replace

import numpy as np
import pytest
import slow_metrics as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from offmap.errors import ArgumentError, UnknownNameError
from offmap.metrics import (
    _ranking,
    aupr_in,
    aupr_out,
    auroc,
    detection,
    detection_accuracy,
    fpr_at_tpr,
)
from offmap.metrics._ranking import Ranking

shares = st.integers(1, 100).map(lambda percent: percent / 100)


few = settings(max_examples=40)  # every metric twice each


def id_kept(id_scores, ood_scores, tpr=0.95):
    return fpr_at_tpr(id_scores, ood_scores, tpr, reading="id_kept")


def ood_caught(id_scores, ood_scores, tpr=0.95):
    return fpr_at_tpr(id_scores, ood_scores, tpr, reading="ood_caught")


@given(slow.two_samples())
def test_auroc_equals_the_comparison_of_all_pairs(samples):
    assert auroc(*samples) == pytest.approx(slow.auroc(*samples), abs=1e-14)


@given(slow.two_samples())
def test_auroc_equals_scikit_learn(samples):
    assert auroc(*samples) == pytest.approx(roc_auc_score(*slow.labelled(*samples)), abs=1e-12)


@given(slow.two_samples())
def test_both_aupr_equal_scikit_learn(samples):
    labels, scores = slow.labelled(*samples)
    out, into = (
        average_precision_score(labels, scores),
        average_precision_score(1 - labels, -scores),
    )
    assert aupr_out(*samples) == pytest.approx(out, abs=1e-12)
    assert aupr_in(*samples) == pytest.approx(into, abs=1e-12)


@given(slow.two_samples(), shares)
def test_both_fpr_readings_equal_brute_force(samples, tpr):
    assert id_kept(*samples, tpr) == slow.fpr_id_kept(*samples, tpr)
    assert ood_caught(*samples, tpr) == slow.fpr_ood_caught(*samples, tpr)


@given(slow.two_samples(), shares)
def test_fpr_with_ood_caught_is_read_off_the_curve_of_scikit_learn(samples, tpr):
    fpr, tprs, _ = sklearn_roc_curve(*slow.labelled(*samples), drop_intermediate=False)
    assert ood_caught(*samples, tpr) == fpr[np.argmax(tprs >= tpr)]


@given(slow.two_samples())
def test_detection_accuracy_equals_brute_force(samples):
    accuracy, threshold = detection_accuracy(*samples)
    expected, _ = slow.detection_accuracy(*samples)
    assert accuracy == pytest.approx(expected, abs=1e-14)
    right = np.mean(samples[1] > threshold) + np.mean(samples[0] <= threshold)
    assert accuracy == pytest.approx(right / 2, abs=1e-14)
    assert threshold in np.concatenate(samples)


def test_detection_threshold_is_the_highest_of_equally_good_ones():
    id_scores, ood_scores = [0.0, 2.0], [1.0, 3.0]
    assert detection_accuracy(id_scores, ood_scores) == (0.75, 2.0)  # 0.0 is as good


def test_no_alarm_at_all_is_best_when_the_order_is_wrong():
    assert detection_accuracy([5.0, 6.0], [1.0, 2.0]) == (0.5, 6.0)


@given(slow.two_samples())
def test_exchanging_the_roles_gives_one_minus_auroc(samples):
    id_scores, ood_scores = samples
    assert auroc(ood_scores, id_scores) == pytest.approx(
        1 - auroc(id_scores, ood_scores), abs=1e-15
    )


def all_but_the_threshold(id_scores, ood_scores):
    return replace(detection(id_scores, ood_scores), detection_threshold=0.0)


@few
@given(slow.two_samples())
def test_negating_and_exchanging_turns_each_metric_into_its_counterpart(samples):
    id_scores, ood_scores = samples
    there, back = detection(id_scores, ood_scores), detection(-ood_scores, -id_scores)
    assert (back.aupr_in, back.aupr_out) == (there.aupr_out, there.aupr_in)
    assert (back.fpr_id_kept, back.fpr_ood_caught) == (there.fpr_ood_caught, there.fpr_id_kept)
    assert back.auroc == there.auroc
    assert back.auroc_low == pytest.approx(there.auroc_low, abs=1e-14)


@few
@given(slow.two_samples())
def test_an_increasing_transformation_changes_nothing_but_the_threshold(samples):
    # By way of the ranks, for rounding makes ties of scores that were none.
    _, ranks = np.unique(np.concatenate(samples), return_inverse=True)
    moved = 100 * np.exp(ranks / 4.0 - 3)
    split = moved[: len(samples[0])], moved[len(samples[0]) :]
    assert all_but_the_threshold(*split) == all_but_the_threshold(*samples)


@few
@given(slow.two_samples(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_nothing(samples, random):
    shuffled = [np.array(random.sample(list(part), len(part))) for part in samples]
    assert detection(*shuffled) == detection(*samples)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_million_of_each_equals_scikit_learn(dtype):
    rng = np.random.default_rng(0)
    id_scores = rng.normal(size=1_000_000).astype(dtype)
    ood_scores = rng.normal(1, 2, size=1_000_000).astype(dtype)
    labels, scores = slow.labelled(id_scores, ood_scores)
    into = average_precision_score(1 - labels, -scores)
    assert auroc(id_scores, ood_scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert aupr_in(id_scores, ood_scores) == pytest.approx(into, abs=1e-9)
    fpr, tpr, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    assert ood_caught(id_scores, ood_scores) == fpr[np.argmax(tpr >= 0.95)]


def test_the_two_fpr_readings_differ_strongly_on_a_mixture_of_far_and_near():
    rng = np.random.default_rng(0)
    id_scores = rng.normal(size=20_000)
    near, far = rng.normal(0.3, 1, 3_000), rng.normal(6, 1, 17_000)
    ood_scores = np.concatenate([near, far])
    assert id_kept(id_scores, ood_scores) < 0.15
    assert ood_caught(id_scores, ood_scores) > 0.5


def test_scores_far_outside_the_unit_interval_are_not_squashed():
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(500, 10, 1000), rng.normal(515, 10, 1000)
    squashed = [1 / (1 + np.exp(-scores)) for scores in (id_scores, ood_scores)]
    assert auroc(*squashed) == 0.5
    assert auroc(id_scores, ood_scores) == pytest.approx(slow.auroc(id_scores, ood_scores))
    assert auroc(id_scores, ood_scores) > 0.8


def test_one_sample_of_each_is_right_wrong_or_a_tie():
    right, tie, wrong = ([0.0], [1.0]), ([1.0], [1.0]), ([1.0], [0.0])
    assert [auroc(*each) for each in (right, tie, wrong)] == [1.0, 0.5, 0.0]
    assert [aupr_out(*each) for each in (right, tie, wrong)] == [1.0, 0.5, 0.5]
    assert [id_kept(*each) for each in (right, tie, wrong)] == [0.0, 1.0, 1.0]
    assert [ood_caught(*each) for each in (right, tie, wrong)] == [0.0, 1.0, 1.0]


def test_equal_scores_give_chance_and_the_base_rate():
    id_scores, ood_scores = np.full(30, 2.5), np.full(10, 2.5)
    assert auroc(id_scores, ood_scores) == 0.5
    assert aupr_out(id_scores, ood_scores) == 0.25
    assert aupr_in(id_scores, ood_scores) == 0.75
    assert id_kept(id_scores, ood_scores) == ood_caught(id_scores, ood_scores) == 1.0


@given(st.integers(1, 400), st.integers(1, 1000))
def test_the_needed_count_is_that_of_the_decimal_share(n, per_mille):
    # With all ID below 0 and one OOD sample at each of 1 ... n, the share of ID is 0; above the
    # sample that is needed the threshold would catch too few: place one ID sample there.
    needed = -(-per_mille * n // 1000)
    ood_scores = np.arange(n, 0, -1.0)
    at, above = np.array([ood_scores[needed - 1]]), np.array([ood_scores[needed - 1] - 0.5])
    assert ood_caught(at, ood_scores, per_mille / 1000) == 1.0
    assert ood_caught(above, ood_scores, per_mille / 1000) == 0.0


def test_095_of_20_is_19_and_007_of_100_is_7():
    assert id_kept(np.arange(20.0), [18.5], 0.95) == 0.0
    assert id_kept(np.arange(20.0), [18.0], 0.95) == 1.0
    assert id_kept(np.arange(100.0), [6.5], 0.07) == 0.0


@pytest.mark.parametrize("tpr", [0.0, -0.1, 1.01, float("nan"), "0.95", None, True])
def test_a_tpr_outside_its_range_is_refused(as_users_run_it, tpr):
    with pytest.raises(ArgumentError, match="tpr"):
        fpr_at_tpr([0.0], [1.0], tpr)


def test_an_unknown_reading_is_refused_with_both_names(as_users_run_it):
    with pytest.raises(UnknownNameError, match=r"'both'.*'id_kept' or 'ood_caught'"):
        fpr_at_tpr([0.0], [1.0], reading="both")


def test_scores_that_were_written_to_are_ranked_anew():
    id_scores, ood_scores = np.array([0.0, 1, 2, 3]), np.array([2.5, 4])
    assert auroc(id_scores, ood_scores) == 7 / 8
    ood_scores[0] = -1  # the same array: a ranking by identity would still say 7/8
    assert auroc(id_scores, ood_scores) == 4 / 8
    assert auroc(id_scores[::-1], ood_scores) == 4 / 8
    assert auroc(ood_scores, id_scores) == 4 / 8


def test_metrics_one_by_one_sort_once(monkeypatch):
    calls = []
    plain = Ranking._sorted.__func__
    monkeypatch.setattr(Ranking, "_sorted", classmethod(lambda *a: calls.append(1) or plain(*a)))
    rng = np.random.default_rng(5)
    samples = rng.normal(size=40), rng.normal(size=30)
    found = auroc(*samples), aupr_in(*samples), aupr_out(*samples), id_kept(*samples)
    assert len(calls) == 1
    whole = detection(*samples)
    assert found == (whole.auroc, whole.aupr_in, whole.aupr_out, whole.fpr_id_kept)
    monkeypatch.setattr(_ranking, "_LARGEST_KEPT", 69)
    more = rng.normal(size=40), rng.normal(size=30)
    assert auroc(*more) == auroc(*more) == slow.auroc(*more)
    assert len(calls) == 3  # too many to keep
