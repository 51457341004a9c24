"""The scikit-learn face: the detectors' own scores, turned round, by scikit-learn's own rules."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import offmap
from offmap.detectors import ordinary, taps_of, to_learn_on
from offmap.errors import ArgumentError, DegenerateError, LabelError, NeedsError, ShapeError
from offmap.guard.decide import p_values
from offmap.sklearn import OODDetector
from tests.conftest import World, for_ensembles

ON_FEATURES = ["mahalanobis", "relativemahalanobis", "knn"]


@pytest.fixture(scope="module")
def x(world: World) -> np.ndarray:
    return features(world.acts)


@pytest.fixture(scope="module")
def far(world: World) -> np.ndarray:
    return features(world.ood)


def features(acts: offmap.Activations) -> np.ndarray:
    assert acts.features is not None
    return acts.features.numpy()


def test_scikit_learn_finds_nothing_to_complain_of() -> None:
    # In a process of its own: the tests' type checker would look at arguments in __init__, where
    # scikit-learn wants none looked at. What needs pandas or SCIPY_ARRAY_API is skipped.
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from sklearn.utils.estimator_checks import check_estimator as check\n"
        "from offmap.sklearn import OODDetector\n"
        "for detector in ('mahalanobis', 'KNN(k=1)'):\n"
        "    found = check(OODDetector(detector), on_skip=None)\n"
        "    passed = [c['status'] for c in found].count('passed')\n"
        "    assert passed > 40 and passed >= len(found) - 2, (passed, len(found))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# These refuse negative features, and features alone have no other layers.
REFUSE = ("scale", "ashb", "ashp", "ashs")
OVER_FEATURES = [n for n in ordinary() if n not in REFUSE and not taps_of(offmap.detector(n))]


@pytest.mark.parametrize("name", OVER_FEATURES)
def test_scores_are_the_detectors_own_with_the_sign_changed(
    name: str, world: World, x: np.ndarray, far: np.ndarray
) -> None:
    learn = to_learn_on([str(i) for i in range(len(x))])
    own = offmap.detector(name).fit(
        [(world.acts, world.labels)],
        calibration=[(world.acts[learn], world.labels[learn])],
        head=world.head,
    )
    ours = OODDetector(name, head=world.head).fit(x, world.labels.numpy())
    ours.calibrate(x, world.labels.numpy())
    expected = -own.score(world.ood).double().numpy()
    np.testing.assert_array_equal(ours.score_samples(far), expected)
    assert type(ours.detector_) is type(own)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_normal_samples_score_higher(
    name: str, world: World, x: np.ndarray, far: np.ndarray
) -> None:
    fitted = OODDetector(name).fit(x, world.labels.numpy())
    assert np.median(fitted.score_samples(x)) > np.median(fitted.score_samples(far))
    assert (fitted.predict(x) == 1).mean() > 0.9
    assert (fitted.predict(far) == -1).mean() > 0.5


@pytest.mark.parametrize("alarm_rate", [0.01, 0.1, 0.4])
def test_fit_calls_the_alarm_rate_of_the_training_samples_outliers(
    alarm_rate: float, x: np.ndarray
) -> None:
    called = OODDetector(alarm_rate=alarm_rate).fit_predict(x)
    assert (called == -1).sum() == alarm_rate * len(x)


def test_the_decision_is_the_shifted_score_and_its_sign_the_prediction(
    x: np.ndarray, far: np.ndarray
) -> None:
    fitted = OODDetector().fit(x)
    decision = fitted.decision_function(far)
    np.testing.assert_array_equal(decision, fitted.score_samples(far) - fitted.offset_)
    np.testing.assert_array_equal(fitted.predict(far), np.where(decision < 0, -1, 1))


@pytest.mark.parametrize("names", [[0, 1, 2], [1, 2, 3], ["ape", "bee", "cat"]])
def test_labels_of_any_kind_are_read_alike_by_both(names: list[object]) -> None:
    """Of a detector that learns on calibration data with labels; they are counted as in the fit."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(400, 4)), rng.normal(size=(3, 4))
    y = (x @ weight.T + 0.5 * rng.normal(size=(400, 3))).argmax(1)
    named = np.array(names)[y]
    fitted, other = (
        OODDetector("temperaturescaled", head=(weight, None)).fit(x[:200], of[:200])
        for of in (y, named)
    )
    fitted.calibrate(x[200:], y[200:])
    other.calibrate(x[200:], named[200:])
    assert other.offset_ == fitted.offset_
    assert np.array_equal(other.score_samples(x), fitted.score_samples(x))
    with pytest.raises(LabelError, match=r"those of the fit, .*; seen 9"):
        other.calibrate(x[200:], np.full(200, 9 if names[0] != "ape" else "9"))
    with pytest.raises(LabelError, match="one a sample: 100 of 200 samples"):
        other.calibrate(x[200:], named[:100])


