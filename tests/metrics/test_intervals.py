from math import sqrt
from statistics import NormalDist

import numpy as np
import pytest
import slow_metrics as slow
from hypothesis import given
from scipy.stats import kstest

from offmap.errors import ArgumentError, NonFiniteError, ShapeError
from offmap.metrics import (
    Difference,
    Interval,
    Placements,
    auroc,
    delong_interval,
    delong_test,
    delong_test_of_mean,
    placed_difference,
)

Z = 1.959963984540054  # of 95 %


@given(slow.two_samples(least=2))
def test_interval_equals_the_pairwise_formula(samples):
    middle, half = slow.auroc(*samples), Z * sqrt(slow.auroc_covariance(samples)[0, 0])
    expected = max(0, middle - half), min(1, middle + half)
    assert delong_interval(*samples) == pytest.approx(expected, abs=1e-9)


@given(slow.two_samples(least=2))
def test_interval_holds_the_auroc_and_widens_with_the_level(samples):
    narrow, wide = delong_interval(*samples, level=0.5), delong_interval(*samples, level=0.99)
    assert 0 <= wide.low <= narrow.low <= auroc(*samples) <= narrow.high <= wide.high <= 1


def test_the_interval_of_perfect_or_inverted_scores_is_a_point():
    low, high = np.arange(5.0), np.arange(5.0) + 10
    assert delong_interval(low, high) == Interval(1.0, 1.0)
    assert delong_interval(high, low) == Interval(0.0, 0.0)


def test_a_single_sample_on_either_side_leaves_the_auroc_unknown():
    assert delong_interval([0.0], [1.0, 2.0]) == Interval(0.0, 1.0)
    assert delong_interval([0.0, 1.0], [0.5]) == Interval(0.0, 1.0)
    test = delong_test([0.0], [1.0, 2.0], [3.0], [1.0, 2.0])
    assert test == Difference(difference=1.0, low=-1.0, high=1.0, p_value=1.0)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_interval_covers_the_true_auroc_as_often_as_it_says(as_users_run_it, level):
    rng = np.random.default_rng(0)
    truth, rounds = NormalDist().cdf(1 / sqrt(2)), 1500
    covered = 0
    for _ in range(rounds):
        low, high = delong_interval(rng.normal(size=80), rng.normal(1, 1, 60), level=level)
        covered += low <= truth <= high
    # Three standard errors of the simulation, and one per cent for the normal approximation.
    assert abs(covered / rounds - level) < 3 * sqrt(level * (1 - level) / rounds) + 0.01


def two_detectors(rng, n=80, m=60, shift_a=1.0, shift_b=1.0):
    """Scores of two detectors that see the same difficulty of a sample, each with its own noise."""
    id_common, ood_common = rng.normal(size=n), rng.normal(size=m)
    return (
        (id_common + rng.normal(size=n), ood_common + shift_a + rng.normal(size=m)),
        (id_common + rng.normal(size=n), ood_common + shift_b + rng.normal(size=m)),
    )


@given(slow.two_samples(least=2))
def test_paired_test_equals_the_covariance_matrix_of_delong(samples):
    rng = np.random.default_rng(0)
    # The second detector: the same samples, some of the scores replaced.
    other = tuple(np.where(rng.random(len(x)) < 0.5, x, rng.permutation(x)) for x in samples)
    covariance = slow.auroc_covariance(samples, other)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    test = delong_test(*samples, *other)
    difference = slow.auroc(*samples) - slow.auroc(*other)
    assert test.difference == pytest.approx(difference, abs=1e-12)
    half = Z * sqrt(max(0.0, variance))
    assert test.low == pytest.approx(max(-1, difference - half), abs=1e-7)
    assert test.high == pytest.approx(min(1, difference + half), abs=1e-7)


def test_p_value_is_that_of_the_normal_distribution():
    a, b = two_detectors(np.random.default_rng(0), shift_a=1.3)
    covariance = slow.auroc_covariance(a, b)
    deviation = sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    z = (slow.auroc(*a) - slow.auroc(*b)) / deviation
    assert delong_test(*a, *b).p_value == pytest.approx(2 * NormalDist().cdf(-abs(z)), rel=1e-9)


