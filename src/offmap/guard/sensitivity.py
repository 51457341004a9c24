"""What a threshold rests on: the calibration samples that score highest may be no ID."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from offmap._utils.arguments import number
from offmap._utils.percent import about, at_most, percent
from offmap.errors import ArgumentError

if TYPE_CHECKING:
    from offmap.guard.calibration import Calibration

SHARES = (0.0, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Contaminated:
    """The threshold and rate if the most extreme calibration samples were outliers.

    Args:
        share: of the calibration samples that would be outliers.
        outliers: their number.
        threshold: of the other samples alone; ``None`` where they are too few, or where each class
            or detector has its own.
        mean: the true alarm rate of the present threshold in the mean, on real ID; of several
            detectors at most that.
        high: the limit for 97.5 % of such sets, in every class.
        enough: whether the other samples suffice for the rate.
    """

    share: float
    outliers: int
    threshold: float | None
    mean: float
    high: float
    enough: bool

    @classmethod
    def of(cls, calibration: Calibration, share: float) -> Self:
        """The row of one share of outliers: see :func:`sensitivity_of`."""
        from scipy import stats  # here: it takes a second

        n, k = (x.cpu().numpy() for x in (calibration.counts_, calibration.ranks))
        n, k, tests = n[k > 0], k[k > 0], calibration.tests
        # The decimal that was typed: in binary 0.29 * 100 is below 29.
        outliers = np.array(
            [math.floor(Fraction(str(float(share))) * samples) for samples in n.tolist()]
        )
        inliers, rank = n - outliers, np.maximum(k - outliers, 1)
        mean = np.minimum(tests * rank / (inliers + 1), 1)
        part = 0.025 / (tests * len(n))  # all groups and tests at once
        high = np.minimum(tests * stats.beta.isf(part, rank, inliers + 1 - rank), 1)
        limits = calibration.limits_of(torch.from_numpy(inliers))
        threshold = None
        if calibration.rule == "plain":
            lowest = calibration.scores_[:, : int(inliers[0])].T.contiguous()
            labels = torch.zeros(len(lowest), dtype=torch.long, device=lowest.device)
            rates = calibration.alarm_rates
            remainder = type(calibration)("plain", rates, confidence=calibration.confidence)
            with suppress(ArgumentError):  # too few samples are left for the rate
                remainder.learn(lowest, labels, 1)
                threshold = remainder.at(calibration.alarm_rate).threshold
        return cls(
            share,
            int(outliers.sum()),
            threshold,
            float(np.average(mean, weights=n)),
            float(high.max()),
            enough=bool((limits[:, 0] <= calibration.alarm_rate).all()),
        )


def sensitivity_of(
    calibration: Calibration, shares: Sequence[float] = SHARES
) -> list[Contaminated]:
    """A row for each share of outliers among the calibration samples, the highest scores.

    With outliers in it the threshold lies too high: fewer alarms than were asked for, on ID and on
    OOD. The worst case for the threshold is that they are the highest: of each class where the rate
    holds within classes, and of each detector where there are several.

    Raises:
        ArgumentError: a share outside [0, 1).
    """
    parts = [number("a share of outliers", each, least=0, below=1) for each in shares]
    return [Contaminated.of(calibration, part) for part in parts]


def threshold_of(row: Contaminated) -> str:
    """The threshold without the outliers, in words."""
    if not row.enough:
        return "too few"
    return "of ranks" if row.threshold is None else f"{row.threshold:.6g}"


def table(rows: Sequence[Contaminated]) -> str:
    """The rows as text, with what they mean."""
    lines = [
        "If the highest calibration scores were outliers, the threshold without them, and the true",
        "alarm rate of the present one on ID: its mean, and the limit for 97.5% of such sets.",
        f"{'outliers':>16} {'threshold':>12} {'mean rate':>10} {'at most':>9}",
    ]
    for row in rows:
        threshold = threshold_of(row)
        count = f"{row.outliers:,} ({percent(row.share, 1)})"
        lines.append(f"{count:>16} {threshold:>12} {about(row.mean):>10} {at_most(row.high):>9}")
    return "\n".join(lines)