def test_a_detector_that_waits_for_calibration_data_says_so(x: np.ndarray) -> None:
    head = (np.random.default_rng(0).normal(size=(3, x.shape[1])), None)
    fitted = OODDetector("klmatching", head=head).fit(x)
    with pytest.raises(NotFittedError, match="call calibrate after fit"):
        fitted.predict(x)


def test_a_calibrated_prediction_is_the_conformal_one(x: np.ndarray, far: np.ndarray) -> None:
    train, held_out = x[:400], x[400:]
    fitted = OODDetector(alarm_rate=0.1).fit(train).calibrate(held_out)
    scores = torch.from_numpy(-fitted.score_samples(held_out))
    assert fitted.offset_ == -offmap.alarm_threshold(scores, 0.1)
    mixed = np.concatenate([held_out, far])
    p = p_values(torch.from_numpy(-fitted.score_samples(mixed)), scores)
    np.testing.assert_array_equal(fitted.predict(mixed) == -1, (p <= 0.1).numpy())


def test_calibration_keeps_the_alarm_rate_on_new_data_and_training_quantiles_do_not() -> None:
    rng = np.random.default_rng(0)
    plain, calibrated = [], []
    for _ in range(50):
        draws = rng.normal(size=(349, 10))
        fitted = OODDetector(alarm_rate=0.1).fit(draws[:50])
        plain.append((fitted.predict(draws[149:]) == -1).mean())
        calibrated.append((fitted.calibrate(draws[50:149]).predict(draws[149:]) == -1).mean())
    # Exactly 0.1 in expectation, with a deviation of about 0.005 over 50 draws.
    assert 0.085 < np.mean(calibrated) < 0.115
    assert np.mean(plain) > 0.15


def test_a_calibration_that_fails_leaves_all_as_it_was(x: np.ndarray) -> None:
    guard = OODDetector(offmap.Combine([offmap.KNN(), offmap.KNN(k=1)]))
    guard.fit(x[:300]).calibrate(x[300:])
    before = guard.decision_function(x)
    with pytest.raises(ArgumentError, match="needs"):
        guard.calibrate(3 * x[:20])
    assert np.array_equal(guard.decision_function(x), before)


def test_fitting_again_forgets_the_calibration(x: np.ndarray) -> None:
    fitted = OODDetector().fit(x)
    offset = fitted.offset_
    assert fitted.calibrate(x * 2).offset_ != offset
    assert fitted.fit(x).offset_ == offset


def test_labels_of_any_kind_are_the_same_classes(world: World, x: np.ndarray) -> None:
    labels = world.labels.numpy()
    names = np.array(["ape", "bee", "cat", "dog", "eel", "fox"])[labels]
    expected = OODDetector().fit(x, labels)
    for other in (names, names.astype(object), labels * 10 - 7, list(labels)):
        fitted = OODDetector().fit(x, other)
        np.testing.assert_array_equal(fitted.score_samples(x), expected.score_samples(x))
        assert fitted.n_classes_ == 6
    np.testing.assert_array_equal(OODDetector().fit_predict(x, names), expected.predict(x))


def test_without_labels_mahalanobis_sees_one_class(x: np.ndarray) -> None:
    centred = x - x.mean(0, dtype=np.float64)
    precision = np.linalg.inv(centred.T @ centred / len(x))
    expected = -np.einsum("nd,de,ne->n", centred, precision, centred)
    scores = OODDetector("Mahalanobis(ridge=0)").fit(x).score_samples(x)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_the_layer_of_a_linear_classifier_is_a_head(world: World, x: np.ndarray) -> None:
    clf = LogisticRegression().fit(x, world.labels.numpy())
    energy = OODDetector("energy", head=(clf.coef_, clf.intercept_)).fit(x)
    expected = np.logaddexp.reduce(clf.decision_function(x), axis=1)
    np.testing.assert_allclose(energy.score_samples(x), expected, rtol=1e-5)


def test_the_layer_of_a_network_is_a_head(x: np.ndarray) -> None:
    layer = torch.nn.Linear(16, 6)  # its parameters keep gradients
    head = offmap.Head(layer.weight, layer.bias)
    fitted = OODDetector("maxlogit", head=head).fit(x)
    expected = layer(torch.from_numpy(x)).amax(1).detach().numpy()
    np.testing.assert_array_equal(fitted.score_samples(x), expected)
    assert not fitted.head_.weight.requires_grad


def test_it_works_in_a_pipeline(x: np.ndarray, far: np.ndarray) -> None:
    pipe = make_pipeline(StandardScaler(), OODDetector("KNN(k=5)")).fit(x)
    by_hand = OODDetector("KNN(k=5)").fit(StandardScaler().fit_transform(x))
    scaled = StandardScaler().fit(x).transform(far)
    np.testing.assert_array_equal(pipe.decision_function(far), by_hand.decision_function(scaled))
    pipe[-1].calibrate(pipe[:-1].transform(x))
    assert (pipe.predict(x) == -1).sum() == 29  # those beyond the floor(0.05 * 601)-th


