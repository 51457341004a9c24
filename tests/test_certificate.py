"""What is promised of this very calibration set: the right ranks, and kept in simulations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from offmap.errors import ArgumentError
from offmap.guard import Calibration
from offmap.guard.limits import samples_needed
from offmap.guard.promise import expected_of, promise
from offmap.guard.sensitivity import table
from offmap.guard.simultaneous import (
    METHODS,
    crossing_probability,
    local_level,
    simultaneous_limits,
)


def calibrated(
    scores: Tensor,
    alarm_rate: float | list[float] = 0.05,
    confidence: float | None = 0.95,
    *,
    rule: str = "plain",
    predictions: Tensor | None = None,
    pool: bool = False,
) -> Calibration:
    calibration = Calibration(rule, alarm_rate, confidence=confidence, pool=pool)
    scores = scores[:, None] if scores.ndim == 1 else scores
    labels = torch.zeros(len(scores)).long() if predictions is None else predictions
    calibration.learn(scores, labels, int(labels.max()) + 1)
    return calibration


def alarms(calibration: Calibration, scores: Tensor, labels: Tensor | None = None) -> Tensor:
    scores = scores[:, None] if scores.ndim == 1 else scores
    labels = torch.zeros(len(scores)).long() if labels is None else labels
    return calibration(scores, labels)[2]


@pytest.mark.parametrize(
    ("n", "rate", "confidence", "rank"),
    [(1000, 0.05, 0.95, 39), (59, 0.05, 0.95, 1), (299, 0.01, 0.95, 1), (1000, 0.05, None, 50)],
)
def test_the_rank_of_a_certificate(
    n: int, rate: float, confidence: float | None, rank: int
) -> None:
    scores = torch.arange(float(n))
    calibration = calibrated(scores, rate, confidence)
    assert calibration.ranks.tolist() == [rank]
    assert calibration.threshold == n - rank
    assert int(alarms(calibration, scores + 0.5).sum()) == rank


@settings(deadline=None)  # a busy machine is no failure
@given(
    n=st.integers(1, 300),
    percent=st.integers(1, 99),
    sure=st.sampled_from([0.5, 0.8, 0.95, 0.99]),
)
def test_the_rank_is_the_largest_whose_tail_is_at_most_delta(
    n: int, percent: int, sure: float
) -> None:
    """P(Beta(k, n + 1 - k) > a) is the binomial probability of fewer than k among n, summed."""
    rate, delta = Fraction(percent, 100), 1 - Fraction(str(sure))
    tail, largest = Fraction(0), 0
    for k in range(1, n + 1):
        tail += math.comb(n, k - 1) * rate ** (k - 1) * (1 - rate) ** (n - k + 1)
        if tail > delta:
            break
        largest = k
    if not largest:
        needed = samples_needed(percent / 100, delta)
        with pytest.raises(ArgumentError, match=f"needs at least {needed} calibration samples"):
            calibrated(torch.randn(n), percent / 100, sure)
        assert (1 - rate) ** needed <= delta < (1 - rate) ** (needed - 1)
        return
    assert calibrated(torch.randn(n), percent / 100, sure).ranks.tolist() == [largest]


def test_a_rate_on_average_needs_samples_for_the_highest_to_be_rare_enough() -> None:
    """The highest of n scores is exceeded by one new sample in n + 1, on average."""
    needed = {rate: samples_needed(rate, None) for rate in (0.3, 0.05, 0.01)}
    assert needed == {0.3: 3, 0.05: 19, 0.01: 99}
    assert samples_needed(0.05, None, tests=2) == 39  # each of two at half the rate


def test_that_a_tiny_rate_needs_millions_of_samples_is_told_at_once() -> None:
    """Of n scores none below the rate: (1 - 1e-7)^n is at most delta; all ranks took minutes."""
    n = samples_needed(1e-7, Fraction(1, 20))
    assert n * math.log1p(-1e-7) <= math.log(0.05) < (n - 1) * math.log1p(-1e-7)
    with pytest.raises(ArgumentError, match="needs at least 29957322 calibration samples"):
        calibrated(torch.randn(100), 1e-7)


def test_one_sample_is_enough_where_it_shows_the_rate() -> None:
    """The rate above the one score is uniform: at most 60 % with a confidence of 60 %, or less."""
    assert samples_needed(0.6, Fraction(1, 2)) == 1
    assert samples_needed(0.4, Fraction(1, 2)) == 2  # 1 - 0.5^(1/2) is 29 %
    assert samples_needed(0.6, Fraction(1, 2), tests=2) == 4  # (1 - 0.3)^4 is 24 %


@settings(deadline=None)  # a busy machine is no failure
@given(
    scores=st.lists(st.integers(0, 30), min_size=60, max_size=200),
    confidence=st.sampled_from([None, 0.9, 0.95]),
    rate=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_score_limit_and_decision_are_one_event(
    scores: list[int], confidence: float | None, rate: float
) -> None:
    calibration = calibrated(torch.tensor(scores).float(), rate, confidence)
    new = torch.arange(-1, 32).float() / 1
    _, p, is_ood = calibration(new[:, None], torch.zeros(len(new)).long())
    _, _, limit = calibration.with_limits(
        new[:, None], torch.zeros(len(new)).long(), calibration.limits_
    )
    assert torch.equal(is_ood, new > calibration.threshold)
    assert torch.equal(is_ood, limit <= rate)
    assert torch.equal(is_ood, p <= float(calibration.ranks) / (len(scores) + 1))
    if confidence is None:
        assert torch.equal(is_ood, p <= rate)


def test_without_a_confidence_the_table_is_that_of_the_p_values() -> None:
    n = 216
    table = calibrated(torch.randn(n), 0.05, None).limits_
    assert torch.equal(table, torch.arange(1, n + 2).double()[None] / (n + 1))


def test_rates_named_together_share_delta() -> None:
    both = calibrated(torch.arange(1000.0), [0.05, 0.01])
    k = both.ranks.item(), both.at(0.01).ranks.item()
    assert both.alarm_rate == 0.05
    for rank, rate in zip(k, (0.05, 0.01), strict=True):
        assert stats.beta.sf(rate, rank, 1001 - rank) <= 0.025
        assert stats.beta.sf(rate, rank + 1, 1000 - rank) > 0.025
    assert "so is it for 1.00%, named beforehand, at once" in promise(both)


def test_a_class_has_its_share_of_delta_and_one_with_too_few_is_named() -> None:
    """104 samples a class certify 5 % in ten classes at once, 103 do not."""
    predictions = torch.arange(10).repeat_interleave(104)
    scores = torch.randn(1040, generator=torch.Generator().manual_seed(0))
    calibration = calibrated(scores, rule="per_class", predictions=predictions)
    assert calibration.ranks.tolist() == [1] * 10
    fewer = torch.cat([predictions[:300], predictions[302:]])
    words = (
        r"class 2: .* in 10 classes at once needs at least 104 .*; there are 102\. .* 2 \(102\):"
    )
    with pytest.raises(ArgumentError, match=words):
        calibrated(scores[2:], rule="per_class", predictions=fewer)


def test_classes_with_too_few_are_joined_on_request_by_their_counts() -> None:
    counts = torch.tensor([300, 40, 300, 40, 0])
    predictions = torch.arange(5).repeat_interleave(counts)
    scores = torch.arange(680.0)
    calibration = Calibration("per_class", 0.05, confidence=0.95, pool=True)
    calibration.learn(scores[:, None], predictions, 5)
    assert calibration.groups_ is not None
    assert calibration.groups_.tolist() == [0, 2, 1, 2, 2]
    assert calibration.counts_.tolist() == [300, 300, 80]
    # Three groups share delta: of 80 samples the highest has a limit of 1 - (0.05 / 3)^(1 / 80).
    assert float(calibration.limits_[2, 0]) == pytest.approx(1 - (0.05 / 3) ** (1 / 80))
    assert float(calibration.limits_[2, 0]) <= 0.05
    labels = torch.tensor([1, 3, 4, 1, 0])
    found = alarms(calibration, torch.tensor([679.5, 679.5, 679.5, 678.5, 0.0]), labels)
    assert found.tolist() == [True, True, True, False, False]


def test_what_is_joined_may_still_be_too_few() -> None:
    predictions = torch.arange(3).repeat_interleave(torch.tensor([300, 20, 20]))
    with pytest.raises(ArgumentError, match="even joined, the classes with too few samples"):
        calibrated(torch.randn(340), rule="per_class", predictions=predictions, pool=True)


def test_several_detectors_share_rate_and_delta() -> None:
    calibration = calibrated(torch.randn(1000, 3), rule="bonferroni")
    k = int(calibration.ranks)
    assert (
        stats.beta.sf(0.05 / 3, k, 1001 - k) <= 0.05 / 3 < stats.beta.sf(0.05 / 3, k + 1, 1000 - k)
    )
    assert expected_of(calibration).low == 0
    with pytest.raises(ArgumentError, match=r"shared by 3 detectors with confidence 0\.95 needs"):
        calibrated(torch.randn(200, 3), rule="bonferroni")


def brute_force(limits: np.ndarray) -> float:
    """The same probability by binomial steps over all counts, none of them subtracted."""
    n = len(limits)
    state, at = {0: 1.0}, 0.0
    for rank, limit in enumerate(limits, 1):
        later: dict[int, float] = {}
        for count, weight in state.items():
            for more in range(n - count + 1):
                p = stats.binom.pmf(more, n - count, (limit - at) / (1 - at) if at < 1 else 0)
                if count + more >= rank:
                    later[count + more] = later.get(count + more, 0) + weight * p
        state, at = later, limit
    return 1 - sum(state.values())


@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_crossing_probability_is_that_of_all_paths(n: int) -> None:
    rng = np.random.default_rng(n)
    for limits in (np.sort(rng.random(n)), np.full(n, 0.7), stats.beta.isf(0.1, 1, 1) * np.ones(n)):
        assert crossing_probability(limits) == pytest.approx(brute_force(limits), abs=1e-12)


@pytest.mark.parametrize("n", [20, 200, 1000])
def test_simes_inequality_is_an_equality(n: int) -> None:
    """Sarkar's generalised Simes inequality is exact for uniform numbers: an independent check."""
    assert crossing_probability(simultaneous_limits(n, 0.05, "simes")) == pytest.approx(0.05)


