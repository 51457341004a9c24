"""Fresh data tells whether a rate is kept; a threshold whose error rate is certified."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

import offmap
from offmap import demo
from offmap.data import ImageSet, join
from offmap.detectors import to_learn_on
from offmap.errors import ArgumentError, DataError, LabelError, OverlapWarning, StoreError
from offmap.guard import Calibration, Verdict
from offmap.guard.check import Check, check_of
from offmap.guard.control import Control, control_of
from offmap.guard.sensitivity import table
from offmap.metrics import share_interval


def calibrated(
    scores: Tensor,
    alarm_rate: float = 0.05,
    confidence: float | None = 0.95,
    *,
    rule: str = "plain",
    predictions: Tensor | None = None,
) -> Calibration:
    calibration = Calibration(rule, alarm_rate, confidence=confidence)
    scores = scores[:, None] if scores.ndim == 1 else scores
    labels = torch.zeros(len(scores)).long() if predictions is None else predictions
    calibration.learn(scores, labels, int(labels.max()) + 1)
    return calibration


def verdict(alarms: int, samples: int, label: int = 0) -> Verdict:
    is_ood = torch.arange(samples) < alarms
    zeros = torch.zeros(samples)
    return Verdict(torch.full((samples,), label), zeros, zeros.double(), is_ood)


@settings(deadline=None)  # a busy machine is no failure
@given(samples=st.integers(1, 60), data=st.data(), percent=st.sampled_from([50, 90, 95]))
def test_the_interval_is_that_of_exact_binomial_tails(
    samples: int, data: st.DataObject, percent: int
) -> None:
    count = data.draw(st.integers(0, samples))
    low, high = share_interval(count, samples, level=percent / 100)
    half = (1 - percent / 100) / 2
    if count > 0:
        assert stats.binom.sf(count - 1, samples, low) == pytest.approx(half, rel=1e-6)
    else:
        assert low == 0
    if count < samples:
        assert stats.binom.cdf(count, samples, high) == pytest.approx(half, rel=1e-6)
    else:
        assert high == 1


@pytest.mark.parametrize(
    ("alarms", "samples", "result"),
    [(8, 100, "not shown"), (12, 100, "broken"), (0, 60, "not shown"), (0, 80, "kept")],
)
def test_a_certificate_is_broken_kept_or_not_shown(alarms: int, samples: int, result: str) -> None:
    calibration = calibrated(torch.arange(1000.0))
    check = check_of(calibration, Verdict.joined([verdict(alarms, samples)]), ood=False)
    assert (check.alarms, check.samples, check.result) == (alarms, samples, result)
    assert (check.low > 0.05, check.high <= 0.05) == (result == "broken", result == "kept")
    assert "certificate of at most 5.00% is" in str(check)
    assert check.p_value is None


def test_a_rate_on_average_has_its_beta_binomial_probability() -> None:
    """Counted by hand for n = 19, k = 1: a share U of Beta(1, 19), three alarms of three."""
    calibration = calibrated(torch.arange(19.0), 0.05, None)
    check = check_of(calibration, Verdict.joined([verdict(2, 2), verdict(1, 1)]), ood=False)
    assert check.result is None
    # E U^3 = 1 * 2 * 3 / (20 * 21 * 22)
    assert check.p_value == pytest.approx(float(Fraction(6, 20 * 21 * 22)))
    assert check_of(calibration, Verdict.joined([verdict(0, 3)]), ood=False).p_value == 1
    assert "with probability 0.000649" in str(check)


def test_of_ood_samples_the_share_caught_is_told() -> None:
    check = check_of(calibrated(torch.arange(100.0)), Verdict.joined([verdict(9, 10)]), ood=True)
    assert (check.alarm_rate, check.result, check.p_value) == (None, None, None)
    assert str(check).startswith("9 of 10 OOD samples caught: 90.00%, 95% interval 55.50% to 99.75")


def test_one_class_breaks_a_certificate_of_all() -> None:
    predictions = torch.arange(2).repeat_interleave(200)
    calibration = calibrated(torch.arange(400.0), rule="per_class", predictions=predictions)
    good, bad = verdict(0, 900, 0), verdict(20, 100, 1)
    assert check_of(calibration, Verdict.joined([good, bad]), ood=False).result == "broken"
    assert (
        check_of(calibration, Verdict.joined([good, verdict(1, 300, 1)]), ood=False).result
        == "kept"
    )
    assert (
        check_of(calibration, Verdict.joined([good, verdict(1, 30, 1)]), ood=False).result
        == "not shown"
    )
    on_average = calibrated(torch.arange(400.0), 0.05, None, rule="per_class",
                            predictions=predictions)  # fmt: skip
    p = check_of(on_average, Verdict.joined([good, bad]), ood=False).p_value
    assert p == pytest.approx(2 * stats.betabinom.sf(19, 100, 10, 191))


def test_a_check_within_classes_names_the_one_that_decides() -> None:
    """The interval of all samples, 1.23 to 3.07 %, was said to lie above 5 %."""
    predictions = torch.arange(2).repeat_interleave(200)
    calibration = calibrated(torch.arange(400.0), rule="per_class", predictions=predictions)
    good, bad = verdict(0, 900, 0), verdict(20, 100, 1)
    said = str(check_of(calibration, Verdict.joined([good, bad]), ood=False))
    assert said.startswith("20 of 1,000 ID samples called OOD: 2.00%, 95% interval 1.23% to 3.07%.")
    assert "is broken by class 1, 20 of 100, 11." in said
    few = Verdict.joined([good, verdict(1, 30, 1)])
    assert "show, by class 1, 1 of 30, 0." in str(check_of(calibration, few, ood=False))
    assert "by class 1, which has no fresh sample" in str(check_of(calibration, good, ood=False))
    kept = replace(Verdict.joined([good, verdict(1, 300, 1)]), classes=("ape", "bee"))
    assert "the highest interval is that of class bee, 1 of 300" in str(
        check_of(calibration, kept, ood=False)
    )
    on_average = calibrated(torch.arange(400.0), 0.05, None, rule="per_class",
                            predictions=predictions)  # fmt: skip
    said = str(check_of(on_average, Verdict.joined([good, bad]), ood=False))
    assert "keeps 5.00% within each class on average" in said
    assert "has one as far off as class 1, 20 of 100, 11." in said


def test_a_share_of_outliers_is_the_decimal_that_was_typed() -> None:
    """In binary 0.29 * 100 is below 29, and 0.57 * 100 below 57."""
    scores = torch.arange(100.0)
    for percent in range(100):
        row = calibrated(scores, 0.5, None).sensitivity([percent / 100])[0]
        assert row.outliers == percent


def test_a_class_without_fresh_samples_is_not_shown_to_be_kept() -> None:
    predictions = torch.arange(3).repeat_interleave(200)
    calibration = calibrated(torch.arange(600.0), rule="per_class", predictions=predictions)
    assert check_of(calibration, verdict(0, 2000, 0), ood=False).result == "not shown"
    two = Verdict.joined([verdict(0, 2000, label) for label in (0, 2)])
    assert check_of(calibration, two, ood=False).result == "not shown"
    broken = Verdict.joined([two, verdict(0, 2000, 1), verdict(500, 500, 1)])
    assert check_of(calibration, broken, ood=False).result == "broken"
    all_of_them = Verdict.joined([two, verdict(0, 2000, 1)])
    assert check_of(calibration, all_of_them, ood=False).result == "kept"


def test_few_true_certificates_are_called_broken() -> None:
    """With the true rate at the limit itself, the lower end is above it in half of delta."""
    calibration = calibrated(torch.arange(1000.0), 0.05)
    samples, draws = 400, 400
    counts = np.random.default_rng(0).binomial(samples, 0.05, draws)
    result = {
        c: check_of(calibration, Verdict.joined([verdict(c, samples)]), ood=False).result
        for c in set(counts.tolist())
    }
    broken = [result[c] for c in counts.tolist()]
    assert broken.count("broken") / draws < 0.025 + 4 * math.sqrt(0.025 / draws)
    assert broken.count("kept") / draws < 0.025 + 4 * math.sqrt(0.025 / draws)


def test_the_sensitivity_is_that_of_the_calibration_without_the_highest() -> None:
    scores = torch.arange(1000.0)
    rows = calibrated(scores).sensitivity([0, 0.01, 0.05])
    assert [row.outliers for row in rows] == [0, 10, 50]
    assert rows[0].threshold == calibrated(scores).threshold
    assert rows[1].threshold == calibrated(scores[:990]).threshold
    assert rows[1].mean == 29 / 991  # 10 of the 39 above the threshold are gone
    assert rows[2].mean == 1 / 951  # none of the 39 is left
    assert "10 (1.0%)" in table(rows)
    assert not calibrated(torch.arange(59.0)).sensitivity([0.05])[0].enough
    assert "too few" in table(calibrated(torch.arange(59.0)).sensitivity([0.05]))
    with pytest.raises(ArgumentError, match=r"must lie in \[0, 1\); seen 1"):
        calibrated(scores).sensitivity([1])


def test_the_sensitivity_of_classes_and_of_detectors() -> None:
    """Outliers are the highest of each class, or of each detector; no threshold is common."""
    labels = torch.arange(1200) % 3 % 2  # 800 of the first class, and 400
    of_classes = calibrated(torch.arange(1200.0), 0.1, rule="per_class", predictions=labels)
    n, k = of_classes.counts_.tolist(), of_classes.ranks.tolist()
    row = of_classes.sensitivity([0.02])[0]
    assert (row.outliers, row.threshold, row.enough) == (16 + 8, None, True)
    rates = [(k[0] - 16) / (n[0] - 15), (k[1] - 8) / (n[1] - 7)]
    assert row.mean == pytest.approx((800 * rates[0] + 400 * rates[1]) / 1200)
    high = [
        stats.beta.isf(0.0125, k[0] - 16, 800 - k[0] + 1),
        stats.beta.isf(0.0125, k[1] - 8, 400 - k[1] + 1),
    ]
    assert row.high == pytest.approx(max(high))
    assert "of ranks" in table([row])
    assert not of_classes.sensitivity([0.95])[0].enough  # twenty are left of the second class
    several = calibrated(torch.arange(1000.0)[:, None].repeat(1, 2), 0.1, None, rule="bonferroni")
    rank = int(several.ranks[0])
    row = several.sensitivity([0.01])[0]
    assert row.mean == pytest.approx(2 * (rank - 10) / 991)
    assert row.high == pytest.approx(2 * stats.beta.isf(0.0125, rank - 10, 990 - rank + 11))


def samples(n: int, generator: torch.Generator, base: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform scores; wrong with probability ``2 base s``, of which ``base t^2`` up to ``t``."""
    scores = torch.rand(n, generator=generator)
    wrong = torch.rand(n, generator=generator) < 2 * base * scores
    return scores, wrong.long(), torch.zeros(n).long()


