from itertools import combinations
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from offmap.errors import ArgumentError, DataError, ShapeError
from offmap.metrics import (
    Placements,
    delong_interval,
    delong_interval_of_mean,
    delong_test_of_mean,
    holm,
    placed_difference,
    reliability,
    share_interval,
)

Z = 1.959963984540054  # of 95 %


def slow_holm(p_values):
    """The largest level at which the step-down procedure keeps each hypothesis."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    m = len(p_values)
    return [
        min(1, max((m - j) * p_values[order[j]] for j in range(order.index(i) + 1)))
        for i in range(m)
    ]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_equals_the_step_down_procedure(p_values):
    assert holm(p_values) == pytest.approx(slow_holm(p_values))


def test_what_is_no_p_value_is_refused():
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(ArgumentError, match=r"a p-value must lie in \[0, 1\]; seen"):
            holm([0.5, bad])


@given(st.integers(1, 500), st.data())
def test_the_interval_of_a_share_is_exact(n, data):
    count = data.draw(st.integers(0, n))
    low, high = binomtest(count, n).proportion_ci(method="exact")
    assert share_interval(count, n) == pytest.approx((low, high), abs=1e-9)
    assert 0 <= share_interval(count, n).low <= count / n <= share_interval(count, n).high <= 1


def test_a_share_of_nothing_is_refused(as_users_run_it):
    for count, n, name in ((0, 0, "n"), (3, 2, "count"), (-1, 4, "count"), (1.5, 4, "count")):
        with pytest.raises(ArgumentError, match=f"{name} must be a whole number"):
            share_interval(count, n)


def sets_of(rng, n, *, shift):
    return rng.normal(size=n), [rng.normal(shift, size=m) for m in (30, 60, 40)]


def test_the_variance_of_a_mean_shares_the_id_samples():
    """Three sets that are one another's copies say no more of ID than one does."""
    rng = np.random.default_rng(0)
    id_scores, ood = rng.normal(size=50), rng.normal(1, size=40_000)
    parts = np.split(ood, 4)
    one, all_four = delong_interval(id_scores, ood), delong_interval_of_mean(id_scores, parts)
    width = all_four.high - all_four.low
    assert width == pytest.approx(one.high - one.low, rel=0.01)
    alone = [delong_interval(id_scores, part) for part in parts]
    naive = sqrt(sum(((high - low) / 2) ** 2 for low, high in alone)) / 4 * 2
    assert naive == pytest.approx(width / 2, rel=0.05)  # half of the truth


def test_the_interval_of_a_mean_equals_the_table_of_all_pairs():
    id_scores, oods = sets_of(np.random.default_rng(1), 70, shift=0.8)
    tables = [(id_scores[:, None] < ood) * 1.0 for ood in oods]
    middle = np.mean([table.mean() for table in tables])
    variance = np.mean([t.mean(1) for t in tables], axis=0).var(ddof=1) / 70
    variance += sum(t.mean(0).var(ddof=1) / t.shape[1] / 9 for t in tables)
    low, high = delong_interval_of_mean(id_scores, oods)
    assert (low, high) == pytest.approx((middle - Z * sqrt(variance), middle + Z * sqrt(variance)))


def test_placements_give_every_pair_the_test_of_its_scores():
    rng = np.random.default_rng(2)
    detectors = [sets_of(rng, 50, shift=shift) for shift in (0.5, 0.8, 0.8)]
    placed = [Placements.of(*scores) for scores in detectors]
    for (a, b), (x, y) in zip(combinations(placed, 2), combinations(detectors, 2), strict=True):
        assert placed_difference(a, b) == delong_test_of_mean(*x, *y)
    second = placed_difference(placed[0].only([1]), placed[1].only([1]))
    (id_a, oods_a), (id_b, oods_b) = detectors[:2]
    assert second == delong_test_of_mean(id_a, [oods_a[1]], id_b, [oods_b[1]])
    assert placed_difference(placed[0], placed[0]).p_value == 1
    with pytest.raises(ShapeError, match="there is no OOD set"):
        Placements.of([0.0, 1.0], [])


def test_reliability_by_hand():
    found = reliability([0.0, 0.1, 0.5, 0.6, 1.0], [True, False, True, False, True], bins=2)
    assert found.count.tolist() == [3, 2]  # 0.5 is in the first bin
    assert found.confidence == pytest.approx([0.2, 0.8])
    assert found.accuracy == pytest.approx([2 / 3, 1 / 2])
    assert found.ece == pytest.approx(3 / 5 * (2 / 3 - 0.2) + 2 / 5 * 0.3)


def test_a_bin_holds_its_upper_end():
    for bins in (7, 10, 15, 49):
        ends = [i / bins for i in range(1, bins + 1)]
        assert reliability(ends, [True] * bins, bins=bins).count.tolist() == [1] * bins


def test_there_are_fifteen_bins_by_default():
    assert reliability([0.5], [True]).count.tolist() == [0] * 7 + [1] + [0] * 7


def test_an_empty_bin_has_no_mean_and_no_error():
    found = reliability([0.9, 0.9], [True, True], bins=10)
    assert np.isnan(found.confidence).sum() == 9
    assert found.ece == pytest.approx(0.1)


def test_the_calibration_error_of_honest_confidence_is_small():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=200_000)
    honest = rng.uniform(size=200_000) < confidence
    assert reliability(confidence, honest).ece < 0.01
    assert reliability(confidence, rng.uniform(size=200_000) < confidence**2).ece > 0.1


def test_what_is_no_probability_is_refused():
    with pytest.raises(DataError, match=r"in \[0, 1\]; seen 0.5 to 1.5"):
        reliability([0.5, 1.5], [True, False])
    with pytest.raises(ArgumentError, match="bins must be a whole number"):
        reliability([0.5], [True], bins=0)
