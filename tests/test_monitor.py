"""The monitor's bets are their formula, keep their promise, and go on with equal bits."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import beta

import offmap
from offmap import demo
from offmap.errors import ArgumentError, NotFittedError, ShapeError, StoreError
from offmap.guard import Calibration, Certified, Monitor, Verdict, merged
from offmap.guard._betting import FRACTIONS, Bets, factors, weights
from offmap.guard._evidence import SHARES
from offmap.networks import DigitsCNN

LIMIT = math.log(20)
FIXED = "2026-01-01T00:00:00+00:00"


def certified(n: int = 1000, k: int = 50, **other: object) -> Certified:
    values = {
        **{"guard": "g", "rule": "plain", "alarm_rate": 0.05, "samples": (n,), "ranks": (k,)},
        **{"tests": 1, "distinct": True, **other},
    }
    return Certified(**values)  # type: ignore[arg-type]


def stream(count: int, rate: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(count) < rate


def slow_wealth(alarms: list[bool], rates: list[float]) -> float:
    """The rule of METHODS.md, section 6, in plain numbers."""
    total, w = 0.0, []
    for t in range(1, 200_001):
        total += 1 / (t * math.log(t + 1) ** 2)
    total += 1 / math.log(200_001)  # the integral beyond
    w = [1 / (total * t * math.log(t + 1) ** 2) for t in range(1, len(alarms) + 1)]
    stakes = dict.fromkeys((0.05, 0.1, 0.2, 0.4), 0.0)
    for alarm, q, weight in zip(alarms, rates, w, strict=True):
        stakes = {g: (s + weight) * (1 + g * (alarm / q - 1)) for g, s in stakes.items()}
    return sum(stakes.values()) / 4 + 1 - sum(w)


def test_the_weights_sum_to_one_and_not_above() -> None:
    """To a million in numbers, beyond between two integrals of 1 / (t log^2 (t + 1))."""
    n = 1_000_000
    total = 1 / weights(1, 1) / math.log(2) ** 2
    low, high = 1 / (total * math.log(n + 2)), (1 + 1 / n) / (total * math.log(n + 1))
    known = weights(1, n)
    assert known + low <= 1 <= known + high
    assert high - low < 1e-6
    for count in (2, 3, 47):
        one_by_one = sum(weights(t, 1) for t in range(3, 3 + count))
        assert weights(3, count) == pytest.approx(one_by_one, rel=1e-12)


def test_the_wealth_is_its_formula() -> None:
    alarms = stream(300, 0.2).tolist()
    monitor = Monitor(certified())
    monitor.update(alarms)
    q = float(beta.isf(0.05, 50, 951))
    assert monitor.rates.tolist() == pytest.approx([q], rel=1e-9)
    assert monitor.log_wealth == pytest.approx(math.log(slow_wealth(alarms, [q] * 300)), rel=1e-6)


def test_the_wealth_of_classes_bets_with_the_rate_of_each() -> None:
    """delta is shared: each class has a quantile at 1 - delta / 2."""
    by_class = certified(rule="per_class", samples=(100, 400), ranks=(5, 20))
    alarms, labels = stream(200, 0.2).tolist(), stream(200, 0.5, seed=1).astype(int).tolist()
    monitor = Monitor(by_class)
    monitor.update(alarms, labels)
    q = [float(beta.isf(0.025, 5, 96)), float(beta.isf(0.025, 20, 381))]
    wealth = slow_wealth(alarms, [q[label] for label in labels])
    assert monitor.log_wealth == pytest.approx(math.log(wealth), rel=1e-6)


@pytest.mark.parametrize(("n", "k"), [(59, 1), (1000, 39), (200, 10), (20, 20)])
def test_the_certified_rate_is_a_quantile_of_beta(n: int, k: int) -> None:
    upper, lower = certified(n, k).upper(0.05), certified(n, k).lower(0.05)
    assert lower is not None
    assert beta.sf(upper[0], k, n + 1 - k) == pytest.approx(0.05, rel=1e-6)
    assert beta.cdf(lower[0], k, n + 1 - k) == pytest.approx(0.05, rel=1e-6)


def test_the_least_samples_for_a_rate_are_those_of_the_certificate() -> None:
    """METHODS.md: 59 for 5 % with 95 % confidence; rank 39 of 1,000 instead of 50."""
    assert certified(59, 1).upper(0.05)[0] <= 0.05 < certified(58, 1).upper(0.05)[0]
    assert certified(1000, 39).upper(0.05)[0] <= 0.05 < certified(1000, 40).upper(0.05)[0]


def test_several_tests_share_delta_and_their_rates_add() -> None:
    several = certified(300, 5, rule="bonferroni", tests=3)
    assert several.upper(0.06)[0] == pytest.approx(3 * beta.isf(0.02, 5, 296), rel=1e-9)
    assert several.lower(0.06) is None
    assert certified(300, 5, rule="bonferroni", tests=2).lower(0.06) is None


def test_classes_share_the_delta_of_a_lower_rate_and_limits_are_rounded_away() -> None:
    of = certified(rule="per_class", samples=(59, 1000), ranks=(1, 39))
    upper, lower = of.upper(0.06), of.lower(0.06)
    assert lower is not None
    for i, (n, k) in enumerate([(59, 1), (1000, 39)]):
        high, low = beta.isf(0.03, k, n + 1 - k), beta.ppf(0.03, k, n + 1 - k)
        assert (upper[i], lower[i]) == pytest.approx((high, low), rel=1e-9)
        assert upper[i] > high * (1 + 1e-13)
        assert lower[i] < low * (1 - 1e-13)


def test_classes_that_share_a_group_bet_at_its_rate() -> None:
    of = certified(rule="per_class", samples=(100, 60), ranks=(5, 3), groups=(1, 0, 1))
    assert [of.group(label) for label in range(3)] == [1, 0, 1]
    monitor = Monitor(of)
    monitor.update([True, False], [0, 2])
    assert monitor.expected_rate == pytest.approx(3 / 61)
    with pytest.raises(ArgumentError, match=r"within 3 classes, .* label 3"):
        monitor.update([True], [3])


def test_a_class_of_which_nothing_is_called_ood_bets_at_the_highest_rate() -> None:
    of = certified(rule="per_class", samples=(3, 100), ranks=(0, 5))
    upper, lower = of.upper(0.05), of.lower(0.05)
    assert lower is not None
    assert upper[0] == upper[1] == pytest.approx(beta.isf(0.025, 5, 96), rel=1e-9)
    assert lower[0] == 0 < lower[1]


@pytest.mark.parametrize(("rate", "mean"), [(0.0618, 1.0), (0.05, None)])
def test_at_the_certified_rate_the_wealth_is_one_on_average(
    rate: float, mean: float | None
) -> None:
    """What makes it a martingale: over all 4,096 courses of 12 samples, each by its probability."""
    none, one = factors(np.array(0.0618))
    courses = np.array(list(itertools.product([False, True], repeat=12)))
    bets = Bets(len(courses))
    for alarms in courses.T:
        bets.step(np.where(alarms, one[:, None], none[:, None]))
    probability = np.where(courses, rate, 1 - rate).prod(1)
    expected = float(probability @ np.exp(bets.log_wealth))
    assert expected == pytest.approx(1, abs=1e-9) if mean else expected < 1


@pytest.mark.parametrize("quiet", ["sample by sample", "counted"])
def test_a_wealth_that_was_huge_falls_as_its_formula_says(quiet: str, tmp_path: Path) -> None:
    """By logarithms, which neither overflow nor vanish: 2,000 alarms, then a long quiet time."""
    monitor = Monitor(certified())
    rates = monitor.rates[0] * (1 - SHARES) + SHARES
    logs = np.log(factors(rates))
    stakes, unbet = np.full(logs.shape[1:], -np.inf), 1.0

    def expected(samples: int, alarms: int) -> np.ndarray:
        nonlocal stakes, unbet
        weight = weights(monitor.samples + 1, samples)
        factor = alarms * logs[1] + (samples - alarms) * logs[0]
        stakes, unbet = np.logaddexp(stakes, math.log(weight)) + factor, unbet - weight
        mean = np.logaddexp.reduce(stakes, axis=0) - math.log(4)
        return np.asarray(np.logaddexp(mean, math.log(unbet)))

    for _ in range(2000):
        wealths = expected(1, 1)
        monitor.see(True)
    np.testing.assert_allclose(monitor.log_wealths[:-1], wealths, rtol=1e-9)
    for i in range(60):
        if quiet == "counted":
            wealths = expected(1000, 50)
            monitor.count(50, 1000)
        else:
            for t in range(200):
                wealths = expected(1, t % 20 == 0)
                monitor.see(t % 20 == 0)
        np.testing.assert_allclose(monitor.log_wealths[:-1], wealths, rtol=1e-9, atol=1e-9)
        if i % 20 == 0:
            monitor.save(tmp_path / "state.json")
            again = Monitor.load(tmp_path / "state.json")
            assert again.log_wealths.tolist() == monitor.log_wealths.tolist()
            monitor = again
    assert quiet != "counted" or monitor.log_wealth < 0  # all that was won is lost


@pytest.mark.parametrize("first", [1, 5_000_000])
def test_the_weights_of_millions_are_their_sum_and_of_billions_need_no_memory(first: int) -> None:
    t = np.arange(first, first + 4_000_000, dtype=np.float64)
    exact = float((1 / (t * np.log1p(t) ** 2)).sum()) * weights(1, 1) * math.log(2) ** 2
    found = weights(first, 4_000_000)
    assert exact * (1 - 1e-5) <= found <= exact * (1 + 1e-9)
    assert found < weights(first, 10**12) < 1
    monitor = Monitor(certified())
    monitor.count(50 * 10**9, 10**12)
    assert (monitor.samples, monitor.alarmed) == (10**12, False)


def crossed(n: int, k: int, steps: int, share: float, runs: int, quiet: int = 0) -> np.ndarray:
    """When streams, each with a true rate of its own drawn from its Beta, raise an alarm first.

    So many samples behind those that are quiet.
    """
    rng = np.random.default_rng(n + steps)
    rates = rng.beta(k, n + 1 - k, runs)
    none, one = factors(certified(n, k).upper(0.05))
    bets, first = Bets(runs), np.full(runs, np.inf)
    for t in range(1 - quiet, steps + 1):
        alarms = (rng.random(runs) < (share if t > 0 else 0)) | (rng.random(runs) < rates)
        bets.step(np.where(alarms, one, none))
        first[(bets.log_wealth >= LIMIT) & np.isinf(first)] = t
    return first


@pytest.mark.parametrize(("n", "k"), [(200, 10), (1000, 50)])
def test_false_alarms_ever_are_fewer_than_told_of(n: int, k: int) -> None:
    """alpha + delta is 10 %; over Betas far fewer, as most true rates lie below the certified."""
    runs = 1000
    ever = np.isfinite(crossed(n, k, 2000, 0.0, runs)).mean()
    assert ever <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)


def test_at_the_worst_rate_false_alarms_stay_below_alpha() -> None:
    """The rate equal to the certified one, 1,000 streams of 3,000; within four standard errors."""
    q, runs, rng = 0.0618, 1000, np.random.default_rng(3)
    none, one = factors(np.array([q]))
    bets, ever = Bets(runs), np.zeros(runs, bool)
    for _ in range(3000):
        bets.step(np.where(rng.random(runs) < q, one, none))
        ever |= bets.log_wealth >= LIMIT
    assert 0.005 < ever.mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize(("share", "bar"), [(0.1, 75), (0.2, 25)])
def test_median_delays_are_within_their_bars(share: float, bar: int) -> None:
    assert np.median(crossed(1000, 50, 2 * bar, share, 600)) <= bar


def test_a_quiet_time_does_not_blind_it() -> None:
    """20 % OOD behind 10,000 ID samples."""
    delays = crossed(1000, 50, 300, 0.2, 300, quiet=10_000)
    assert np.median(delays[delays > 0]) <= 150


def test_the_change_is_found() -> None:
    changes = []
    for seed in range(5):
        monitor = Monitor(certified())
        monitor.count(50, 1000)
        monitor.update(stream(100, 0.05, seed))
        monitor.update(stream(100, 0.5, 100 + seed))
        assert monitor.alarm is not None
        changes.append(monitor.alarm.change)
    assert abs(np.median(changes) - 1101) <= 15


def test_an_alarm_stays_and_tells_when_and_how_much() -> None:
    both = np.concatenate([stream(300, 0.05), stream(200, 0.5, 1)])
    monitor = Monitor(certified())
    monitor.update(both, time=FIXED)
    monitor.count(0, 20_000, time=FIXED)
    assert monitor.alarmed
    assert monitor.log_wealth < LIMIT
    assert monitor.alarm is not None
    assert monitor.alarm.time == FIXED
    assert 300 < monitor.alarm.sample < 350
    assert monitor.alarm.alarms_before == both[: monitor.alarm.change - 1].sum()
    assert 0.2 <= monitor.ood_share <= 0.47  # with which half of the samples are alarms
    assert f"ALARM at sample {monitor.alarm.sample:,} ({FIXED})" in str(monitor)
    assert f"exceeded {monitor.ood_share:.0%} (if all of it were caught:" in monitor.explain()


def test_a_confidence_is_not_rounded_to_certainty() -> None:
    told = Monitor(certified(), delta=0.005).explain()
    assert "with 99.5% confidence in its calibration set" in told


def test_the_point_figure_is_the_share_of_what_was_caught_since_the_change() -> None:
    monitor = Monitor(certified())
    monitor.count(100, 2000)
    monitor.update(stream(50, 0.5, 1))
    assert monitor.alarmed
    monitor.count(int(stream(20_000, 0.24, 2).sum()), 20_000)
    assert monitor.ood_share_if_all_caught == pytest.approx(0.2, abs=4 * 0.43 / math.sqrt(20_000))
    quiet = Monitor(certified())
    quiet.update([False] * 10)
    assert quiet.ood_share_if_all_caught == 0
    assert quiet.ood_share == 0


def test_the_lower_limit_of_the_share_is_seldom_above_it() -> None:
    """At the worst rate, 20 % of OOD, all caught: at most alpha, within four standard errors."""
    q, share, runs = 0.0618, 0.2, 200
    rates = SHARES + (1 - SHARES) * q
    rng, bets, shown = np.random.default_rng(5), Bets(runs, len(SHARES)), np.zeros(runs)
    none, one = factors(rates)
    for _ in range(1500):
        alarms = (rng.random(runs) < share + (1 - share) * q)[:, None]
        bets.step(np.where(alarms, one[:, None], none[:, None]))
        rich = bets.log_wealth >= LIMIT
        assert (rich[:, 1:] <= rich[:, :-1]).all()  # so one alpha is enough for all shares
        shown = np.maximum(shown, (rich * SHARES).max(1))
    wrong = (shown > share - 1e-9).mean()
    assert wrong <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)
    assert np.median(shown) >= 0.1


def test_ood_that_falls_into_one_class_proves_no_more_than_its_share() -> None:
    """A class of few calibration samples has a high rate: shares are bet on at the highest."""
    by_class = certified(rule="per_class", samples=(40, 4000), ranks=(2, 200))
    monitor = Monitor(by_class)
    rates = SHARES[1:] + (1 - SHARES[1:]) * by_class.upper(0.05).max()
    for group in (0, 1):
        np.testing.assert_allclose(
            monitor._factors[group, 1, :, 1 : len(SHARES)],
            1 + FRACTIONS[:, None] * (1 / rates - 1),
        )


def test_too_few_alarms_are_told_where_scores_are_distinct() -> None:
    monitor = Monitor(certified())
    for _ in range(50):
        monitor.count(0, 20, time=FIXED)
    assert monitor.too_conforming
    assert not monitor.alarmed
    assert monitor.conforming is not None
    assert monitor.conforming.change == 1
    assert "TOO CONFORMING at sample" in monitor.explain()
    healthy = Monitor(certified())
    for seed in range(250):
        healthy.count(int(stream(20, 0.05, seed).sum()), 20)
    assert not healthy.too_conforming
    tied = Monitor(certified(distinct=False))
    tied.count(0, 1000)
    assert not tied.too_conforming
    assert "not told, as calibration scores are equal" in tied.explain()


def test_too_few_alarms_are_falsely_told_no_more_often_than_told_of() -> None:
    """At the least certified rate, the mirror's own worst case."""
    q, runs, rng = float(certified().lower(0.05)[0]), 500, np.random.default_rng(7)  # type: ignore[index]
    one, none = factors(np.array([1 - q]))
    bets, ever = Bets(runs), np.zeros(runs, bool)
    for _ in range(3000):
        bets.step(np.where(rng.random(runs) < q, one, none))
        ever |= bets.log_wealth >= LIMIT
    assert ever.mean() <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)