def controlled(of: str, n: int = 1000, seed: int = 0, rate: float = 0.02) -> Control:
    generator = torch.Generator().manual_seed(seed)
    calibration = calibrated(torch.rand(500, generator=generator), 0.05, None)
    return control_of(calibration, [samples(n, generator)], rate, 0.9, of)


@pytest.mark.parametrize("of", ["all", "accepted"])
def test_the_error_rate_is_kept_as_often_as_is_certified(of: str) -> None:
    """The true risk up to ``t`` is ``t^2 / 10``, and among those accepted ``t / 10``."""
    splits, broken, coverage = 200, 0, []
    for seed in range(splits):
        try:
            found = controlled(of, seed=seed, rate=0.05)
        except ArgumentError:  # an unlucky draw shows nothing: nothing is accepted
            coverage.append(0.0)
            continue
        t = found.threshold
        broken += (0.1 * t**2 if of == "all" else 0.1 * t) > 0.05
        coverage.append(found.coverage)
    assert broken / splits <= 0.1 + 4 * math.sqrt(0.09 / splits)
    assert np.mean(coverage) > (0.55 if of == "all" else 0.2)


def test_the_threshold_of_all_accepts_as_many_errors_as_the_binomial_allows() -> None:
    generator = torch.Generator().manual_seed(1)
    scores, prediction, label = samples(1000, generator)
    calibration = calibrated(torch.rand(500, generator=generator) + 9, 0.05, None)
    found = control_of(calibration, [(scores, prediction, label)], 0.02, 0.95, "all")
    allowed = max(w for w in range(100) if stats.binom.cdf(w, 1000, 0.02) <= 0.05)
    assert found.wrong == allowed == 12
    assert found.accepted == int((scores <= found.threshold).sum())
    above = scores[scores > found.threshold].min()
    assert prediction[scores == above] == 1  # the next would be one error too many


