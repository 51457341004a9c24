"""What a guard's calibration set certifies of its rate of alarms, without the guard."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float64

from offmap.errors import ArgumentError, NotFittedError
from offmap.guard import schema
from offmap.guard.calibration import Calibration
from offmap.guard.cascade import Cascade
from offmap.guard.guard import Guard

_GIVE = "give alarm_rate= as it was when they were made, or a log, which says it"
_ROUNDING = 1e-6  # of a rank, by its p-value
_FLOAT32 = 1e-7  # of a rank, where a table holds p-values in float32
_ROUNDED = 12  # characters of a p-value that may have been rounded
Rates = Float64[np.ndarray, " g"]


class Certified(msgspec.Struct, frozen=True):
    r"""Calibration samples and the rank of the threshold among them, and what follows from these.

    With the threshold at the ``k``-th largest of ``n`` scores, the rate of alarms on ID samples is
    that of a draw from :math:`\mathrm{Beta}(k, n + 1 - k)`, or below where scores are equal.

    Args:
        guard: hash of the network and the calibration scores.
        rule: of the calibration.
        alarm_rate: that was asked for.
        samples: ``n`` of each group: of the one, or of the classes.
        ranks: ``k`` of each group; 0 where no sample is ever called OOD.
        tests: how many scores are held against a threshold, of which one is enough for an alarm.
        distinct: whether no two calibration scores are equal.
        groups: the group of each class, where classes share some.
    """

    guard: str
    rule: str
    alarm_rate: float
    samples: tuple[int, ...]
    ranks: tuple[int, ...]
    tests: int
    distinct: bool
    groups: tuple[int, ...] | None = None

    @classmethod
    def of(cls, guard: Guard | Cascade) -> Certified:
        """The certificate of a guard, or of the guard that filters for a cascade.

        Raises:
            NotFittedError: it is not calibrated.
            ArgumentError: a cascade whose filter is calibrated within its own predictions, which
                the cascade's verdicts do not show; or whose filter is no guard.
        """
        if isinstance(guard, Guard):
            return cls.of_calibration(guard.calibration, guard.weights)
        if not isinstance(guard.filter, Guard):
            raise ArgumentError("the filter of this cascade is no guard, so it has no alarm rate")
        if guard.filter.calibration.rule == "per_class":
            raise ArgumentError(
                "the filter of this cascade is calibrated per class, and the cascade's verdicts "
                "have the labels of the classifier: watch the verdicts of the filter itself"
            )
        return cls.of(guard.filter)

    @classmethod
    def of_calibration(cls, calibration: Calibration, weights: str | None) -> Certified:
        """The certificate of a calibration, of a network whose weights have this hash."""
        scores, groups = calibration.scores_, calibration.groups_
        # Of the scores, too: detectors that differ give others.
        digest = hashlib.sha256(f"{weights} {calibration.rule}".encode())
        for tensor in (scores, calibration.labels_, calibration.counts_):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return cls(
            guard=digest.hexdigest()[:16],
            rule=calibration.rule,
            alarm_rate=calibration.alarm_rate,
            samples=tuple(calibration.counts_.tolist()),
            ranks=tuple(calibration.ranks.tolist()),
            tests=calibration.tests,
            distinct=bool(scores.isfinite().all())
            and all(len(row.unique()) == len(row) for row in scores),
            groups=None if groups is None else tuple(groups.tolist()),
        )

    @classmethod
    def read(cls, folder: str | Path, alarm_rate: float | None = None) -> Certified:
        """The certificate of the guard in a folder, without its network.

        Args:
            folder: of the guard.
            alarm_rate: another than it was calibrated for.

        Raises:
            StoreError: there is no guard, or it is damaged.
            NotFittedError: it is not calibrated.
            ArgumentError: there are too few calibration samples for that rate.
        """
        record, files = schema.read(folder)
        if record["calibration"] is None:
            raise NotFittedError(f"{folder}: this guard has no threshold yet: call calibrate")
        calibration = Calibration.restored(record["calibration"], files["calibration"])
        if alarm_rate is not None:
            calibration = calibration.at(alarm_rate)
        return cls.of_calibration(calibration, record["network_sha256"])

    def check_judged(
        self, is_ood: bool, label: int | None, p_value: float | None, *, way_out: str = _GIVE
    ) -> None:
        """Refuse a verdict that was not made at this threshold: its p-value tells its rank.

        Args:
            is_ood: of the verdict.
            label: likewise.
            p_value: likewise; one that was rounded, or has few digits, may tell nothing.
            way_out: for the message.

        Raises:
            ArgumentError: it was made at another, or is of a calibration set of another size; or
                the label is that of no class.
        """
        group = self.group(label)
        if p_value is None:
            return
        p_value = float(p_value)
        rank = p_value * (self.samples[group] + 1) / self.tests
        distance = abs(rank - round(rank))
        if len(repr(p_value)) > _ROUNDED and distance > _FLOAT32 * max(rank, 1e4) and p_value < 1:
            raise ArgumentError(
                "these verdicts are of another guard, or of one that was calibrated anew: a "
                f"p-value of {p_value} is none among {self.samples[group]} calibration samples; "
                "watch them by the guard that made them"
            )
        if distance < _ROUNDING and (round(rank) <= self.ranks[group]) != bool(is_ood):
            called = "called OOD" if is_ood else "not called OOD"
            raise ArgumentError(
                f"these verdicts were made at another alarm rate than {self.alarm_rate}, or by "
                f"another guard: a sample with p-value {p_value} was {called}; {way_out}"
            )

    def upper(self, delta: float) -> Rates:
        """Upper limits of the alarm rates on ID, all of them valid with probability ``1 - delta``.

        Groups and tests share ``delta`` equally; the rate of several tests is at most the sum of
        their rates.
        """
        from scipy.special import betaincinv  # here: it takes a second

        n, k = np.array(self.samples), np.array(self.ranks)
        part = delta / (len(k) * self.tests)
        single = betaincinv(np.maximum(k, 1), np.maximum(n + 1 - k, 1), 1 - part)
        # Rounded up, as a promise must be. Where nothing is called OOD, any rate holds.
        rates = np.minimum(self.tests * single * (1 + 1e-12), 1)
        return np.asarray(np.where(k > 0, rates, rates[k > 0].max()))

    def lower(self, delta: float) -> Rates | None:
        """Lower limits, likewise; none where calibration scores are equal, or of several tests."""
        from scipy.special import betaincinv  # here: it takes a second

        if not self.distinct or self.tests > 1:
            return None
        n, k = np.array(self.samples), np.array(self.ranks)
        rates = betaincinv(np.maximum(k, 1), np.maximum(n + 1 - k, 1), delta / len(k))
        return np.asarray(np.where(k > 0, rates * (1 - 1e-12), 0))

    @property
    def expected(self) -> Rates:
        """The mean rates over calibration sets."""
        return np.asarray(self.tests * np.array(self.ranks) / (np.array(self.samples) + 1))

    def group(self, label: int | None) -> int:
        """The group of a sample with this prediction.

        Raises:
            ArgumentError: there is none.
        """
        if self.rule != "per_class":
            return 0
        classes = len(self.groups or self.ranks)
        if label is None or not 0 <= label < classes:
            raise ArgumentError(
                f"this guard is calibrated within {classes} classes, and a sample came "
                f"with the label {label}: give the guard's own verdicts, or its labels beside "
                "the alarms"
            )
        return self.groups[label] if self.groups else label

    @property
    def threshold(self) -> str:
        """A short hash of the ranks, which identifies this threshold among those of the guard."""
        return hashlib.sha256(repr(self.ranks).encode()).hexdigest()[:8]
