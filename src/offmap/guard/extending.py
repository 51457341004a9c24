"""More calibration samples beside those of before: a new promise, on all of them together.

Valid only for a random sample of ID, of a size that was fixed beforehand, which the guard did not
choose. Of what it accepted the highest scores are missing, and the true rate rises from round to
round: see docs/how-to/watch.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from offmap.errors import ArgumentError, DataError
from offmap.guard.calibration import Calibration

if TYPE_CHECKING:
    from offmap.guard.calibrating import Scored

LEVEL = 0.01  # of the two-sample test


def check_extends(calibration: Calibration, **options: Any) -> None:
    """Refuse options that would change the rule.

    Raises:
        ArgumentError: an option was given, or classes were joined.
    """
    if names := [n for n, value in options.items() if value is not None and value is not False]:
        raise ArgumentError(
            f"extend keeps the alarm rates, the confidence and the rule of before: leave out "
            f"{', '.join(names)}"
        )
    if calibration.groups_ is not None:
        raise ArgumentError(
            "extend does not know the class of each sample where classes were joined: calibrate "
            "anew, on all samples together"
        )


def extended(calibration: Calibration, samples: Scored) -> Calibration:
    """The calibration of the old scores and the new ones, at the same rates.

    Args:
        calibration: before.
        samples: new ones, with their scores.

    Raises:
        DataError: the new scores are not distributed as the old ones, by the two-sample test of
            Kolmogorov and Smirnov at 1 %, corrected for the number of detectors (Bonferroni).
        ArgumentError: even all samples are too few for the rates.
    """
    from scipy import stats  # here: it takes a second

    old = calibration.scores_
    new = samples.scores.where(samples.scores.isfinite(), torch.inf).to(old)
    pairs = zip(old.cpu().double().numpy(), new.T.cpu().double().numpy(), strict=True)
    p = min(1.0, len(old) * min(stats.ks_2samp(a, b).pvalue for a, b in pairs))
    if p < LEVEL:
        raise DataError(
            "the scores of these samples are not distributed as those of before (two-sample test "
            f"of Kolmogorov and Smirnov: p = {p:.2g}, below {LEVEL}): they are not a random sample "
            "of the same ID data. If that has changed, calibrate anew on these samples alone"
        )
    labels = samples.predictions.new_zeros(old.shape[1])
    if calibration.rule == "per_class":
        labels = calibration.labels_.to(samples.predictions)
    extension = Calibration(
        calibration.rule, calibration.alarm_rates, confidence=calibration.confidence
    )
    # The entries of a row need not be of one sample: each column is ranked by itself.
    predictions = torch.cat([labels, samples.predictions])
    extension.learn(torch.cat([old.T, new]), predictions, samples.classes)
    extension = extension.at(calibration.alarm_rate)
    extension.parts = (*(calibration.parts or (old.shape[1],)), len(new))
    extension.earlier = calibration.promise
    return extension