def test_errors_at_one_score_are_accepted_together_or_not_at_all() -> None:
    scores = torch.tensor([0.0] * 500 + [1.0] * 500)
    wrong = torch.tensor([0] * 500 + [1] * 13 + [0] * 487)
    calibration = calibrated(torch.arange(100.0), 0.05, None)
    found = control_of(calibration, [(scores, wrong, torch.zeros(1000).long())], 0.02, 0.95, "all")
    assert (found.threshold, found.accepted, found.wrong) == (0.0, 500, 0)


@pytest.mark.parametrize("kind", [np.float32, np.float64, Fraction, torch.tensor])
def test_rates_of_any_kind_can_be_saved(kind: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    calibration = calibrated(torch.rand(500, generator=generator), 0.05, None)
    found = control_of(calibration, [samples(1000, generator)], kind(0.0625), kind(0.75), "all")
    kept = json.loads(json.dumps(found.record()))
    assert (kept["error_rate"], kept["confidence"]) == (0.0625, 0.75)
    assert Control(**kept) == found


def test_no_threshold_lies_above_the_guards_own() -> None:
    generator = torch.Generator().manual_seed(0)
    calibration = calibrated(torch.rand(500, generator=generator) / 2, 0.05, None)
    for of in ("all", "accepted"):
        right = samples(1000, generator, base=0.0)
        found = control_of(calibration, [right], 0.02, 0.95, of)
        assert 0.4 < found.threshold <= calibration.threshold


def test_what_the_data_cannot_show_is_refused() -> None:
    calibration = calibrated(torch.rand(500), 0.05, None)
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ArgumentError, match=r"needs at least 149 labelled samples.*there are 148"):
        control_of(calibration, [samples(148, generator)], 0.02, 0.95, "all")
    scores, _, label = samples(1000, generator)
    wrong = (torch.rand(1000, generator=generator) < 0.5).long()
    for of in ("all", "accepted"):
        with pytest.raises(ArgumentError, match=r"do not show an error rate of 0\.02"):
            control_of(calibration, [(scores.floor(), wrong, label)], 0.02, 0.95, of)
    with pytest.raises(ArgumentError, match="of must be one of all, accepted; seen 'some'"):
        control_of(calibration, [samples(1000, generator)], 0.02, 0.95, "some")
    with pytest.raises(LabelError, match="give labelled samples"):
        control_of(calibration, [(scores, wrong, None)], 0.02, 0.95, "all")


