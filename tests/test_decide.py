"""The threshold: a false-alarm rate that holds, in integer arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from offmap.errors import ArgumentError, NonFiniteError, ShapeError
from offmap.guard import Calibration
from offmap.guard.decide import (
    adjusted_p_values,
    alarm_rank,
    alarm_threshold,
    false_discoveries,
    least_samples,
    p_values,
)
from offmap.metrics import detection_accuracy


@given(n=st.integers(1, 400), percent=st.integers(1, 99))
def test_it_is_the_conformal_order_statistic(n: int, percent: int) -> None:
    """``score > threshold`` is the same event as ``p <= rate``, for the p-value of METHODS."""
    scores = torch.randperm(n).float()
    if percent * (n + 1) < 100:
        with pytest.raises(ArgumentError, match=f"at least {math.ceil(100 / percent) - 1} "):
            alarm_threshold(scores, percent / 100)
        return
    threshold = alarm_threshold(scores, percent / 100)
    for score in torch.arange(-1, n + 1) + 0.5:
        p_times = 1 + int((scores >= score).sum())
        assert (float(score) > threshold) == (100 * p_times <= percent * (n + 1))


def test_the_rate_is_the_decimal_that_was_typed() -> None:
    """In floats 0.07 * 100 is 7.000000000000001 and 0.29 * 100 is 28.999999999999996."""
    scores = torch.arange(99.0)
    assert alarm_threshold(scores, 0.29) == 70.0
    assert alarm_threshold(scores, 0.07) == 92.0


@given(n=st.integers(1, 400), rate=st.floats(0.01, 0.99), tests=st.sampled_from([1, 2, 3, 6]))
def test_for_any_rate_the_rank_is_what_the_p_value_says(n: int, rate: float, tests: int) -> None:
    """Rates that are no short decimals too, such as 1/3; for several tests p is multiplied."""
    passing = [r for r in range(1, n + 1) if tests * r / (n + 1) <= rate]
    calibration = Calibration("plain" if tests == 1 else "bonferroni", rate)
    scores = torch.randn(n, tests)
    if not passing:
        with pytest.raises(ArgumentError, match="needs at least"):
            calibration.learn(scores, torch.zeros(n).long(), 1)
        return
    calibration.learn(scores, torch.zeros(n).long(), 1)
    assert calibration.ranks.tolist() == [passing[-1]]
    if tests == 1:
        assert min(alarm_rank(n, rate), n) == passing[-1]
        assert calibration.threshold == alarm_threshold(scores[:, 0], rate)


def test_a_third_is_a_third() -> None:
    assert alarm_threshold(torch.arange(299.0), 1 / 3) == 199.0


def test_the_threshold_of_the_best_accuracy_is_the_highest_of_equally_good_ones() -> None:
    id_scores, ood_scores = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.5, 3.0, 4.0])
    assert detection_accuracy(id_scores, ood_scores)[1] == 2.0  # 5 / 6, as 1.0


def test_scores_may_be_an_array() -> None:
    assert alarm_threshold(np.arange(99.0), 0.05) == 94.0


def test_the_false_alarm_rate_holds_on_fresh_data() -> None:
    """Mean over 300 draws within three standard errors of floor(a(n+1)) / (n+1)."""
    generator = torch.Generator().manual_seed(0)
    n, m, draws, rate = 150, 400, 300, 0.1
    alarms = [
        float(
            (torch.randn(m, generator=generator) > alarm_threshold(calibration, rate))
            .float()
            .mean()
        )
        for calibration in torch.randn(draws, n, generator=generator)
    ]
    expected = math.floor(rate * (n + 1)) / (n + 1)
    bound = 3 * math.sqrt(rate * (1 - rate) * (1 / n + 1 / m) / draws)
    assert abs(sum(alarms) / draws - expected) < bound


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 5])
def test_a_rate_outside_the_unit_interval_is_refused(rate: float) -> None:
    with pytest.raises(ArgumentError, match="alarm_rate"):
        alarm_threshold(torch.arange(10.0), rate)


def test_non_finite_calibration_scores_are_refused() -> None:
    with pytest.raises(NonFiniteError, match="1 of 3"):
        alarm_threshold(torch.tensor([0.0, torch.nan, 1.0]), 0.5)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.06, 0.1, 0.2])
@pytest.mark.parametrize("n", [99, 999])
def test_discoveries_are_those_of_exact_fractions(n: int, rate: float) -> None:
    rng = np.random.default_rng(0)
    for m in (1, 7, 50, 100):
        ranks = np.sort(rng.integers(1, max(2, int(rate * n)), m))
        exact, limit = [Fraction(int(r), n + 1) for r in ranks], Fraction(str(rate))
        passed = [i for i, p in enumerate(exact, 1) if p <= i * limit / m]
        p = torch.from_numpy(ranks).double() / (n + 1)
        assert int(false_discoveries(p, rate).sum()) == max(passed, default=0)


def test_a_p_value_at_the_rate_is_a_discovery() -> None:
    for percent in range(1, 100):
        p = torch.tensor([percent], dtype=torch.float64) / 100
        assert false_discoveries(p, percent / 100).all()


def test_p_values_of_arrays() -> None:
    scores, calibration = np.array([0.5, 99.0]), np.arange(9.0)
    assert p_values(scores, calibration).tolist() == [0.9, 0.1]


@pytest.mark.parametrize("method", ["simes", "dkw", "monte_carlo", "local"])
def test_adjusted_p_values_hold_given_the_calibration_set(method: str) -> None:
    """Of uniform scores the chance of ``p <= b_r`` is known: the r-th highest, counted from 1."""
    n, delta, splits = 200, 0.2, 300
    ranks = torch.arange(1, n + 2).double()
    adjusted = adjusted_p_values(ranks / (n + 1), n, confidence=1 - delta, method=method)
    assert (adjusted.diff() >= 0).all()
    assert (adjusted >= ranks / (n + 1)).all()
    assert adjusted[-1] == 1
    generator = torch.Generator().manual_seed(0)
    true = 1 - torch.rand(splits, n, generator=generator, dtype=torch.float64).sort(1).values
    broken = float((true.flip(1) > adjusted[:-1]).any(1).double().mean())
    error = 4 * math.sqrt(delta * (1 - delta) / splits)
    assert broken <= delta + error
    assert method == "dkw" or broken >= delta - error


@pytest.mark.parametrize("method", ["simes", "local"])
def test_adjusted_p_values_of_several_detectors_hold_given_the_calibration_set(method: str) -> None:
    """Of two disjoint detectors the chances of ``p <= b`` add up; taken as one they break it."""
    n, delta, splits = 200, 0.2, 300
    ranks = torch.arange(1, n + 2).double()
    p = (2 * ranks / (n + 1)).clamp(max=1)
    adjusted = adjusted_p_values(p, n, confidence=1 - delta, method=method, tests=2)
    half = adjusted_p_values(ranks / (n + 1), n, confidence=1 - delta / 2, method=method)
    assert torch.allclose(adjusted, torch.where(p == 1, 1, (2 * half).clamp(max=1)))
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(2, splits, n, generator=generator, dtype=torch.float64).sort(2).values.sum(0)
    broken = (true.clamp(max=1) > adjusted[:-1]).any(1).double().mean()
    assert broken <= delta + 4 * math.sqrt(delta * (1 - delta) / splits)
    with pytest.raises(ArgumentError, match="whole multiples of 2/201 up to 1"):
        adjusted_p_values(ranks[:1] / (n + 1), n, tests=2)


def test_false_discoveries_of_adjusted_p_values_hold_given_the_calibration_set() -> None:
    """Of 50 calibration sets, few have a false-discovery rate of their own above the asked one."""
    generator = torch.Generator().manual_seed(0)
    n, rate, above = 300, 0.2, {"average": 0, "given": 0}
    for _ in range(50):
        calibration = torch.randn(n, generator=generator)
        shares: dict[str, list[float]] = {"average": [], "given": []}
        for _ in range(20):
            batch = torch.randn(60, generator=generator)
            batch[40:] += 4
            p = p_values(batch, calibration)
            for name, each in (("average", p), ("given", adjusted_p_values(p, n))):
                called = false_discoveries(each, rate)
                shares[name].append(float(called[:40].sum()) / max(int(called.sum()), 1))
        for name, each in shares.items():
            above[name] += sum(each) / 20 > rate
    assert above["given"] <= 0.05 * 50 + 4 * math.sqrt(0.0475 * 50)
    assert above["average"] > above["given"]


def test_p_values_of_another_calibration_set_are_refused() -> None:
    p = torch.tensor([3 / 11, 1.0], dtype=torch.float64)
    with pytest.raises(ArgumentError, match="whole multiples of 1/101"):
        adjusted_p_values(p, 100)
    with pytest.raises(ArgumentError, match="method must be one of"):
        adjusted_p_values(p, 10, method="guess")
    assert adjusted_p_values(p, 10).tolist()[1] == 1
    assert adjusted_p_values(p[:0], 10).shape == (0,)
    for wrong in (0.0, 12 / 11, -1 / 11, torch.nan):  # no score has such a rank
        with pytest.raises(ArgumentError, match="whole multiples of 1/11 up to 1"):
            adjusted_p_values(torch.tensor([wrong], dtype=torch.float64), 10)


@pytest.mark.parametrize("parts", [2, 3, 7, 9, 20, 49])
def test_as_many_samples_are_asked_for_as_are_enough(parts: int) -> None:
    """A rate of 1 / parts, which may be no decimal, needs the highest of ``parts`` samples."""
    assert least_samples(1 / parts) == parts - 1
    assert alarm_rank(parts - 1, 1 / parts) == 1
    if parts > 2:
        with pytest.raises(ArgumentError, match=f"at least {parts - 1} calibration samples; there"):
            alarm_rank(parts - 2, 1 / parts)


def test_p_values_may_be_arrays_and_are_refused_where_they_are_none() -> None:
    p = np.array([1, 9, 4, 3]) / 101
    tensor = torch.from_numpy(p)
    assert torch.equal(false_discoveries(p, 0.06), false_discoveries(tensor, 0.06))
    assert torch.equal(adjusted_p_values(p, 100), adjusted_p_values(tensor, 100))
    for wrong in ([0.01, float("nan")], [1.5, 0.1], [-3.0, 0.2]):
        with pytest.raises(ArgumentError, match=r"1 of 2 p-values are not in \[0, 1\]"):
            false_discoveries(np.array(wrong), 0.1)
    with pytest.raises(ShapeError, match=r"must have shape \(m,\); seen \(1, 4\)"):
        false_discoveries(tensor[None], 0.1)
