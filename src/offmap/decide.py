"""From a score to a decision."""

from __future__ import annotations

import math
from fractions import Fraction

from jaxtyping import Float
from torch import Tensor

from offmap.errors import ArgumentError, NonFiniteError, ShapeError


def alarm_threshold(scores: Float[Tensor, " n"], alarm_rate: float) -> float:
    """The score above which a sample is called OOD, so that ID raises few alarms.

    It is the ``floor(a (n + 1))``-th largest of ``n`` calibration scores. If those and a new ID
    sample are exchangeable, the new one lies above with probability at most ``a``, whatever the
    distribution (split-conformal prediction).

    Args:
        scores: OOD scores of the calibration set: ID data, held out from training and fitting.
        alarm_rate: ``a``, the share of ID samples that may be called OOD.

    Raises:
        ArgumentError: the rate is not in (0, 1), or there are fewer than ``1/a - 1`` samples.

    >>> import torch
    >>> alarm_threshold(torch.arange(99.0), 0.05)
    94.0
    """
    if scores.ndim != 1:
        raise ShapeError(f"calibration scores must have shape (n,); seen {tuple(scores.shape)}")
    if bad := int((~scores.isfinite()).sum()):
        raise NonFiniteError(f"{bad} of {len(scores)} calibration scores are not finite")
    return float(scores.topk(alarm_rank(len(scores), alarm_rate)).values[-1])


def alarm_rank(samples: int, alarm_rate: float) -> int:
    """Which of so many calibration scores, from the largest, is the threshold.

    Raises:
        ArgumentError: the rate is not in (0, 1), or there are fewer than ``1/a - 1`` samples.
    """
    if not 0 < alarm_rate < 1:
        raise ArgumentError(f"alarm_rate must lie in (0, 1); seen {alarm_rate}")
    # The decimal that was typed, not its nearest float: 0.05 * 20 must be 1.
    rate = Fraction(str(alarm_rate))
    rank = math.floor(rate * (samples + 1))
    if rank < 1:
        raise ArgumentError(
            f"an alarm rate of {alarm_rate} needs at least {math.ceil(1 / rate) - 1} calibration "
            f"samples; there are {samples}"
        )
    return rank