def test_wealth_never_overflows() -> None:
    """300 alarms multiply the highest stake by 1 + 0.4 (1/q - 1) each: its logarithm adds."""
    monitor, q = Monitor(certified()), float(beta.isf(0.05, 50, 951))
    monitor.update([True] * 300)
    gain = math.log1p(0.4 * (1 / q - 1))
    logs = [math.log(weights(t + 1, 1)) - t * gain for t in range(200)]
    expected = 300 * gain + math.log(sum(map(math.exp, logs)) / 4)
    assert monitor.log_wealth == pytest.approx(expected, rel=1e-9)
    counted = Monitor(certified())
    counted.count(1_000_000, 1_000_000)
    assert counted.log_wealth == pytest.approx(
        1_000_000 * gain + math.log(weights(1, 1_000_000) / 4), rel=1e-9
    )


@pytest.mark.parametrize("count", [40, 120])
def test_a_monitor_goes_on_with_equal_bits(count: int, tmp_path: Path) -> None:
    """Killed behind each of the first samples, or behind any sample of a longer stream."""
    alarms = stream(count, 0.3).tolist()
    whole = Monitor(certified())
    whole.update(alarms, time=FIXED)
    whole.save(tmp_path / "whole.json")
    part, path = Monitor(certified()), tmp_path / "part.json"
    for start in range(0, count, max(count // 40, 1)):
        part.save(path)
        part = Monitor.load(path, certified())
        part.update(alarms[start : start + max(count // 40, 1)], time=FIXED)
    part.save(path)
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_the_state_has_some_kilobytes(tmp_path: Path) -> None:
    monitor = Monitor(certified())
    monitor.update(stream(50, 0.3), np.arange(50) % 10)
    for _ in range(200):
        monitor.count(6, 20, 3)
    monitor.save(tmp_path / "state.json")
    assert (tmp_path / "state.json").stat().st_size < 16_384
    assert len(monitor.path.points) < 128
    with pytest.raises(ArgumentError, match=r"is a \.json file"):
        monitor.save(tmp_path / "state")


def test_numbers_of_numpy_and_torch_are_counted_and_written_as_any(tmp_path: Path) -> None:
    monitors = [Monitor(certified(), 0.05, 0.05) for _ in range(2)]
    of_python, others = monitors
    of_python.count(3, 10, 2, time="t")
    others.count(np.int64(3), np.int64(10), np.int64(2), time="t")
    of_python.see(True, 2, 0.01, time="t")
    others.see(np.bool_(True), torch.tensor(2), np.float64(0.01), time="t")
    for monitor, name in zip(monitors, "ab", strict=True):
        monitor.save(tmp_path / f"{name}.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert Monitor.load(tmp_path / "b.json").tally.by_class == {2: (11, 4)}


@pytest.mark.parametrize("is_ood", [0.01, 0.97, "no", None, math.nan])
def test_what_is_no_decision_is_refused(is_ood: object) -> None:
    monitor = Monitor(certified())
    with pytest.raises(ArgumentError, match="is_ood must be true or false; seen"):
        monitor.see(is_ood)
    assert monitor.samples == 0


@pytest.mark.parametrize("p_value", [math.nan, -0.1, 1.5])
def test_what_is_no_p_value_is_refused_before_anything_counts(p_value: float) -> None:
    monitor = Monitor(certified())
    with pytest.raises(ArgumentError, match=r"p_value must lie in \[0, 1\]; seen"):
        monitor.see(False, 1, p_value)
    assert (monitor.samples, monitor.bets.samples, monitor.tally.by_class) == (0, 0, {})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stakes": [[0.0]]}, "of another form"),
        ({"exponents": ["x"]}, "does not hold what it must"),
        ({"exponents": [0, 0]}, "does not hold what it must"),  # one for all stakes, as once
        ({"version": 99}, "it needs a newer offmap"),
        ({"format": "offmap guard"}, "is no monitor record"),
        ({"alphas": []}, "does not hold what it must"),
    ],
)
def test_a_state_that_is_damaged_is_refused(
    change: dict[str, object], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "state.json"
    Monitor(certified()).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=words):
        Monitor.load(path)


def test_another_guard_is_refused_and_another_threshold_spends_delta(tmp_path: Path) -> None:
    monitor = Monitor(certified())
    monitor.update([True, False])
    monitor.save(tmp_path / "state.json")
    with pytest.raises(ArgumentError, match="watches the guard g, and this is h, which has"):
        Monitor.load(tmp_path / "state.json", certified(guard="h"))
    before = monitor.log_wealth
    monitor.go_on_with(certified(k=10, alarm_rate=0.01))
    assert monitor.log_wealth == before
    assert monitor.rates.tolist() == pytest.approx([beta.isf(0.05, 10, 991)])
    assert monitor.false_alarm_bound == pytest.approx(0.05 + 2 * 0.05)
    assert "2 thresholds have each spent delta" in monitor.explain()
    monitor.go_on_with(certified())  # one that has been paid for
    assert monitor.false_alarm_bound == pytest.approx(0.15)


def test_a_reset_begins_anew_and_spends_alpha() -> None:
    monitor = Monitor(certified())
    monitor.update([True] * 10)
    assert monitor.alarmed
    monitor.reset(0.01)
    assert (monitor.alarmed, monitor.log_wealth, monitor.samples) == (False, 0, 0)
    assert monitor.alpha == 0.01
    assert monitor.false_alarm_bound == pytest.approx(0.05 + 0.01 + 0.05)
    assert "alpha 0.05 + 0.01 + delta 0.05 = 11.0%" in monitor.explain()


def test_counters_are_bet_on_at_once() -> None:
    one, same = Monitor(certified()), Monitor(certified())
    one.see(True)
    same.count(1, 1)
    assert one.log_wealth == same.log_wealth
    batch, q = Monitor(certified()), float(beta.isf(0.05, 50, 951))
    batch.count(3, 20)
    stakes = [
        weights(1, 20) * (1 + g * (1 / q - 1)) ** 3 * (1 - g) ** 17 for g in (0.05, 0.1, 0.2, 0.4)
    ]
    assert batch.log_wealth == pytest.approx(math.log(sum(stakes) / 4 + 1 - weights(1, 20)))
    assert (batch.samples, batch.tally.alarms) == (20, 3)
    assert not batch.count(0, 0)
    with pytest.raises(ArgumentError, match="alarms must be a whole number of at least 0 and at"):
        batch.count(3, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m.update([0.5]), ShapeError, "must be booleans"),
        (lambda m: m.update([True], [1, 2]), ShapeError, "2 labels beside 1 alarms"),
        (lambda m: m.update([True, True], [0, 7]), ArgumentError, "within 2 classes, .* label 7"),
        (lambda m: m.update([True]), ArgumentError, "with the label None: give the guard's own"),
        (lambda m: m.reset(2), ArgumentError, "alpha must lie in"),
    ],
)
def test_what_cannot_be_watched_is_refused_and_counts_nothing(
    call: object, error: type[Exception], words: str
) -> None:
    monitor = Monitor(certified(rule="per_class", samples=(100, 100), ranks=(5, 5)))
    with pytest.raises(error, match=words):
        call(monitor)  # type: ignore[operator]
    assert monitor.samples == 0


def test_verdicts_of_another_threshold_are_refused() -> None:
    """They would be bet on at a rate that they were not made at, and ID would raise an alarm."""
    scores = torch.arange(999.0)
    calibration = calibrated(scores)
    strict, loose = calibration, calibration.at(0.3)
    monitor = Monitor(Certified.of_calibration(strict, "weights"))
    new = torch.arange(0.5, 999, 5)[torch.randperm(200, generator=torch.manual_seed(0))]
    labels = torch.zeros(len(new), dtype=torch.long)
    score, p, is_ood = loose(new[:, None], labels)
    verdict = Verdict(labels, score, p, is_ood)
    with pytest.raises(ArgumentError, match=r"at another alarm rate than 0\.05"):
        monitor.update(verdict)
    assert monitor.samples == 0
    monitor.go_on_with(Certified.of_calibration(loose, "weights")).update(verdict)
    assert monitor.samples == len(new)
    assert not monitor.alarmed


@pytest.mark.parametrize("detectors", [1, 2])
def test_verdicts_of_a_guard_that_was_extended_are_refused(detectors: int) -> None:
    rule = "plain" if detectors == 1 else "bonferroni"
    scores, nobody = torch.arange(999.0)[:, None].repeat(1, detectors), torch.zeros(1998).long()
    before, after = Calibration(rule, 0.05), Calibration(rule, 0.05)
    before.learn(scores, nobody[:999], 1)
    after.learn(torch.cat([scores, scores + 0.5]), nobody, 1)
    monitor = Monitor(Certified.of_calibration(before, "w"))
    verdicts = []
    for calibration in (before, after):
        score, p, is_ood = calibration(scores[::7] + 0.25, nobody[:143])
        verdicts.append(Verdict(nobody[:143], score, p, is_ood))
    with pytest.raises(ArgumentError, match="is none among 999 calibration samples; watch"):
        monitor.update(verdicts[1])
    assert monitor.samples == 0
    monitor.update(verdicts[0])
    assert monitor.samples == 143


def test_counts_beside_the_bets() -> None:
    verdict = Verdict(
        torch.tensor([0, 1, 1, -1]),
        torch.tensor([1.0, 2.0, 3.0, 4.0]),
        torch.tensor([0.05, 0.050001, 1.0, 1e-9], dtype=torch.float64),
        torch.tensor([True, False, False, True]),
    )
    monitor = Monitor(certified())
    monitor.update(verdict)
    assert monitor.tally.by_class == {0: (1, 1), 1: (2, 0)}
    bins = monitor.tally.p_values
    assert (bins[0], bins[1], bins[19], sum(bins)) == (2, 1, 1, 4)


def calibrated(scores: torch.Tensor, rate: float = 0.05) -> Calibration:
    calibration = Calibration("plain", rate)
    calibration.learn(scores[:, None], torch.zeros(len(scores), dtype=torch.long), 1)
    return calibration


def test_what_a_calibration_certifies() -> None:
    scores = torch.randn(200, generator=torch.Generator().manual_seed(0))
    of = Certified.of_calibration(calibrated(scores), "w")
    assert (of.samples, of.ranks, of.tests, of.distinct) == ((200,), (10,), 1, True)
    assert Certified.of_calibration(calibrated(scores.flip(0)), "w") == of
    assert Certified.of_calibration(calibrated(scores, 0.1), "w").guard == of.guard
    assert Certified.of_calibration(calibrated(scores, 0.1), "w").ranks == (20,)
    for other in (calibrated(scores + 1), calibrated(scores[:150])):
        assert Certified.of_calibration(other, "w").guard != of.guard
    assert Certified.of_calibration(calibrated(scores), "v").guard != of.guard
    assert not Certified.of_calibration(calibrated(scores.round()), "w").distinct
    scores[0] = torch.nan
    assert not Certified.of_calibration(calibrated(scores), "w").distinct


def test_a_certificate_is_watched_at_its_own_rank() -> None:
    """METHODS.md: with confidence rank 39 of 1,000 instead of 50, certified for at most 5 %."""
    scores = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    calibration = Calibration("plain", 0.05, confidence=0.95)
    calibration.learn(scores, torch.zeros(1000, dtype=torch.long), 1)
    known = Certified.of_calibration(calibration, "w")
    assert known.ranks == (39,)
    assert known.upper(0.05)[0] <= 0.05
    other = Certified.of_calibration(calibration.at(0.02), "w")
    assert other.guard == known.guard
    assert other.ranks < known.ranks
    monitor = Monitor(known).go_on_with(other)
    assert monitor.false_alarm_bound == pytest.approx(0.15)


def test_pooled_classes_are_watched_as_one() -> None:
    labels = torch.tensor([0] * 200 + [1] * 200 + [2] * 60 + [3] * 60)
    scores = torch.randn(520, 1, generator=torch.Generator().manual_seed(0))
    calibration = Calibration("per_class", 0.05, confidence=0.95, pool=True)
    calibration.learn(scores, labels, 4)
    known = Certified.of_calibration(calibration, "w")
    assert known.groups == (0, 1, 2, 2)
    assert known.samples == (200, 200, 120)
    *_, is_ood = calibration(torch.full((2, 1), 99.0), torch.tensor([0, 3]))
    monitor = Monitor(known)
    monitor.update(is_ood, [0, 3])
    assert monitor.tally.by_class == {0: (1, 1), 3: (1, 1)}


def test_a_guard_is_watched(tmp_path: Path) -> None:
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    with pytest.raises(NotFittedError):
        Monitor(guard)
    guard.fit(sets.train).calibrate(sets.calibration)
    monitor = offmap.Monitor(guard)
    assert not monitor.update(guard(sets.test.images))
    assert monitor.update(guard(sets.ood["far"]["faces"].images))
    assert monitor.alarm is not None
    assert len(sets.test) < monitor.alarm.sample < len(sets.test) + 20
    guard.save(tmp_path / "guard")
    assert Certified.read(tmp_path / "guard") == monitor.certified
    assert Certified.of(offmap.load(tmp_path / "guard", demo.shipped())) == monitor.certified


def test_a_sample_without_a_finite_score_is_an_alarm() -> None:
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration)
    monitor = Monitor(guard)
    monitor.update(guard(torch.full((3, 1, 8, 8), torch.nan)))
    assert monitor.tally.alarms == 3


def test_a_cascade_is_watched_by_its_filter() -> None:
    sets = demo.digits_data()
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration, 0.1)
    cascade = offmap.Cascade(filter=guard, classifier=DigitsCNN(8))
    assert Monitor(cascade).certified == Certified.of(guard)
    guard.calibrate(sets.calibration, 0.1, per_class=True)
    with pytest.raises(ArgumentError, match="labels of the classifier: watch the verdicts of the"):
        Monitor(cascade)
    assert len(Monitor(guard).rates) == 8
    with pytest.raises(ArgumentError, match="filter of this cascade is no guard"):
        Monitor(offmap.Cascade(filter=DigitsCNN(8), classifier=DigitsCNN(8)))


