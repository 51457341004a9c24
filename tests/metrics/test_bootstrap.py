from math import sqrt

import numpy as np
import pytest
import slow_metrics as slow

from offmap.errors import ArgumentError, NonFiniteError, ShapeError
from offmap.metrics import (
    Difference,
    Outcomes,
    accepted_and_right,
    auroc,
    bootstrap_difference,
    delong_test,
    f1_difference,
)

NONE = Difference(difference=0.0, low=0.0, high=0.0, p_value=1.0)
THRESHOLD = 0.8


def two_systems(rng, n=120, m=80, shift_a=1.5, shift_b=1.5):
    """Scores and right predictions of two systems that see the same difficulty of a sample."""
    easy, hard = rng.normal(size=n), rng.normal(size=m)
    right = easy + rng.normal(size=n) < 1.5
    return [
        (
            (easy + rng.normal(size=n)) / sqrt(2),
            right ^ (rng.random(n) < 0.05),
            (hard + rng.normal(size=m)) / sqrt(2) + shift,
        )
        for shift in (shift_a, shift_b)
    ]


def outcomes(system):
    return Outcomes.of(*system, threshold=THRESHOLD)


def slow_f1(outcomes, ids, oods):
    accepted = outcomes.accepted[ids].sum() + outcomes.ood_accepted[oods].sum()
    return 2 * outcomes.right[ids].sum() / (accepted + len(ids))


def f1_of_drawing(a, b):
    return lambda ids, oods: float(slow_f1(a, ids, oods) - slow_f1(b, ids, oods))


def quantile_error(spread, drawings):
    """Four standard errors of the 2.5 % quantile of so many normal drawings."""
    return 4 * spread * sqrt(0.025 * 0.975 / drawings) / 0.0584


def is_whole(*groups):
    return all((group == np.arange(len(group))).all() for group in groups)


def test_interval_and_p_value_are_counted_from_the_drawings():
    values = iter(np.random.default_rng(0).permutation(np.arange(-20.0, 181.0)))
    found = bootstrap_difference(
        lambda *groups: 50.0 if is_whole(*groups) else next(values), 9, 9, samples=201, level=0.9
    )
    # Ten of 201 below, ten above; 21 are at most 0, and one is added.
    assert (found.low, found.high) == pytest.approx((-10, 170))
    assert (found.difference, found.p_value) == (50.0, 2 * 22 / 202)


def test_each_group_is_drawn_to_its_own_size_from_all_of_its_samples():
    seen = []
    bootstrap_difference(lambda *groups: seen.append(groups) or 0.0, 7, 3, samples=200)
    assert len(seen) == 201
    for groups in seen:
        assert [(g.dtype, g.shape) for g in groups] == [(np.int64, (7,)), (np.int64, (3,))]
    drawn = [groups for groups in seen if not is_whole(*groups)]
    for group, size in zip(zip(*drawn, strict=True), (7, 3), strict=True):
        times = np.bincount(np.concatenate(group))
        assert len(times) == size
        # Four standard errors of a binomial count.
        share, total = 1 / size, times.sum()
        assert np.abs(times - share * total).max() < 4 * sqrt(total * share * (1 - share))


def test_the_p_value_of_the_f1_is_that_of_every_possible_drawing():
    # Three ID and two OOD samples: 27 times 4 drawings, equally likely.
    a = Outcomes.of([0, 0, 1], [True, True, True], [0, 1], threshold=0)
    b = Outcomes.of([0, 1, 0], [True, True, False], [0, 0], threshold=0)
    every = np.array([f1_of_drawing(a, b)(*drawing) for drawing in slow.every_drawing(3, 2)])
    assert len(every) == 108
    expected = 2 * min((every <= 0).mean(), (every >= 0).mean())
    samples = 40_000
    found = f1_difference(a, b, samples=samples)
    # Four standard errors: p is twice a share of the drawings.
    assert abs(found.p_value - expected) < 8 * sqrt(expected / 2 / samples)
    ends = np.quantile(every, [0.025, 0.975], method="inverted_cdf")
    assert (found.low, found.high) == pytest.approx(ends)


def test_the_f1_by_counts_equals_the_loop_over_drawings():
    a, b = map(outcomes, two_systems(np.random.default_rng(0), shift_b=0.8))
    by_loop = bootstrap_difference(f1_of_drawing(a, b), 120, 80, samples=2000)
    by_counts = f1_difference(a, b, samples=40_000)
    assert by_counts.difference == pytest.approx(by_loop.difference, abs=1e-15)
    error = quantile_error((by_counts.high - by_counts.low) / 3.92, 2000)
    assert by_counts.low == pytest.approx(by_loop.low, abs=error)
    assert by_counts.high == pytest.approx(by_loop.high, abs=error)


def test_the_difference_is_that_of_the_two_selections():
    one, other = two_systems(np.random.default_rng(1), shift_b=0.8)
    found = f1_difference(outcomes(one), outcomes(other), samples=1)
    f1_a, f1_b = (accepted_and_right(*each, threshold=THRESHOLD).f1 for each in (one, other))
    assert found.difference == f1_a - f1_b > 0


def test_a_system_does_not_differ_from_itself():
    a = outcomes(two_systems(np.random.default_rng(0))[0])
    assert f1_difference(a, a) == NONE
    assert bootstrap_difference(f1_of_drawing(a, a), 120, 80, samples=50) == NONE


