import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from offmap.errors import ArgumentError, LabelError, NonFiniteError, ShapeError
from offmap.metrics import auroc, open_set, oscr, oscr_curve

CLASSES = 4


@st.composite
def systems(draw):
    """Labels, predictions and scores (with ties) of known samples; the last two of unknown."""
    seed, n, m = draw(st.integers(0, 2**31)), draw(st.integers(1, 40)), draw(st.integers(1, 30))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    predictions = np.where(rng.random(n) < 0.7, labels, rng.integers(0, CLASSES, n))
    levels = draw(st.sampled_from([3, 1000]))
    return (
        labels,
        predictions,
        rng.integers(0, levels, n) / levels,
        rng.integers(0, CLASSES, m),
        rng.integers(0, levels, m) / levels + draw(st.sampled_from([0.0, 0.3])),
    )


def slow_predictions(predictions, scores, threshold):
    return [CLASSES if s > threshold else a for a, s in zip(predictions, scores, strict=True)]


@given(systems(), st.floats(-0.5, 1.5))
def test_every_figure_equals_its_definition(system, threshold):
    labels, predictions, known, strange, unknown = system
    found = open_set(*system, threshold=threshold, classes=CLASSES)
    truth = [*labels, *[CLASSES] * len(unknown)]
    given_ = slow_predictions(predictions, known, threshold) + slow_predictions(
        strange, unknown, threshold
    )
    every = list(range(CLASSES + 1))
    assert np.array_equal(found.confusion, confusion_matrix(truth, given_, labels=every))
    assert found.accuracy == pytest.approx(accuracy_score(truth, given_))
    assert found.f1 == pytest.approx(f1_score(truth, given_, average="macro"))
    is_unknown = [t == CLASSES for t in truth]
    called = [a == CLASSES for a in given_]
    expected = confusion_matrix(is_unknown, called, labels=[False, True])
    assert np.array_equal(found.binary, expected)
    assert found.accepted == pytest.approx(np.mean(known <= threshold))
    assert found.rejected == pytest.approx(np.mean(unknown > threshold))
    assert found.closed_accuracy == pytest.approx(np.mean(labels == predictions))
    assert found.auroc == auroc(known, unknown)
    assert (found.n_known, found.n_unknown) == (len(known), len(unknown))


@given(systems())
def test_oscr_counts_pairs_and_is_the_area_of_its_curve(system):
    labels, predictions, known, _, unknown = system
    right = labels == predictions
    pairs = [
        (1.0 if s < u else 0.5 if s == u else 0.0) * r
        for s, r in zip(known, right, strict=True)
        for u in unknown
    ]
    area = oscr(known, right, unknown)
    assert area == pytest.approx(np.mean(pairs), abs=1e-12)
    curve = oscr_curve(known, right, unknown)
    assert trapezoid(curve.ccr, curve.fpr) == pytest.approx(area, abs=1e-12)
    assert (curve.fpr[0], curve.ccr[0]) == (0, 0)
    assert curve.fpr[-1] == 1
    assert curve.ccr[-1] == pytest.approx(right.mean())
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.ccr) >= 0).all()


@given(systems())
def test_the_points_of_the_curve_are_attained(system):
    labels, predictions, known, _, unknown = system
    curve = oscr_curve(known, labels == predictions, unknown)
    for fpr, ccr, threshold in zip(curve.fpr, curve.ccr, curve.thresholds, strict=True):
        assert fpr == pytest.approx(np.mean(unknown <= threshold))
        assert ccr == pytest.approx(np.mean((known <= threshold) & (labels == predictions)))


def test_oscr_of_a_perfect_classifier_is_the_auroc():
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(size=50), rng.normal(1, 1, 40)
    assert oscr(known, np.ones(50, bool), unknown) == pytest.approx(auroc(known, unknown))
    assert oscr(known, np.zeros(50, bool), unknown) == 0


def test_tensors_are_taken():
    scores = torch.tensor([0.1, 0.9]), torch.tensor([0.5])
    found = open_set(
        torch.tensor([0, 1]), torch.tensor([0, 1]), scores[0], torch.tensor([1]), scores[1],
        threshold=0.7, classes=2,
    )  # fmt: skip
    assert found.confusion.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_what_cannot_be_counted_is_refused():
    good = dict(threshold=0.5, classes=2)
    with pytest.raises(LabelError, match="labels must be classes from 0 to 1; seen int64 from 0"):
        open_set([0, 2], [0, 1], [0.0, 1.0], [1], [0.5], **good)
    with pytest.raises(LabelError, match="unknown_predictions"):
        open_set([0, 1], [0, 1], [0.0, 1.0], [-1], [0.5], **good)
    with pytest.raises(LabelError, match="float64"):
        open_set([0.0, 1.0], [0, 1], [0.0, 1.0], [1], [0.5], **good)
    with pytest.raises(ShapeError, match="predictions must have shape"):
        open_set([0, 1], [0], [0.0, 1.0], [1], [0.5], **good)
    with pytest.raises(ShapeError, match="truth values"):
        oscr([0.0, 1.0], [1, 0], [0.5])
    with pytest.raises(NonFiniteError):
        open_set([0, 1], [0, 1], [0.0, np.nan], [1], [0.5], **good)
    with pytest.raises(ArgumentError, match="seen nan"):
        open_set([0, 1], [0, 1], [0.0, 1.0], [1], [0.5], threshold=float("nan"), classes=2)


def test_a_threshold_between_two_float32_scores_is_not_rounded_to_one_of_them():
    score = np.array([0.1], np.float32)  # just above the float64 0.1
    found = open_set([0], [0], score, [1], score, threshold=0.1, classes=2)
    assert found.binary.tolist() == [[0, 1], [0, 1]]
