"""What a calibration promises, in one plain sentence with the figures for its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from offmap._utils.percent import about, at_most, percent
from offmap.guard.limits import delta_of, samples_needed

if TYPE_CHECKING:
    from offmap.guard.calibration import Calibration


@dataclass(frozen=True)
class Expected:
    """The true alarm rate to be expected of a group, over calibration sets like this one.

    Args:
        samples: ``n`` of the group.
        rank: ``k``: its k-th highest score is the threshold, where there is one.
        mean: of the true alarm rate; at most that where scores tie.
        low: 2.5 % of such sets have a lower one; 0 where scores tie, or there are several tests.
        high: 2.5 % have a higher one.
    """

    samples: int
    rank: int
    mean: float
    low: float
    high: float


def expected_of(calibration: Calibration, group: int = 0) -> Expected:
    """The true alarm rate to be expected: Beta(k, n + 1 - k), of several tests their sum."""
    from scipy import stats  # here: it takes a second

    n, k = int(calibration.counts_[group]), int(calibration.ranks[group])
    tests = calibration.tests
    mean = min(1.0, tests * k / (n + 1))
    high = min(1.0, tests * float(stats.beta.isf(0.025 / tests, k, n + 1 - k)))
    exact = tests == 1 and distinct(calibration, group)
    return Expected(n, k, mean, float(stats.beta.ppf(0.025, k, n + 1 - k)) if exact else 0.0, high)


def distinct(calibration: Calibration, group: int = 0) -> bool:
    """Whether no two calibration scores of a group are equal; with ties the rate lies below."""
    for row in calibration.scores_:
        scores = row[calibration.labels_ == group] if calibration.rule == "per_class" else row
        if bool((scores[1:] == scores[:-1]).any()):  # they ascend
            return False
    return True


def promise(calibration: Calibration) -> str:
    """What is promised, and what the true alarm rate may be."""
    expectation, where = _expectation(calibration), ""
    if calibration.rule == "per_class":
        joined = "" if calibration.groups_ is None else " (those with few samples joined)"
        where = f" within each predicted class{joined}"
    share = f"at most {percent(calibration.alarm_rate, 2)} of ID samples{where} are called OOD"
    if calibration.confidence is None:
        return f"On average over calibration sets, {share}. {expectation}"
    rates = [percent(r, 2) for r in calibration.alarm_rates if r != calibration.alarm_rate]
    if not calibration.named:
        basis = (
            ": by the simultaneous band for all rates at once, as this one was not named before "
            "calibrating"
        )
    elif rates:
        basis = f"; so is it for {' and '.join(rates)}, named beforehand, at once"
    else:
        basis = ", for this rate, which was fixed beforehand"
    return (
        f"With confidence {percent(calibration.confidence)}, {share}, given this very calibration "
        f"set{basis}. {expectation}"
    )


def _expectation(calibration: Calibration) -> str:
    group = int(calibration.counts_.argmin())
    rate = expected_of(calibration, group)
    per_class = calibration.rule == "per_class"
    where = f"{'In the smallest, of' if per_class else 'With'} {rate.samples:,} samples, the"
    if rate.low > 0:
        return (
            f"{where} true rate is {about(rate.mean)} in the mean, and between {about(rate.low)} "
            f"and {about(rate.high)} for 95% of such sets."
        )
    return (
        f"{where} true rate is at most {at_most(rate.mean)} in the mean, and at most "
        f"{at_most(rate.high)} for 97.5% of such sets."
    )


def too_few(calibration: Calibration, rate: float, groups: Sequence[int]) -> str:
    """The message that these groups have too few samples for a rate, and how many are needed."""
    smallest = min(groups, key=lambda g: int(calibration.counts_[g]))
    n, tests = int(calibration.counts_[smallest]), calibration.tests
    per_class = calibration.rule == "per_class"
    if rate not in calibration.alarm_rates:
        return (
            f"an alarm rate of {rate} was not named before calibrating, and for such rates {n} "
            f"samples show no less than {float(calibration.limits_[smallest, 0]):.4f} with "
            f"confidence {calibration.confidence}: name it in calibrate, alarm_rate=[...], or give "
            "more"
        )
    delta, confidence = None, ""
    if calibration.confidence is not None:
        delta = delta_of(calibration.confidence, calibration.alarm_rates)
        delta /= len(calibration.counts_)
        confidence = f" with confidence {calibration.confidence}"
        confidence += f" in {len(calibration.counts_)} classes at once" if per_class else ""
    detectors = f" shared by {tests} detectors" if tests > 1 else ""
    words = (
        f"an alarm rate of {rate}{detectors}{confidence} needs at least "
        f"{samples_needed(rate, delta, tests=tests)} calibration samples; there are {n}"
    )
    if not per_class:
        return words
    if calibration.groups_ is not None:
        return f"even joined, the classes with too few samples have too few: {words}"
    counts = ", ".join(f"{g} ({int(calibration.counts_[g])})" for g in groups)
    return (
        f"class {smallest}: {words}. Too few have the classes {counts}: give more, or join them by "
        "pool=True"
    )


def not_finite(calibration: Calibration, rate: float, group: int, infinite: int) -> str:
    """The message that as many samples have no finite score as a rate has alarms."""
    kind = "class" if calibration.groups_ is None else "group"
    where = f" of {kind} {group}" if calibration.rule == "per_class" else ""
    return (
        f"{infinite} of {int(calibration.counts_[group])} calibration samples{where} have no "
        f"finite score, and such samples are always called OOD: an alarm rate of {rate} cannot be "
        "promised; look at what makes these scores, or allow a higher rate"
    )