def test_a_sample_at_a_threshold_of_the_grid_is_accepted() -> None:
    scores = torch.tensor([0.0, 1.0]).repeat_interleave(500)
    calibration = calibrated(scores, 0.05, None)
    wrong = torch.zeros(1000).long()
    wrong[-30:] = 1
    found = control_of(calibration, [(scores, wrong, wrong * 0)], 0.05, 0.9, "accepted")
    assert (found.threshold, found.accepted, found.wrong) == (1.0, 1000, 30)


def test_few_samples_are_tested_from_as_many_as_show_the_rate() -> None:
    """59 show 5 %; three times as many are not there, and half of those here are fewer."""
    scores = torch.arange(100.0)
    calibration = calibrated(scores, 0.05, None)
    right = torch.zeros(100).long()
    found = control_of(calibration, [(scores, right, right)], 0.05, 0.95, "accepted")
    assert found.threshold == calibration.threshold == 95


def test_a_score_that_is_not_finite_is_never_accepted() -> None:
    control = Control(1.0, 0.02, 0.95, "all", 10, 10, 0, 0)
    scores = torch.tensor([0.5, 1.0, 1.5, torch.inf, torch.nan])
    assert control.accepts(scores).tolist() == [True, True, False, False, False]


def test_several_detectors_have_a_grid_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    calibration = calibrated(
        torch.rand(1000, 2, generator=generator), 0.05, None, rule="bonferroni"
    )
    raw, wrong, label = samples(1000, generator, base=0.02)
    both = torch.stack([raw, raw], 1)
    score = calibration(both, label)[0]
    found = control_of(calibration, [(score, wrong, label)], 0.05, 0.95, "accepted")
    assert 0.4 < found.coverage <= 1