def test_a_grid_search_finds_the_better_detector(x: np.ndarray, far: np.ndarray) -> None:
    both = np.concatenate([x, far])
    normal = np.repeat([1, -1], [len(x), len(far)])
    order = np.random.default_rng(0).permutation(len(both))
    # With the 350th of some 600 neighbours, a class of 67 says nothing of its own members.
    grid = {"detector": ["KNN(k=350)", offmap.KNN(k=20)]}
    search = GridSearchCV(OODDetector(), grid, scoring="roc_auc", cv=3)
    search.fit(both[order], normal[order])
    assert repr(search.best_estimator_.detector) == repr(offmap.KNN(k=20))
    assert search.best_score_ > 0.9


def test_a_clone_is_unfitted_and_its_arguments_are_kept(x: np.ndarray) -> None:
    detector = offmap.KNN(k=3)
    given = OODDetector(detector, alarm_rate=0.2, head=(np.eye(16), None)).fit(x)
    assert given.detector is detector
    assert not detector.fitted
    copy = clone(given)
    assert repr(copy.get_params()["detector"]) == repr(detector)
    assert copy.alarm_rate == 0.2
    with pytest.raises(NotFittedError):
        copy.predict(x)
    with pytest.raises(NotFittedError):
        copy.calibrate(x)
    np.testing.assert_array_equal(copy.fit(x).score_samples(x), given.score_samples(x))


def test_a_pickled_copy_scores_the_same(world: World, x: np.ndarray) -> None:
    fitted = OODDetector("react(vim)", head=world.head).fit(x)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.decision_function(x), fitted.decision_function(x))


def test_a_head_that_is_not_read_changes_nothing(world: World, x: np.ndarray) -> None:
    fitted = OODDetector(head=world.head).fit(x, np.arange(len(x)) % 2)
    assert (fitted.head_, fitted.n_classes_) == (None, 2)


def test_logits_are_not_invented(x: np.ndarray) -> None:
    with pytest.raises(NeedsError, match=r"head=.*classgaussian, .*knn, mahalanobis"):
        OODDetector("energy").fit(x, np.arange(len(x)) % 3)
    with pytest.raises(NeedsError, match="Residual"):
        OODDetector("residual").fit(x)


@pytest.mark.parametrize(
    "head",
    [
        (np.ones((6, 15)), None),
        (np.ones(16), None),
        (np.ones((6, 16)), np.ones(5)),
        (np.ones((1, 16)), np.ones(1)),
    ],
)
def test_a_head_of_another_shape_is_refused(
    head: tuple[np.ndarray, np.ndarray | None], x: np.ndarray
) -> None:
    with pytest.raises(ShapeError, match=r"\(c, 16\)"):
        OODDetector("energy", head=head).fit(x)


def test_labels_that_make_no_classes_are_refused(world: World, x: np.ndarray) -> None:
    y = world.labels.numpy()
    with pytest.raises(LabelError, match="needs labels"):
        OODDetector("relativemahalanobis").fit(x)
    with pytest.raises(LabelError, match="600 integers"):
        OODDetector().fit(x, y[:-1])
    with pytest.raises(LabelError, match="5 classes, and the head has 6"):
        OODDetector("react(mahalanobis)", head=world.head).fit(x[y > 0], y[y > 0])
    with pytest.raises(ValueError, match="Unknown label type"):
        OODDetector().fit(x, x[:, 0])


def test_arguments_out_of_range_are_refused_in_fit_alone(x: np.ndarray) -> None:
    with pytest.raises(ArgumentError, match="alarm_rate"):
        OODDetector(alarm_rate=1.5).fit(x)
    with pytest.raises(ArgumentError, match="nonsense"):
        OODDetector("nonsense").fit(x)
    with pytest.raises(DegenerateError, match="lower k"):
        OODDetector("knn").fit(x[:49])
    with pytest.raises(ArgumentError, match="at least 19"):
        OODDetector().fit(x).calibrate(x[:18])


def test_a_failed_fit_leaves_nothing_to_predict_with(x: np.ndarray) -> None:
    unfit = OODDetector("knn")
    with pytest.raises(DegenerateError):
        unfit.fit(x[:10])
    with pytest.raises(NotFittedError):
        unfit.predict(x)


def test_offmap_itself_does_not_import_scikit_learn() -> None:
    code = "import sys, offmap, offmap.cli; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [*for_ensembles(), "membermean(knn)"])
def test_detectors_of_ensembles_are_refused(name: str, world: World, x: np.ndarray) -> None:
    for head in (None, world.head):
        with pytest.raises(NeedsError, match="is for an ensemble, and features are those of one"):
            OODDetector(name, head=head).fit(x, world.labels.numpy())
