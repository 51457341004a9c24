"""What a threshold rests on: the calibration samples that score highest may be no ID."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy import stats

from offmap.errors import ArgumentError

if TYPE_CHECKING:
    from offmap.guard.calibration import Calibration

SHARES = (0.0, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Contaminated:
    """The threshold and rate if the most extreme calibration samples were outliers.

    Args:
        share: of the calibration samples, those that would be none.
        outliers: how many these are.
        threshold: that the others would give; ``None`` where they are too few.
        mean: the true alarm rate of the present threshold in the mean, on real ID.
        high: 97.5 % of such sets have a lower one.
    """

    share: float
    outliers: int
    threshold: float | None
    mean: float
    high: float


def sensitivity_of(
    calibration: Calibration, shares: Sequence[float] = SHARES
) -> list[Contaminated]:
    """A row for each share of outliers among the calibration samples, the highest scores.

    With outliers in it the threshold lies too high: fewer alarms than were asked for, on ID and on
    OOD. The worst case for the threshold is that they are the highest.

    Raises:
        ArgumentError: a share outside [0, 1), or the rule has no single threshold.
    """
    if calibration.rule != "plain":
        raise ArgumentError(
            f"the sensitivity is that of one threshold, and the rule is {calibration.rule!r}: "
            "calibrate one detector, not per_class"
        )
    if wrong := [share for share in shares if not 0 <= share < 1]:
        raise ArgumentError(f"shares of outliers must lie in [0, 1); seen {wrong[0]}")
    return [_row(calibration, share) for share in shares]


def _row(calibration: Calibration, share: float) -> Contaminated:
    n, k = int(calibration.counts_[0]), int(calibration.ranks[0])
    outliers = math.floor(share * n)
    left, rank = n - outliers, max(k - outliers, 1)
    high = float(stats.beta.isf(0.025, rank, left + 1 - rank))
    return Contaminated(share, outliers, _threshold(calibration, left), rank / (left + 1), high)


def _threshold(calibration: Calibration, left: int) -> float | None:
    """The threshold that the lowest scores give alone."""
    scores = calibration.scores_[:, :left].T.contiguous()
    rates = calibration.alarm_rates
    other = type(calibration)(calibration.rule, rates, confidence=calibration.confidence)
    try:
        other.learn(scores, torch.zeros(left, dtype=torch.long, device=scores.device), 1)
        return other.at(calibration.alarm_rate).threshold
    except ArgumentError:
        return None


def table(rows: Sequence[Contaminated]) -> str:
    """The rows as text, with what they mean."""
    lines = [
        "If the highest calibration scores were outliers, the threshold without them, and the true",
        "alarm rate of the present one on ID: its mean, and the limit for 97.5% of such sets.",
        f"{'outliers':>16} {'threshold':>12} {'mean rate':>10} {'at most':>9}",
    ]
    for row in rows:
        threshold = "too few" if row.threshold is None else f"{row.threshold:.6g}"
        count = f"{row.outliers:,} ({row.share:.1%})"
        lines.append(f"{count:>16} {threshold:>12} {row.mean:>10.2%} {row.high:>9.2%}")
    return "\n".join(lines)
