import numpy as np
import pytest
import slow_metrics as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from offmap.errors import ArgumentError, DataError, NonFiniteError, ShapeError
from offmap.metrics import augrc, aurc, auroc, coverage_at_risk, risk_coverage

few = settings(max_examples=40)  # several calls, or slow ones
risks = st.integers(0, 100).map(lambda percent: percent / 100)


@given(slow.predicted())
def test_the_curve_equals_its_definition(predictions):
    curve = risk_coverage(*predictions)
    found = np.stack([curve.coverage, curve.risk, curve.joint_risk], axis=1)
    np.testing.assert_array_equal(found, slow.risk_coverage(*predictions))
    np.testing.assert_array_equal(curve.thresholds[1:], np.unique(predictions[0]))
    assert curve.thresholds[0] == -np.inf


@few
@given(slow.predicted(most=30))
def test_both_areas_equal_their_definitions(predictions):
    assert aurc(*predictions) == pytest.approx(slow.aurc(*predictions), abs=1e-14)
    assert augrc(*predictions) == pytest.approx(slow.augrc(*predictions), abs=1e-14)


@few
@given(slow.predicted(most=5))
def test_both_areas_are_means_over_every_order_of_equal_scores(predictions):
    expected = slow.areas_over_all_orders(*predictions)
    assert (aurc(*predictions), augrc(*predictions)) == pytest.approx(expected, abs=1e-14)


@few
@given(slow.predicted())
def test_augrc_is_the_area_of_the_joint_risk_and_the_formula_of_the_auroc(predictions):
    scores, right = predictions
    curve = risk_coverage(scores, right)
    area = trapezoid(curve.joint_risk, curve.coverage)
    assert augrc(scores, right) == pytest.approx(area, abs=1e-14)
    share = right.mean()
    told = auroc(scores[right], scores[~right]) if 0 < share < 1 else 0.5
    formula = (1 - told) * share * (1 - share) + (1 - share) ** 2 / 2
    assert augrc(scores, right) == pytest.approx(formula, abs=1e-14)


@given(slow.predicted(), risks)
def test_coverage_at_risk_equals_the_search_through_all_thresholds(predictions, risk):
    points = slow.risk_coverage(*predictions)
    expected = max(coverage for coverage, wrong, _ in points if wrong <= risk)
    assert coverage_at_risk(*predictions, risk) == expected


def every_number(scores, right):
    curve = risk_coverage(scores, right)
    return (
        *(curve.coverage.tolist(), curve.risk.tolist(), curve.joint_risk.tolist()),
        *(aurc(scores, right), augrc(scores, right), coverage_at_risk(scores, right, 0.3)),
    )


@few
@given(slow.predicted(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_changes_nothing(predictions, random):
    scores, right = predictions
    order = random.sample(range(len(scores)), len(scores))
    assert every_number(scores[order], right[order]) == every_number(scores, right)


@few
@given(slow.predicted())
def test_an_increasing_transformation_changes_nothing_but_the_thresholds(predictions):
    scores, right = predictions
    assert every_number(slow.by_rank(scores), right) == every_number(scores, right)


def test_equal_scores_say_nothing():
    scores, right = np.full(10, 0.5), np.arange(10) < 7
    assert aurc(scores, right) == pytest.approx(0.3)
    assert augrc(scores, right) == 0.15
    assert coverage_at_risk(scores, right, 0.3) == 1.0
    assert coverage_at_risk(scores, right, 0.29) == 0.0


def test_the_best_and_the_worst_order_of_two_wrong_of_five():
    scores = np.arange(5.0)
    last, first = np.array([1, 1, 1, 0, 0], bool), np.array([0, 0, 1, 1, 1], bool)
    assert augrc(scores, last) == pytest.approx((2 / 5) ** 2 / 2)
    assert augrc(scores, first) == pytest.approx((1 - (3 / 5) ** 2) / 2)
    assert aurc(scores, last) == pytest.approx((1 / 4 + 2 / 5) / 5)
    assert aurc(scores, first) == pytest.approx((1 + 1 + 2 / 3 + 2 / 4 + 2 / 5) / 5)


def test_nothing_wrong_has_no_risk_and_nothing_right_no_coverage():
    scores = [0.3, 0.1, 0.2]
    assert (aurc(scores, [True] * 3), augrc(scores, [True] * 3)) == (0.0, 0.0)
    assert (aurc(scores, [False] * 3), augrc(scores, [False] * 3)) == (1.0, 0.5)
    assert coverage_at_risk(scores, [True] * 3, 0.0) == 1.0
    assert coverage_at_risk(scores, [False] * 3, 0.99) == 0.0
    assert coverage_at_risk(scores, [False] * 3, 1.0) == 1.0


def test_coverage_may_rise_again_after_a_wrong_prediction():
    scores, right = np.arange(10.0), np.arange(10) != 0
    assert coverage_at_risk(scores, right, 0.1) == 1.0  # though the first is wrong
    assert coverage_at_risk(scores, right, 0.09) == 0.0


def test_a_million_samples_are_counted_exactly():
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 1000, 1_000_000), rng.random(1_000_000) < 0.7
    share = right.mean()
    told = auroc(scores[right], scores[~right])
    formula = (1 - told) * share * (1 - share) + (1 - share) ** 2 / 2
    assert augrc(scores, right) == pytest.approx(formula, rel=1e-12)


def test_tensors_are_taken():
    scores, right = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([True, False, True])
    assert augrc(scores, right) == augrc([1, 2, 3], [True, False, True])


@pytest.mark.parametrize(
    "metric", [risk_coverage, aurc, augrc, lambda s, r: coverage_at_risk(s, r, 0.1)]
)
def test_what_cannot_be_counted_is_refused(metric):
    with pytest.raises(DataError, match=r"^scores is empty: a metric needs at least one score"):
        metric([], [])
    with pytest.raises(NonFiniteError, match=r"^scores holds NaN or infinity in 1 of 2"):
        metric([0.0, np.nan], [True, False])
    with pytest.raises(ShapeError, match=r"^scores must have one dimension"):
        metric(np.zeros((1, 2)), [True, False])
    with pytest.raises(ShapeError, match=r"right must be 2 truth values.* seen bool of shape \(1,"):
        metric([0.0, 1.0], [True])
    with pytest.raises(ShapeError, match="seen float64"):
        metric([0.0, 1.0], [1.0, 0.0])


@pytest.mark.parametrize("risk", [-0.01, 1.01, 5.0, float("nan"), "0.95", None, True])
def test_a_risk_outside_its_range_is_refused(as_users_run_it, risk):
    with pytest.raises(ArgumentError, match="risk must lie in"):
        coverage_at_risk([0.0, 1.0], [True, False], risk)