@pytest.mark.parametrize("n", [2, 25, 300])
@pytest.mark.parametrize("method", METHODS)
def test_limits_hold_together_with_their_confidence(method: str, n: int) -> None:
    limits = simultaneous_limits(n, 0.1, method)
    assert (np.diff(limits) >= 0).all()
    probability = crossing_probability(limits)
    assert probability <= 0.1 + 1e-9
    assert method == "dkw" or probability > 0.0999


@pytest.mark.parametrize("n", [4, 59])
@pytest.mark.parametrize("delta", [0.5, 0.9, 0.999])
def test_limits_of_a_low_confidence_hold_with_it(n: int, delta: float) -> None:
    """Such as a p-value that is to be no more than typical; Simes' is exact there, too."""
    for method in METHODS:
        limits = simultaneous_limits(n, delta, method)
        assert (np.diff(limits) >= 0).all()
        assert crossing_probability(limits) <= delta + 1e-9
    assert crossing_probability(simultaneous_limits(n, delta, "simes")) == pytest.approx(delta)


def test_a_band_over_all_ranks_would_be_stricter_than_one_over_the_lower_half() -> None:
    """32 of 1,000 at 5 %; equal level on all 1,000 ranks gives 30."""
    n = 1000
    assert int((simultaneous_limits(n, 0.05) <= 0.05).sum()) == 32
    r = np.arange(1, n + 1)
    for rank, within in ((30, True), (31, False)):
        level = stats.beta.sf(0.05, rank, n + 1 - rank)
        everywhere = stats.beta.isf(level, r, n + 1 - r)
        assert (crossing_probability(everywhere) <= 0.05) == within
    assert local_level(n, 0.05) > level