@pytest.fixture(scope="module")
def sets() -> demo.Digits:
    return demo.digits_data()


@pytest.fixture(scope="module")
def guard(sets: demo.Digits) -> offmap.Guard:
    made = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    return made.fit(sets.train).calibrate(sets.calibration, 0.05, confidence=0.95)


def test_a_guard_is_checked_on_fresh_data(guard: offmap.Guard, sets: demo.Digits) -> None:
    check = guard.check(sets.test)
    assert isinstance(check, Check)
    assert check.alarms == int(guard(sets.test.images).is_ood.sum())
    assert check.result in ("kept", "not shown")
    faces = sets.ood["far"]["faces"]
    assert guard.check(faces).result == "broken"
    assert guard.check(faces, ood=True).alarms == int(guard(faces.images).is_ood.sum())


def test_what_the_guard_was_made_of_is_no_fresh_data(
    guard: offmap.Guard, sets: demo.Digits, tmp_path: Path
) -> None:
    guard.save(tmp_path)
    loaded = offmap.load(tmp_path, demo.shipped())
    for each in (guard, loaded):
        with pytest.raises(DataError, match="fitted on the same samples"):
            each.check(sets.train)
        with pytest.raises(DataError, match="calibrated on the same samples"):
            each.check(sets.calibration)
    some = ImageSet("some", sets.calibration.images[:50], None)
    with pytest.raises(
        DataError, match="50 of the 50 samples of the data to check on stand in the"
    ):
        guard.check(some)
    with pytest.warns(OverlapWarning, match="stand in the calibration data too"):
        guard.check([sets.calibration.images[:50]])


def test_a_guard_accepts_what_is_seldom_wrong(
    guard: offmap.Guard, sets: demo.Digits, tmp_path: Path
) -> None:
    images = torch.cat([sets.test.images, sets.ood["far"]["faces"].images])
    before = guard(images)
    assert before.accepted is None
    assert "accepted" not in before.to_dict()
    guard.control(sets.test, 0.05)
    control = guard.control_
    assert control is not None
    verdict = guard(images)
    assert torch.equal(verdict.accepted, verdict.scores <= control.threshold)
    assert not (verdict.accepted & verdict.is_ood).any()
    assert int(verdict.accepted[: len(sets.test)].sum()) == control.accepted
    assert verdict[0].accepted == bool(verdict.accepted[0])
    assert torch.equal(Verdict.joined([verdict[:5], verdict[5:]]).accepted, verdict.accepted)
    assert f"Of {len(sets.test)} labelled samples {control.coverage:.1%}" in guard.explain()
    assert "is not promised: ID data cannot show it" in guard.explain()
    guard.save(tmp_path)
    loaded = offmap.load(tmp_path, demo.shipped())
    assert loaded.control_ == control
    assert loaded(images).to_dict() == verdict.to_dict()
    assert guard.at(0.1)(images).to_dict()["accepted"] == verdict.to_dict()["accepted"]
    guard.calibrate(sets.calibration, 0.05, confidence=0.95)
    assert guard.control_ is None


NAMES = tuple("abcdefgh")


def named(data: ImageSet) -> ImageSet:
    return replace(data, classes=NAMES)


def test_labels_of_a_set_that_lacks_a_class_count_in_those_of_the_guard(sets: demo.Digits) -> None:
    """A folder without one class counts those behind it from another start."""
    guard = offmap.Guard(demo.shipped(), "mahalanobis", normalization=demo.NORMALIZATION)
    guard.fit(named(sets.train)).calibrate(sets.calibration)
    numbers = torch.tensor([0, 2, 3, 4, 5, 6, 7])
    lacking = named(sets.test).only([NAMES[i] for i in numbers])
    whole = guard.control([(lacking.images, numbers[lacking.labels])], 0.05).control_
    assert whole is not None
    assert guard.control(lacking, 0.05).control_ == whole
    joined = guard.control(join(lacking.split(0.5)), 0.05).control_
    assert joined is not None
    assert joined.wrong_of_all == whole.wrong_of_all
    cascade = offmap.Cascade(filter=guard, classifier=demo.shipped())
    assert cascade.control(lacking, 0.05).control_ == whole