def test_merged_monitors_have_the_mean_of_their_wealths() -> None:
    one, two = Monitor(certified()), Monitor(certified())
    one.update(stream(300, 0.3), np.zeros(300, int))
    two.update(stream(50, 0.05, 1), np.ones(50, int))
    both = merged({"north": one, "south": two})
    wealth = (math.exp(one.log_wealth) + math.exp(two.log_wealth)) / 2
    assert both.log_wealth == pytest.approx(math.log(wealth), rel=1e-12)
    assert both.alarmed
    assert both.ood_share <= one.ood_share
    assert [shard.name for shard in both.shards] == ["north", "south"]
    assert both.tally.samples == 350
    assert both.tally.by_class == {**one.tally.by_class, **two.tally.by_class}
    assert str(both).startswith("2 streams (north 300, south 50 samples)")
    assert not merged({"south": two, "other": two}).alarmed


def test_an_alarm_of_one_stream_weighs_less_among_many() -> None:
    astray = Monitor(certified())
    while not astray.alarmed:
        astray.see(True)
    assert astray.log_wealth < math.log(20 * 100)
    assert not merged(
        {"astray": astray, **{f"{i}": Monitor(certified()) for i in range(99)}}
    ).alarmed


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Monitor(certified(guard="h")), "is not of the guard, threshold, alpha and delta"),
        (Monitor(certified(k=40)), "is not of the guard, threshold, alpha and delta"),
        (Monitor(certified(), alpha=0.01), "is not of the guard, threshold, alpha and delta"),
        (Monitor(certified()).reset(), "the monitor other was reset"),
    ],
)
def test_what_does_not_belong_together_is_not_merged(other: Monitor, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        merged({"one": Monitor(certified()), "other": other})
    with pytest.raises(ArgumentError, match="no monitors"):
        merged({})