def test_a_band_of_many_samples_is_stricter_than_the_exact_one() -> None:
    few, many = (int((simultaneous_limits(n, 0.05) <= 0.05).sum()) for n in (2000, 20_000))
    alone = [int((stats.beta.isf(0.05, r := np.arange(1, n // 2), n + 1 - r) <= 0.05).sum())
             for n in (2000, 20_000)]  # fmt: skip
    assert few < alone[0]
    assert 0.9 * alone[1] < many < alone[1]


@pytest.mark.parametrize("n", [20, 21])
def test_limits_have_their_formulas(n: int) -> None:
    r, half, delta = np.arange(1, n + 1), n // 2, 0.1
    dkw = r / n + math.sqrt(math.log(2 / delta) / (2 * n))
    np.testing.assert_allclose(simultaneous_limits(n, delta, "dkw"), np.minimum(dkw, 1))
    simes = simultaneous_limits(n, delta, "simes")
    for i in range(half, n + 1):
        product = math.prod((i - j) / (n - j) for j in range(half))
        assert simes[n - i] == pytest.approx(1 - (delta * product) ** (1 / half))
    assert (simes[n + 1 - half :] == 1).all()
    asymptotic = simultaneous_limits(n, delta, "monte_carlo")
    widths = (asymptotic - r / n)[:half] * n / np.sqrt(r * (n - r) / n)[:half]
    np.testing.assert_allclose(widths, widths[0])
    line = asymptotic[half - 1] + (asymptotic[half - 1] - asymptotic[half - 2]) * (r - half)
    np.testing.assert_allclose(asymptotic[half:], np.minimum(line, 1)[half:])


def test_one_sample_has_the_limit_of_its_rank_alone() -> None:
    for method in ("local", "simes", "monte_carlo"):
        assert simultaneous_limits(1, 0.1, method) == pytest.approx([0.9])
    assert simultaneous_limits(1, 0.1, "dkw").tolist() == [1.0]


def test_of_many_samples_three_hundred_ranks_share_delta_and_others_have_the_next() -> None:
    n, half = 12_001, 6000
    ranks = np.unique(np.geomspace(1, half, 300).round())
    limits = simultaneous_limits(n, 0.05)
    assert len(limits) == n
    own = stats.beta.isf(0.05 / len(ranks), ranks, n + 1 - ranks)
    np.testing.assert_allclose(limits[ranks.astype(int) - 1], own, rtol=1e-12)
    before = int(ranks[-2])
    assert (limits[before:half] == limits[half - 1]).all()
    assert (limits[half:] == 1).all()


def test_a_rate_chosen_afterwards_has_the_band() -> None:
    scores = torch.arange(1000.0)
    fixed = calibrated(scores, 0.01)
    chosen = fixed.at(0.05)
    assert (fixed.ranks.item(), chosen.ranks.item()) == (5, 32)
    assert chosen.scores_ is fixed.scores_
    assert "by the simultaneous band for all rates at once" in promise(chosen)
    assert "simultaneous" not in promise(fixed)
    assert torch.equal(chosen.at(0.01).limits_, fixed.limits_)
    marginal = calibrated(scores, 0.01, None)
    assert torch.equal(marginal.at(0.05).limits_, marginal.limits_)
    assert marginal.at(0.05).ranks.item() == 50
    with pytest.raises(ArgumentError, match=r"0\.001 was not named before .* no less than 0\.00"):
        fixed.at(0.001)


@pytest.mark.parametrize("n", [200, 1000, 5000])
def test_as_many_certificates_are_broken_as_the_exact_probability_says(n: int) -> None:
    """200 splits; above 5 % on m fresh samples are beta-binomially many, within 4 errors."""
    m, splits, rate = 5000, 200, 0.05
    generator = torch.Generator().manual_seed(n)
    above = 0
    for _ in range(splits):
        calibration = calibrated(torch.randn(n, generator=generator), rate)
        above += int(alarms(calibration, torch.randn(m, generator=generator)).sum()) > rate * m
    k = int(calibration.ranks)
    exact = float(stats.betabinom.sf(rate * m, m, k, n + 1 - k))
    assert abs(above / splits - exact) < 4 * math.sqrt(exact * (1 - exact) / splits)


@pytest.mark.parametrize("rule", ["plain", "per_class", "bonferroni"])
def test_few_certificates_are_broken(rule: str) -> None:
    """With the true rate known, at most delta of them, and in all classes at once."""
    splits, n, delta, broken = 200, 400, 0.2, 0
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(n) % 2) if rule == "per_class" else torch.zeros(n).long()
    for _ in range(splits):
        width = 2 if rule == "bonferroni" else 1
        scores = torch.rand(n, width, generator=generator)
        calibration = calibrated(
            scores, 0.1, 1 - delta, rule=rule, predictions=labels if rule == "per_class" else None
        )
        k = calibration.ranks
        if rule == "per_class":
            true = [1 - float(scores[labels == c, 0].sort().values[-int(k[c])]) for c in (0, 1)]
            broken += max(true) > 0.1
        else:
            kept = scores.sort(0).values[-int(k)]
            broken += 1 - float(kept.prod()) > 0.1
    assert broken <= delta * splits + 4 * math.sqrt(delta * (1 - delta) * splits)
    assert rule != "plain" or broken > delta * splits / 2


def test_the_expected_rate_is_that_of_the_beta_distribution() -> None:
    calibration = calibrated(torch.arange(1000.0))
    of = expected_of(calibration)
    assert (of.samples, of.rank) == (1000, 39)
    assert of.mean == 39 / 1001
    assert (of.low, of.high) == pytest.approx(stats.beta.ppf([0.025, 0.975], 39, 962))
    words = promise(calibration)
    assert words.startswith("With confidence 95%, at most 5.00% of ID samples are called OOD")
    assert "With 1,000 samples, the true rate is 3.90% in the mean, and between 2.79% and" in words


def test_the_expected_rate_of_several_detectors_is_at_most_the_sum_of_theirs() -> None:
    calibration = calibrated(torch.randn(1000, 3), rule="bonferroni")
    of, k = expected_of(calibration), int(calibration.ranks)
    assert (of.mean, of.low) == (3 * k / 1001, 0)
    assert of.high == pytest.approx(3 * stats.beta.isf(0.025 / 3, k, 1001 - k))
    loose = expected_of(calibrated(torch.randn(9, 3), 0.7, None, rule="bonferroni"))
    assert (loose.rank, loose.high) == (2, 1.0)  # three times 0.5, and no rate is above 1


def test_the_words_of_classes_say_that_some_were_joined() -> None:
    predictions = torch.arange(3).repeat_interleave(torch.tensor([300, 60, 70]))
    apart = calibrated(torch.randn(430), 0.1, None, rule="per_class", predictions=predictions)
    assert "10.00% of ID samples within each predicted class are called OOD." in promise(apart)
    few = torch.arange(3).repeat_interleave(torch.tensor([300, 5, 7]))
    joined = calibrated(torch.randn(312), 0.1, None, rule="per_class", predictions=few, pool=True)
    words = "within each predicted class (those with few samples joined) are called OOD."
    assert words in promise(joined)
    assert "In the smallest, of 12 samples, the true rate" in promise(joined)


def test_lower_limits_need_distinct_scores() -> None:
    tied = calibrated(torch.arange(1000.0).clamp(max=990), confidence=None)
    assert expected_of(tied).low == 0
    assert "at most 5.00% in the mean, and at most 6.43% for 97.5% of such sets" in promise(tied)
    assert int(alarms(tied, torch.arange(1000.0).clamp(max=990)).sum()) <= 50


def test_rates_of_few_in_a_hundred_thousand_are_not_told_as_none() -> None:
    scores = torch.arange(30_000.0)
    words = promise(calibrated(scores, 1e-4, None))
    assert "is 0.0100% in the mean, and between 0.0021% and 0.024% for 95%" in words
    words = promise(calibrated(scores.clamp(max=29_990), 1e-4, None))
    assert "is at most 0.0100% in the mean, and at most 0.025% for 97.5%" in words
    rows = calibrated(scores, 1e-4, None).sensitivity([0.0001])
    assert table(rows).splitlines()[-1].split() == [
        "3", "(0.01%)", "29995", "0.0033%", "0.013%",
    ]  # fmt: skip


def test_a_calibration_is_restored_with_its_promise() -> None:
    predictions = torch.arange(3).repeat_interleave(torch.tensor([300, 60, 70]))
    made = calibrated(torch.randn(430), [0.1, 0.05], rule="per_class", predictions=predictions,
                      pool=True)  # fmt: skip
    for each in (made, made.at(0.05), made.at(0.2)):
        record = each.record()
        again = Calibration.restored(record, each.state_dict())
        assert again.record() == record
        assert again.explain() == each.explain()
        assert torch.equal(again.limits_, each.limits_)
        assert torch.equal(again.at(0.1).limits_, made.limits_)
    assert record["alarm_rate"] == 0.2
    assert record["alarm_rates"] == [0.1, 0.05]


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_outside_the_unit_interval_is_refused(confidence: float) -> None:
    with pytest.raises(ArgumentError, match="confidence must lie in"):
        Calibration("plain", 0.05, confidence=confidence)


def test_no_rate_is_refused() -> None:
    with pytest.raises(ArgumentError, match="give an alarm rate"):
        Calibration("plain", [])


def test_what_follows_from_a_place_follows_what_is_loaded_and_chosen() -> None:
    new, labels = torch.tensor([[3.0], [97.0], [torch.nan]]), torch.zeros(3).long()
    calibration = calibrated(torch.arange(99.0), 0.05, None)
    assert calibration(new, labels)[1].tolist() == [0.97, 0.03, 0.01]
    assert calibration(new, labels)[2].tolist() == [False, True, True]
    assert calibration.at(0.02)(new, labels)[2].tolist() == [False, False, True]
    calibration.load_state_dict(calibrated(torch.arange(99.0) + 95, 0.05, None).state_dict())
    assert calibration(new, labels)[1].tolist() == [1.0, 0.98, 0.01]
    assert calibration(new, labels)[2].tolist() == [False, False, True]


@pytest.mark.parametrize("rule", ["plain", "per_class", "bonferroni"])
def test_a_sample_without_a_finite_score_is_always_ood_or_its_rate_is_refused(rule: str) -> None:
    """Of 399 scores at 5 % the 20th highest is the threshold, of two detectors the 10th."""
    scores = torch.randn(399, 2 if rule == "bonferroni" else 1)
    most = 9 if rule == "bonferroni" else 19
    scores[torch.randperm(399)[:most], 0] = torch.nan
    calibration = calibrated(scores, 0.05, None, rule=rule)
    new = torch.tensor([[torch.inf, -9.0], [-9.0, -9.0]])[:, : scores.shape[1]]
    assert alarms(calibration, new).tolist() == [True, False]
    with pytest.raises(ArgumentError, match=f"{most} of 399 calibration samples.* no finite score"):
        calibration.at(0.0475)
    scores[scores[:, 0].isfinite().nonzero()[0], 0] = -torch.inf
    with pytest.raises(ArgumentError, match=r"an alarm rate of 0\.05 cannot be promised"):
        calibrated(scores, 0.05, None, rule=rule)


def test_of_one_class_too_many_scores_are_not_finite() -> None:
    scores, labels = torch.arange(200.0), torch.arange(200) % 2
    scores[1:11:2] = torch.nan
    assert calibrated(scores, 0.06, None, rule="per_class", predictions=labels).ranks[1] == 6
    with pytest.raises(ArgumentError, match="5 of 100 calibration samples of class 1"):
        calibrated(scores, 0.05, None, rule="per_class", predictions=labels)