def test_a_clear_difference_has_the_smallest_p_value_and_its_sign():
    a, b = map(outcomes, two_systems(np.random.default_rng(0), shift_a=5.0, shift_b=-2.0))
    there, back = f1_difference(a, b, samples=999), f1_difference(b, a, samples=999)
    assert there.difference == -back.difference > 0
    assert there.low > 0 > back.high
    assert there.p_value == back.p_value == 2 / 1000


def test_exchanging_the_two_turns_the_interval_round():
    a, b = map(outcomes, two_systems(np.random.default_rng(0), shift_b=1.2))
    there = bootstrap_difference(f1_of_drawing(a, b), 120, 80, samples=200)
    back = bootstrap_difference(f1_of_drawing(b, a), 120, 80, samples=200)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-15)
    assert (back.difference, back.p_value) == (-there.difference, there.p_value)


def test_the_seed_alone_decides_the_drawings():
    a, b = map(outcomes, two_systems(np.random.default_rng(0), shift_b=1.2))
    for test in (
        lambda seed: f1_difference(a, b, samples=100, seed=seed),
        lambda seed: bootstrap_difference(f1_of_drawing(a, b), 120, 80, samples=100, seed=seed),
    ):
        assert test(3) == test(3) != test(4)


def test_the_interval_holds_the_difference_as_often_as_it_says(as_users_run_it):
    rng, rounds, level = np.random.default_rng(0), 400, 0.9
    shifts = {"shift_a": 1.8, "shift_b": 1.2}
    many = [outcomes(each) for each in two_systems(rng, 240_000, 160_000, **shifts)]
    truth = many[0].selection.f1 - many[1].selection.f1
    covered = 0
    for _ in range(rounds):
        a, b = map(outcomes, two_systems(rng, **shifts))
        found = f1_difference(a, b, samples=400, level=level)
        covered += found.low <= truth <= found.high
    # Three standard errors of the simulation, and two per cent for the percentiles.
    assert abs(covered / rounds - level) < 3 * sqrt(level * (1 - level) / rounds) + 0.02


def test_p_values_are_small_as_seldom_as_they_say_when_the_two_are_equally_good(as_users_run_it):
    rng, rounds = np.random.default_rng(0), 400
    p_values = [
        f1_difference(*map(outcomes, two_systems(rng)), samples=400).p_value for _ in range(rounds)
    ]
    for level in (0.05, 0.2):
        share = np.mean(np.array(p_values) <= level)
        assert abs(share - level) < 3 * sqrt(level * (1 - level) / rounds) + 0.02


def test_of_the_auroc_it_is_the_interval_of_delong(as_users_run_it):
    (id_a, _, ood_a), (id_b, _, ood_b) = two_systems(np.random.default_rng(0), shift_b=1.2)
    found = bootstrap_difference(
        lambda i, o: auroc(id_a[i], ood_a[o]) - auroc(id_b[i], ood_b[o]), 120, 80
    )
    expected = delong_test(id_a, ood_a, id_b, ood_b)
    assert found.difference == pytest.approx(expected.difference, abs=1e-15)
    error = quantile_error((expected.high - expected.low) / 3.92, 2000)
    assert found.low == pytest.approx(expected.low, abs=error)
    assert found.high == pytest.approx(expected.high, abs=error)


def test_other_samples_are_refused_with_both_counts():
    a = Outcomes.of([0.0, 1.0], [True, True], [2.0], threshold=1.0)
    b = Outcomes.of([0.0, 1.0], [True, True], [2.0, 3.0], threshold=1.0)
    with pytest.raises(ShapeError, match="a has 2 ID and 1 OOD samples, b has 2 and 2"):
        f1_difference(a, b)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, float("nan"), "0.95", None, True])
def test_a_level_outside_its_range_is_refused(as_users_run_it, level):
    a = Outcomes.of([0.0], [True], [2.0], threshold=1.0)
    with pytest.raises(ArgumentError, match="level"):
        f1_difference(a, a, level=level)
    with pytest.raises(ArgumentError, match="level"):
        bootstrap_difference(lambda i: 0.0, 3, level=level)


def test_drawing_nothing_is_refused(as_users_run_it):
    a = Outcomes.of([0.0], [True], [2.0], threshold=1.0)
    with pytest.raises(ArgumentError, match="samples must be a whole number of at least 1; seen 0"):
        f1_difference(a, a, samples=0)
    for size in (0, -1, 2.0, "3", None):
        with pytest.raises(ArgumentError, match="samples in a group must be a whole number"):
            bootstrap_difference(lambda i, o: 0.0, 3, size)
    with pytest.raises(ArgumentError, match="give the size of each"):
        bootstrap_difference(lambda: 0.0)
    for seed in (-1, 0.5, None):
        with pytest.raises(ArgumentError, match="seed must be a whole number of at least 0"):
            bootstrap_difference(lambda i: 0.0, 3, seed=seed)


def test_a_figure_without_a_value_in_some_drawing_is_refused_with_their_number():
    with pytest.raises(NonFiniteError, match="NaN or infinite in 5 of 6 calls"):
        bootstrap_difference(lambda i: 0.0 if is_whole(i) else float("nan"), 20, samples=5)