def test_labels_to_fit_on_count_in_those_of_the_guard(sets: demo.Digits) -> None:
    numbers = torch.tensor([0, 2, 3, 4, 5, 6, 7])
    lacking = named(sets.train).only([NAMES[i] for i in numbers])
    by_set, by_hand = (
        offmap.Guard(demo.shipped(), "mahalanobis", classes=NAMES, normalization=demo.NORMALIZATION)
        for _ in range(2)
    )
    by_set.fit(lacking)
    by_hand.fit([(lacking.images, numbers[lacking.labels])])
    assert by_set.history.read["fit"] == by_hand.history.read["fit"]
    assert by_set.history.read["fit"]["accuracy"] > 0.9
    assert by_set.classes == NAMES


def test_calibration_data_gives_no_grid_for_itself(guard: offmap.Guard, sets: demo.Digits) -> None:
    with pytest.raises(DataError, match="calibrated on the same samples"):
        guard.control(sets.calibration, 0.05, of="accepted")
    guard.control(sets.calibration, 0.05)
    with pytest.raises(LabelError):
        guard.control(ImageSet("bare", sets.test.images, None))
    guard.control_ = None


def test_a_damaged_control_is_refused(
    guard: offmap.Guard, sets: demo.Digits, tmp_path: Path
) -> None:
    guard.control(sets.test, 0.05).save(tmp_path)
    guard.control_ = None
    text = (tmp_path / "guard.json").read_text()
    (tmp_path / "guard.json").write_text(text.replace('"error_rate": 0.05', '"error_rate": "x"'))
    with pytest.raises(StoreError, match="error_rate"):
        offmap.load(tmp_path, demo.shipped())


def test_a_cascade_controls_the_errors_of_its_classifier(sets: demo.Digits) -> None:
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration, 0.05).control(sets.test, 0.05)
    other = offmap.Guard(demo.shipped(), "msp", normalization=demo.NORMALIZATION)
    cascade = offmap.Cascade(filter=guard, classifier=other)
    assert cascade(sets.test.images).accepted is None
    cascade.control(sets.test, 0.05)
    assert cascade.control_ == guard.control_  # of one network and twice the same weights
    assert torch.equal(cascade(sets.test.images).accepted, guard(sets.test.images).accepted)


def test_of_each_group_one_sample_counts(sets: demo.Digits) -> None:
    """Forty groups of whatever size give forty scores, whatever the order and the batches."""
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    guard.fit(sets.train)
    data = sets.calibration
    keys = data.keys(0, len(data))
    by_key = {key: i % 40 for i, key in enumerate(keys)}
    scores = guard.calibrate(data, 0.1).calibration.scores_
    guard.calibrate(data, 0.1, groups=by_key.__getitem__)
    of_groups = guard.calibration.scores_
    assert of_groups.shape == (1, 40)
    assert torch.isin(of_groups, scores).all()
    said = guard.explain()
    assert re.search(r"Read 216 samples to calibrate on [\d-]+, one of each of 40 groups", said)
    for size in (7, 216):
        guard.calibrate(data, 0.1, groups=[i % 40 for i in range(216)], batch_size=size)
        torch.testing.assert_close(guard.calibration.scores_, of_groups)
    assert guard.check(sets.test, groups=[0] * 100 + [1] * 261).samples == 2
    with pytest.raises(ArgumentError, match="216 samples and 215 groups"):
        guard.calibrate(data, 0.1, groups=list(range(215)))
    with pytest.raises(ArgumentError, match="needs at least 99 calibration samples; there are 40"):
        guard.calibrate(data, 0.01, groups=by_key.__getitem__)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("parent-folder", r"seen the text 'parent-folder': give offmap\.guard\.groups\.by_path\("),
        ("x" * 216, "seen the text 'xxx"),  # as many letters as samples
        ({"a.png": 1}, "seen dict: give a function, or a list in the order of the samples"),
        (b"x" * 216, "seen bytes"),
        (iter(range(216)), "seen range_iterator"),
        (40, "seen int"),
    ],
)
def test_groups_that_are_neither_a_function_nor_rows_are_refused_at_once(
    sets: demo.Digits, groups: Any, message: str
) -> None:
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    guard.fit(sets.train).calibrate(sets.calibration, 0.05)
    cascade = offmap.Cascade(filter=guard, classifier=demo.shipped())
    guard.probe = None  # type: ignore[assignment]  # the network must not run
    for learn in (guard.calibrate, guard.check, guard.control, cascade.control):
        with pytest.raises(ArgumentError, match=message):
            learn(sets.test, groups=groups)