def test_p_values_are_uniform_when_the_two_are_equally_good(as_users_run_it):
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(1000):
        a, b = two_detectors(rng)
        p_values.append(delong_test(*a, *b).p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert abs(np.mean(np.array(p_values) < 0.05) - 0.05) < 3 * sqrt(0.05 * 0.95 / 1000)


def test_pairing_sees_a_difference_that_two_intervals_do_not():
    a, b = two_detectors(np.random.default_rng(0), 400, 400, shift_a=1.3)
    test = delong_test(*a, *b)
    apart = delong_interval(*a).low - delong_interval(*b).high
    assert test.p_value < 0.05
    assert test.low > 0 > apart


def test_exchanging_the_two_turns_the_difference_round():
    a, b = two_detectors(np.random.default_rng(0), shift_a=1.3)
    there, back = delong_test(*a, *b), delong_test(*b, *a)
    assert (back.difference, back.low, back.high) == (-there.difference, -there.high, -there.low)
    assert back.p_value == there.p_value


@given(slow.two_samples(least=2))
def test_a_detector_does_not_differ_from_itself(samples):
    assert delong_test(*samples, *samples) == Difference(
        difference=0.0, low=0.0, high=0.0, p_value=1.0
    )


def test_two_auroc_without_variance_differ_for_certain():
    low, high = np.arange(5.0), np.arange(5.0) + 10
    assert delong_test(low, high, high, low) == Difference(
        difference=1.0, low=1.0, high=1.0, p_value=0.0
    )


def test_a_hundred_thousand_samples_need_no_table_of_pairs():
    # The table of comparisons would hold ten thousand million entries.
    rng = np.random.default_rng(0)
    a, b = two_detectors(rng, 100_000, 100_000)
    test = delong_test(*a, *b)
    assert test.difference == pytest.approx(auroc(*a) - auroc(*b), abs=1e-15)
    assert 0.0 < test.high - test.low < 0.01


def test_other_samples_are_refused_with_both_counts():
    with pytest.raises(ShapeError, match="a has 2 ID and 1 OOD scores, b has 1 and 1"):
        delong_test([0.0, 1.0], [1.0], [0.0], [1.0])
    with pytest.raises(ShapeError, match="a has 1 ID and 1 OOD scores, b has 1 and 2"):
        delong_test([0.0], [1.0], [0.0], [1.0, 2.0])


def test_non_finite_scores_of_either_detector_are_refused():
    with pytest.raises(NonFiniteError, match="ood_scores"):
        delong_test([0.0, 1.0], [1.0, 2.0], [0.0, 1.0], [1.0, np.nan])


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, float("nan"), "0.95", None, True])
def test_a_level_outside_its_range_is_refused(as_users_run_it, level):
    with pytest.raises(ArgumentError, match="level"):
        delong_interval([0.0, 1.0], [1.0, 2.0], level=level)
    with pytest.raises(ArgumentError, match="level"):
        delong_test([0.0, 1.0], [1.0, 2.0], [0.0, 2.0], [1.0, 2.0], level=level)


def several_sets(rng, sizes=(60, 30, 90), n=80, shift_b=1.0):
    """Scores of two detectors on one ID set and several OOD sets."""
    common = rng.normal(size=n)
    found = {"a": (common + rng.normal(size=n), []), "b": (common + rng.normal(size=n), [])}
    for m in sizes:
        hard = rng.normal(size=m)
        for name, shift in (("a", 1.0), ("b", shift_b)):
            found[name][1].append(hard + shift + rng.normal(size=m))
    return (*found["a"], *found["b"])


def test_the_test_of_a_mean_equals_the_table_of_all_pairs():
    id_a, oods_a, id_b, oods_b = several_sets(np.random.default_rng(0), shift_b=1.4)
    tables = [slow.wins(id_a, a) - slow.wins(id_b, b) for a, b in zip(oods_a, oods_b, strict=True)]
    difference = np.mean([table.mean() for table in tables])
    of_id = np.mean([table.mean(1) for table in tables], axis=0)
    variance = of_id.var(ddof=1) / len(of_id)
    for table in tables:
        variance += table.mean(0).var(ddof=1) / table.shape[1] / len(tables) ** 2
    test = delong_test_of_mean(id_a, oods_a, id_b, oods_b)
    assert test.difference == pytest.approx(difference, abs=1e-12)
    assert test.high - test.low == pytest.approx(2 * Z * sqrt(variance), rel=1e-9)
    z = difference / sqrt(variance)
    assert test.p_value == pytest.approx(2 * NormalDist().cdf(-abs(z)), rel=1e-9)


def test_the_p_values_of_a_mean_are_uniform_when_the_two_are_equally_good(as_users_run_it):
    rng = np.random.default_rng(0)
    p_values = [delong_test_of_mean(*several_sets(rng)).p_value for _ in range(1000)]
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert abs(np.mean(np.array(p_values) < 0.05) - 0.05) < 3 * sqrt(0.05 * 0.95 / 1000)


def test_a_mean_over_other_sets_is_refused():
    with pytest.raises(ShapeError, match="a has 2 OOD sets, b has 1"):
        delong_test_of_mean([0.0, 1.0], [[1.0], [2.0]], [0.0, 1.0], [[1.0]])
    one, two = (Placements.of([0.0, 1.0], sets) for sets in ([[1.0]], [[1.0], [2.0]]))
    with pytest.raises(ShapeError, match="a has 1 OOD sets, b has 2"):
        placed_difference(one, two)
    with pytest.raises(ShapeError, match="a has 2 OOD sets, b has 1"):
        placed_difference(two, one)
    with pytest.raises(ShapeError, match="a has 0 OOD sets"):
        delong_test_of_mean([0.0, 1.0], [], [0.0, 1.0], [])
