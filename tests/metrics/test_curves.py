import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc as area_by_lines
from sklearn.metrics import precision_recall_curve
from sklearn.metrics import roc_curve as sklearn_roc_curve
from slow_metrics import labelled, two_samples

from offmap.errors import ArgumentError, UnknownNameError
from offmap.metrics import PrCurve, aupr_in, aupr_out, auroc, pr_curve, roc_curve


@given(two_samples())
def test_roc_curve_equals_scikit_learn(samples):
    curve = roc_curve(*samples)
    fpr, tpr, thresholds = sklearn_roc_curve(*labelled(*samples), drop_intermediate=False)
    np.testing.assert_array_equal(curve.fpr, fpr)
    np.testing.assert_array_equal(curve.tpr, tpr)
    np.testing.assert_array_equal(curve.thresholds, thresholds)


@given(two_samples())
def test_pr_curves_equal_scikit_learn(samples):
    labels, scores = labelled(*samples)
    for positive, sign, is_positive in [("ood", 1, labels), ("id", -1, 1 - labels)]:
        curve = pr_curve(*samples, positive=positive)
        precision, recall, thresholds = precision_recall_curve(is_positive, sign * scores)
        np.testing.assert_array_equal(curve.precision, precision[::-1])
        np.testing.assert_array_equal(curve.recall, recall[::-1])
        np.testing.assert_array_equal(curve.thresholds[1:], sign * thresholds[::-1])
        assert curve.thresholds[0] == sign * np.inf


@settings(max_examples=40)  # six calls each
@given(two_samples())
def test_the_areas_under_the_curves_are_the_metrics(samples):
    roc, out, into = roc_curve(*samples), pr_curve(*samples), pr_curve(*samples, positive="id")
    assert area_by_lines(roc.fpr, roc.tpr) == pytest.approx(auroc(*samples), abs=1e-12)
    assert np.diff(out.recall) @ out.precision[1:] == pytest.approx(aupr_out(*samples), abs=1e-12)
    assert np.diff(into.recall) @ into.precision[1:] == pytest.approx(aupr_in(*samples), abs=1e-12)


def curves(samples):
    return roc_curve(*samples), pr_curve(*samples), pr_curve(*samples, positive="id")


def points_of(curve):
    return list(zip(*vars(curve).values(), strict=True))


@given(two_samples(), st.integers(2, 12))
def test_thinning_keeps_both_ends_and_a_point_near_every_other(samples, points):
    for curve in curves(samples):
        thin = curve.thinned(points=points)
        kept, every = points_of(thin), points_of(curve)
        assert len(kept) <= points
        assert kept == [point for point in every if point in kept]
        assert (kept[0], kept[-1]) == (every[0], every[-1])
        (x, y, _), (kept_x, kept_y, _) = vars(curve).values(), vars(thin).values()
        length = np.abs(np.diff(x)).sum() + np.abs(np.diff(y)).sum()
        apart = np.abs(x[:, None] - kept_x) + np.abs(y[:, None] - kept_y)
        assert apart.min(axis=1).max() <= length / (points - 1) + 1e-12


def test_thinning_a_long_curve_keeps_its_area():
    rng = np.random.default_rng(0)
    curve = roc_curve(rng.normal(size=20_000), rng.normal(1, 1, size=20_000))
    thin = curve.thinned(points=200)
    assert 100 < len(thin.fpr) <= 200
    area = area_by_lines(curve.fpr, curve.tpr)
    assert area_by_lines(thin.fpr, thin.tpr) == pytest.approx(area, abs=1e-3)


def test_a_curve_is_thinned_to_five_hundred_points_by_default():
    curve = roc_curve(np.arange(0, 2000, 2.0), np.arange(1, 2000, 2.0))  # 2,000 equal steps
    assert len(curve.fpr) == 2001
    assert len(curve.thinned().fpr) == 500


def test_thinning_keeps_the_end_of_a_curve_whose_last_step_is_too_short_to_add_up():
    precision = np.array([1.0, 1.0, np.nextafter(1.0, 0.0)])
    curve = PrCurve(np.array([0.0, 1.0, 1.0]), precision, np.array([np.inf, 2.0, 1.0]))
    assert curve.thinned(points=2).thresholds.tolist() == [np.inf, 1.0]


def test_a_curve_of_one_point_is_refused():
    with pytest.raises(ArgumentError, match="points must be a whole number of at least 2; seen 1"):
        roc_curve([0.0], [1.0]).thinned(points=1)


def test_an_unknown_class_is_refused_with_both_names(as_users_run_it):
    with pytest.raises(UnknownNameError, match=r"'normal'.*'ood' or 'id'"):
        pr_curve([0.0], [1.0], positive="normal")
