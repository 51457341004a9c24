"""Whether a guard keeps its alarm rate on fresh data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        deciding: where the rate holds within classes: the class that decides, in words.
    """

    samples: int
    alarms: int
    low: float
    high: float
    confidence: float
    alarm_rate: float | None = None
    result: str | None = None
    p_value: float | None = None
    deciding: str | None = None

    @property
    def share(self) -> float:
        """Share of the samples called OOD."""
        return self.alarms / self.samples

    def __str__(self) -> str:
        interval = f"{percent(self.confidence)} interval {about(self.low)} to {about(self.high)}"
        event = "OOD samples caught" if self.alarm_rate is None else "ID samples called OOD"
        words = f"{self.alarms:,} of {self.samples:,} {event}: {about(self.share)}, {interval}."
        rate = percent(self.alarm_rate or 0, 2)
        if self.result is not None:
            meanings = _MEANS if self.deciding is None else _WITHIN
            words += f" The certificate of at most {rate} is "
            words += f"{meanings[self.result].format(self.deciding)}."
        elif self.p_value is not None:
            within, outcome = "", "that many or more with probability"
            if self.deciding is not None:
                within = " within each class"
                outcome = f"one as far off as {self.deciding}, with probability at most"
            words += (
                f" A guard that keeps {rate}{within} on average over calibration sets has "
                f"{outcome} {self.p_value:.3g}."
            )
        elif self.alarm_rate is not None:
            words += f" Promised on average over calibration sets: at most {rate}."
        return words


_MEANS = {
    "broken": "broken: the whole interval lies above it",
    "kept": "kept: the whole interval lies within it",
    "not shown": "neither kept nor broken as far as these samples show: more would tell",
}
_WITHIN = {
    "broken": "broken by {}: the whole interval lies above it",
    "kept": "kept within all classes: the highest interval is that of {}",
    "not shown": "neither kept nor broken as far as these samples show, by {}: more would tell",
}


def check_of(calibration: Calibration, verdict: Verdict, *, ood: bool) -> Check:
    """The check of a verdict on fresh data."""
    from offmap.metrics import share_interval  # here: a guard waits for no metrics

    alarms, label = verdict.is_ood.cpu(), verdict.labels.cpu()
    confidence = calibration.confidence or _CONFIDENCE
    count, samples = int(alarms.sum()), len(alarms)
    low, high = share_interval(count, samples, level=confidence)
    if ood:
        return Check(samples, count, low, high, confidence)
    result = p_value = deciding = None
    groups, group = {0: (count, samples)}, 0  # alarms and samples of each that has samples
    if calibration.rule == "per_class":
        members = label if calibration.groups_ is None else calibration.groups_.cpu()[label]
        numbers = sorted(set(members.tolist()))
        groups = {g: (int(alarms[members == g].sum()), int((members == g).sum())) for g in numbers}
    level = 1 - (1 - confidence) / len(groups)  # all intervals hold at once
    intervals = {g: share_interval(*counts, level=level) for g, counts in groups.items()}
    if calibration.confidence is not None:
        result, group = _result(calibration, intervals)
    elif calibration.tests == 1:
        p_value, group = _predictive(calibration, groups)
    if calibration.rule == "per_class":
        of, names = calibration.groups_, verdict.classes
        classes = [group] if of is None else (of == group).nonzero()[:, 0].tolist()
        name = f"the {len(classes)} classes that are joined"
        if len(classes) == 1:
            name = f"class {names[classes[0]] if classes[0] < len(names) else classes[0]}"
        deciding = f"{name}, which has no fresh sample"
        if group in groups:
            (alarmed, fresh), ends = groups[group], intervals[group]
            deciding = f"{name}, {alarmed:,} of {fresh:,}, {about(ends[0])} to {about(ends[1])}"
    rate = calibration.alarm_rate
    return Check(samples, count, low, high, confidence, rate, result, p_value, deciding)


def _result(
    calibration: Calibration, intervals: Mapping[int, tuple[float, float]]
) -> tuple[str, int]:
    """The result, and the group that decides."""
    rate = calibration.alarm_rate
    lowest = max(intervals, key=lambda group: intervals[group][0])
    if intervals[lowest][0] > rate:
        return "broken", lowest
    highest = max(intervals, key=lambda group: intervals[group][1])
    if intervals[highest][1] > rate:
        return "not shown", highest
    missing = set(range(len(calibration.counts_))) - set(intervals)
    return ("not shown", min(missing)) if missing else ("kept", highest)


def _predictive(calibration: Calibration, groups: dict[int, tuple[int, int]]) -> tuple[float, int]:
    """The p-value of the alarms, and the class that decides.

    Beta-binomial, as the true rate is itself random; of several classes the least, by Bonferroni.
    """
    from scipy import stats  # here: it takes a second

    p = {}
    for group, (count, samples) in groups.items():
        rate = expected_of(calibration, group)
        shape = rate.rank, rate.samples + 1 - rate.rank
        p[group] = float(stats.betabinom.sf(count - 1, samples, *shape))
    lowest = min(p, key=lambda group: p[group])
    return min(1.0, p[lowest] * len(p)), lowest
