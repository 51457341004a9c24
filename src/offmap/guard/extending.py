"""More calibration samples beside those of before: a new promise, on all of them together.

Valid only for a random sample of ID, of a size that was fixed beforehand, which the guard did not
choose. Of what it accepted the highest scores are missing, and the true rate rises from round to
round: see docs/how-to/watch.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from offmap.errors import ArgumentError, DataError
from offmap.guard.calibration import Calibration

if TYPE_CHECKING:
    from offmap.guard.calibrating import Scored

LEVEL = 0.01  # of the two-sample test


def check_extends(calibration: Calibration, **other: Any) -> None:
    """Refuse what would make another rule of it.

    Raises:
        ArgumentError: there is something that is not as before, or classes were joined.
    """
    if said := [name for name, value in other.items() if value]:
        raise ArgumentError(
            f"extend keeps the alarm rates, the confidence and the rule of before: leave out "
            f"{', '.join(said)}"
        )
    if calibration.groups_ is not None:
        raise ArgumentError(
            "extend does not know the classes of the samples of those that were joined: calibrate "
            "anew, on all samples together"
        )


def extended(calibration: Calibration, found: Scored) -> Calibration:
    """The calibration of the kept scores and new ones, at the same rates.

    Args:
        calibration: of before.
        found: new samples, as they were scored.

    Raises:
        DataError: the new scores are not distributed as the kept ones, by the two-sample test of
            Kolmogorov and Smirnov at 1 %, corrected for the number of detectors (Bonferroni).
        ArgumentError: even all samples are too few for the rates.
    """
    kept = calibration.scores_
    new = found.scores.where(found.scores.isfinite(), torch.inf).to(kept)
    _check_alike(kept, new)
    labels = calibration.labels_.to(found.predictions)
    old = labels if calibration.rule == "per_class" else found.predictions.new_zeros(kept.shape[1])
    other = Calibration(
        calibration.rule, calibration.alarm_rates, confidence=calibration.confidence
    )
    # Columns need not be those of one sample: each is held against its own scores.
    other.learn(torch.cat([kept.T, new]), torch.cat([old, found.predictions]), found.classes)
    other = other.at(calibration.alarm_rate)
    other.parts = (*(calibration.parts or (kept.shape[1],)), len(new))
    other.earlier = calibration.promise
    return other


def _check_alike(kept: Float[Tensor, "k n"], new: Float[Tensor, "m k"]) -> None:
    from scipy import stats  # here: it takes a second

    pairs = zip(kept.cpu().double().numpy(), new.T.cpu().double().numpy(), strict=True)
    p = min(1.0, len(kept) * min(stats.ks_2samp(a, b).pvalue for a, b in pairs))
    if p < LEVEL:
        raise DataError(
            "the scores of these samples are not distributed as those of before (two-sample test "
            f"of Kolmogorov and Smirnov: p = {p:.2g}, below {LEVEL}): they are no such random "
            "sample, so calibrate anew on them alone, if they are what is known now"
        )
