"""Bets that alarms come no more often than a certified rate: wealth that grows only if they do.

Restarted at every sample, so that a long quiet time costs no more than its logarithm squared.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

FRACTIONS = np.array([0.05, 0.1, 0.2, 0.4])
# The sum of 1 / (t log^2(t + 1)) over all t from 1, rounded up: the weights sum to at most 1.
_TOTAL = 3.387735531952003

Array = np.ndarray


def weights(first: int, count: int) -> float:
    r"""The weights of ``count`` samples from the ``first`` on, together; of all samples, 1.

    .. math:: w_t \propto 1 / (t \log^2(t + 1))
    """
    if count == 1:  # a thousand times as frequent, and ten times as fast
        return 1 / (_TOTAL * first * math.log1p(first) ** 2)
    t = np.arange(first, first + count, dtype=np.float64)
    return float((1 / (_TOTAL * t * np.log1p(t) ** 2)).sum())


def log_factors(rates: Float64[Array, "*r"]) -> Float64[Array, "two *r g"]:
    r"""What a sample multiplies each stake by, as logarithms: without an alarm, and with one.

    .. math:: 1 + g\,(1[\mathrm{alarm}] / q - 1)

    Args:
        rates: ``q``, in (0, 1].
    """
    with_alarm = np.log1p(FRACTIONS * (1 / rates - 1)[..., None])
    return np.stack([np.broadcast_to(np.log1p(-FRACTIONS), with_alarm.shape), with_alarm])


class Bets:
    r"""Wealths of the restart mixture, one for each of some rates; each starts at 1.

    .. math:: S_g \leftarrow (S_g + w_t)\,(1 + g\,(1[\mathrm{alarm}] / q - 1)), \qquad
        M = \tfrac14 \sum_g S_g + 1 - \sum_{u \le t} w_u

    Kept as logarithms, which do not overflow.

    Args:
        shape: of the rates.
    """

    def __init__(self, *shape: int) -> None:
        self.log_stakes = np.full((*shape, len(FRACTIONS)), -np.inf)
        self.samples = 0
        self.unbet = 1.0

    def step(self, factors: Float64[Array, "*r g"], samples: int = 1) -> None:
        """Bet on one sample, or on a batch of a size that was fixed before it was seen.

        Args:
            factors: logarithms of what multiplies each stake; of a batch, their sum.
            samples: in the batch; all their weights are staked before it.
        """
        weight = weights(self.samples + 1, samples)
        self.log_stakes = np.logaddexp(self.log_stakes, math.log(weight)) + factors
        self.samples += samples
        self.unbet -= weight

    @property
    def log_wealth(self) -> Float64[Array, "*r"]:
        """The logarithm of each wealth."""
        stakes = np.logaddexp.reduce(self.log_stakes, axis=-1) - math.log(len(FRACTIONS))
        return np.asarray(np.logaddexp(stakes, math.log(self.unbet)))


class Runs:
    """For each stake, since when betting would have gained most: where a change may lie.

    Page's cumulated sum (CUSUM), whose last zero is the most likely time of a change.

    Args:
        shape: of the rates.
    """

    def __init__(self, *shape: int) -> None:
        self.gains = np.zeros((*shape, len(FRACTIONS)))
        self.samples = np.zeros_like(self.gains, dtype=np.int64)
        self.alarms = np.zeros_like(self.samples)

    def step(self, factors: Float64[Array, "*r g"], samples: int, alarms: int) -> None:
        """Go on by what one sample or batch multiplies the stakes by.

        Args:
            factors: logarithms of it.
            samples: before it.
            alarms: before it.
        """
        begun = self.gains <= 0
        self.samples[begun], self.alarms[begun] = samples, alarms
        self.gains = np.maximum(self.gains, 0) + factors

    def start(self, row: int) -> tuple[int, int]:
        """Samples and alarms before the most likely change, by the stakes of one rate."""
        best = self.gains[row].argmax()
        return int(self.samples[row, best]), int(self.alarms[row, best])
