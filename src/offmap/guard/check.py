"""Whether a guard keeps its alarm rate on fresh data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from offmap._utils.percent import about, percent
from offmap.guard.promise import expected_of

if TYPE_CHECKING:
    from offmap.guard.calibration import Calibration
    from offmap.guard.verdict import Verdict

# Of intervals, where the guard has no confidence of its own.
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Check:
    """What fresh data says of a guard's alarm rate.

    Args:
        samples: fresh ones.
        alarms: of those, called OOD.
        low: lower end of the exact (Clopper-Pearson) interval of the share called OOD.
        high: its upper end.
        confidence: of the interval; the guard's own where it has one, and else 0.95.
        alarm_rate: of the guard; ``None`` for OOD data, of which nothing is promised.
        result: of a certificate, "broken" (the lower end is above the rate), "kept" (the upper end
            is at most the rate) or "not shown"; where it holds within classes, "broken" in one of
            them, or "kept" in all, so not while a class has no fresh sample.
        p_value: of a rate on average: how often a guard that keeps it would raise that many alarms
            or more, the set it was calibrated on being random too; ``None`` for several detectors.
    """

    samples: int
    alarms: int
    low: float
    high: float
    confidence: float
    alarm_rate: float | None = None
    result: str | None = None
    p_value: float | None = None

    @property
    def share(self) -> float:
        """Share of the samples called OOD."""
        return self.alarms / self.samples

    def __str__(self) -> str:
        interval = f"{percent(self.confidence)} interval {about(self.low)} to {about(self.high)}"
        of = "OOD samples caught" if self.alarm_rate is None else "ID samples called OOD"
        words = f"{self.alarms:,} of {self.samples:,} {of}: {about(self.share)}, {interval}."
        rate = percent(self.alarm_rate or 0, 2)
        if self.result is not None:
            words += f" The certificate of at most {rate} is {_MEANS[self.result]}."
        elif self.p_value is not None:
            words += (
                f" A guard that keeps {rate} on average over calibration sets has "
                f"that many or more with probability {self.p_value:.3g}."
            )
        elif self.alarm_rate is not None:
            words += f" Promised on average over calibration sets: at most {rate}."
        return words


_MEANS = {
    "broken": "broken: the whole interval lies above it",
    "kept": "kept: the whole interval lies within it",
    "not shown": "neither kept nor broken as far as these samples show: more would tell",
}


def check_of(calibration: Calibration, verdict: Verdict, *, ood: bool) -> Check:
    """The check of a verdict on fresh data."""
    alarms, label = verdict.is_ood.cpu(), verdict.labels.cpu()
    confidence = calibration.confidence or _CONFIDENCE
    count, samples = int(alarms.sum()), len(alarms)
    low, high = clopper_pearson(count, samples, confidence)
    if ood:
        return Check(samples, count, low, high, confidence)
    result = p_value = None
    groups = _counted(calibration, label, alarms)
    if calibration.confidence is not None:
        seen = len(groups) == len(calibration.counts_)
        result = _result(groups, calibration.alarm_rate, calibration.confidence, in_all=seen)
    elif calibration.tests == 1:
        p_value = _predictive(calibration, groups)
    rate = calibration.alarm_rate
    return Check(samples, count, low, high, confidence, rate, result, p_value)


def clopper_pearson(count: int, samples: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a share, each of whose ends errs with half of ``1 - confidence``.

    >>> clopper_pearson(0, 59, 0.9)[1] < 0.05
    True
    """
    from scipy import stats  # here: it takes a second

    interval = stats.binomtest(count, samples).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def _counted(
    calibration: Calibration, labels: Tensor, alarms: Tensor
) -> dict[int, tuple[int, int]]:
    """Alarms and samples of each group that has samples."""
    if calibration.rule != "per_class":
        return {0: (int(alarms.sum()), len(alarms))}
    groups = labels if calibration.groups_ is None else calibration.groups_.cpu()[labels]
    each = sorted(set(groups.tolist()))
    return {g: (int(alarms[groups == g].sum()), int((groups == g).sum())) for g in each}


def _result(
    groups: dict[int, tuple[int, int]], rate: float, confidence: float, *, in_all: bool
) -> str:
    level = 1 - (1 - confidence) / len(groups)  # all classes at once
    intervals = [clopper_pearson(count, samples, level) for count, samples in groups.values()]
    if any(low > rate for low, _ in intervals):
        return "broken"
    return "kept" if in_all and all(high <= rate for _, high in intervals) else "not shown"


def _predictive(calibration: Calibration, groups: dict[int, tuple[int, int]]) -> float:
    """Beta-binomial, as the true rate is itself random; of several classes by Bonferroni."""
    from scipy import stats  # here: it takes a second

    p = []
    for group, (count, samples) in groups.items():
        of = expected_of(calibration, group)
        p.append(stats.betabinom.sf(count - 1, samples, of.rank, of.samples + 1 - of.rank))
    return min(1.0, float(min(p)) * len(p))