def test_of_each_group_one_labelled_sample_counts(sets: demo.Digits) -> None:
    guard = offmap.Guard(demo.shipped(), "energy", normalization=demo.NORMALIZATION)
    groups = [i % 200 for i in range(len(sets.test))]
    guard.fit(sets.train).calibrate(sets.calibration, 0.05)
    controls = [
        guard.control(sets.test, 0.05, groups=groups, batch_size=size).control_ for size in (7, 361)
    ]
    assert controls[0] == controls[1]
    assert controls[0] is not None
    assert controls[0].samples == 200
    cascade = offmap.Cascade(filter=guard, classifier=demo.shipped())
    assert cascade.control(sets.test, 0.05, groups=groups).control_ == controls[0]
    with pytest.raises(LabelError):
        guard.control([(sets.test.images, None)], 0.05, groups=groups)
    guard.calibrate(sets.calibration, 0.1, groups=[i % 40 for i in range(216)])
    for either in (guard, cascade):  # of frames the errors come together, too
        with pytest.raises(ArgumentError, match="calibrated on one sample of each group"):
            either.control(sets.test, 0.05)


@pytest.mark.parametrize("spec", ["Combine([msp, mds])", "Combine([odin, msp])"])
def test_no_group_is_both_learned_on_and_held_against(spec: str, sets: demo.Digits) -> None:
    guard = offmap.Guard(demo.shipped(), spec, normalization=demo.NORMALIZATION)
    guard.fit(sets.train)
    groups = [f"g{i % 100}" for i in range(len(sets.calibration))]
    guard.calibrate(sets.calibration, 0.1, groups=groups)
    learned = {g for g, of in zip(groups, to_learn_on(groups).tolist(), strict=True) if of}
    assert guard.calibration.scores_.shape == (1, 100 - len(learned))


def test_samples_keep_their_keys_in_a_second_pass(sets: demo.Digits) -> None:
    """Detectors that read inputs learn and are calibrated in passes of their own."""
    guard = offmap.Guard(demo.shipped(), "Combine([odin, msp])", normalization=demo.NORMALIZATION)
    guard.fit(sets.train)
    for data, keys in (
        (sets.calibration, sets.calibration.keys(0, 216)),
        (list(sets.calibration.batches(64)), tuple(map(str, range(216)))),
    ):
        guard.calibrate(data, 0.1)
        rest = 216 - int(to_learn_on(keys).sum())
        assert guard.calibration.scores_.shape == (1, rest)
        assert guard.history.read["calibrate"]["samples"] == 216


def test_frames_of_one_group_break_a_certificate_that_groups_keep() -> None:
    """Twenty equal frames a video: 5 % of 1,000 frames are not known as well as of 1,000 videos."""
    generator = torch.Generator().manual_seed(0)
    broken = {"frames": 0, "groups": 0}
    for _ in range(200):
        videos = torch.rand(100, generator=generator)
        frames = calibrated(videos.repeat_interleave(20), 0.05, 0.9)
        groups = calibrated(videos, 0.05, 0.9)
        broken["frames"] += 1 - frames.threshold > 0.05
        broken["groups"] += 1 - groups.threshold > 0.05
    assert broken["groups"] / 200 <= 0.1 + 4 * math.sqrt(0.09 / 200)
    assert broken["frames"] / 200 > 0.25
