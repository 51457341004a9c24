"""Bets that alarms come no more often than a certified rate: wealth that grows only if they do.

Restarted at every sample, so that a long quiet time costs no more than its logarithm squared.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int64

FRACTIONS = np.array([0.05, 0.1, 0.2, 0.4])
# The sum of 1 / (t log^2(t + 1)) over all t from 1, rounded up: the weights sum to at most 1.
_TOTAL = 3.387735531952003
_SUMMED = 1 << 20  # the most weights that are added one by one
_LARGE = 2.0**500
_LOG2 = math.log(2)

Array = np.ndarray


def weights(first: int, count: int) -> float:
    r"""The sum of the weights of ``count`` samples from the ``first`` on; of all, at most 1.

    .. math:: w_t \propto 1 / (t \log^2(t + 1))
    """
    if count == 1:  # nearly every call, and ten times as fast
        return 1 / (_TOTAL * first * math.log1p(first) ** 2)
    t = np.arange(first, first + min(count, _SUMMED), dtype=np.float64)
    beyond, end = first + _SUMMED, first + count
    # The tail of counters of billions by the integral of 1 / ((t + 1) log^2(t + 1)), which is less.
    tail = 1 / math.log(beyond + 1) - 1 / math.log(end + 1) if count > _SUMMED else 0.0
    return float((1 / (_TOTAL * t * np.log1p(t) ** 2)).sum() + tail / _TOTAL)


def factors(rates: Float64[Array, "..."]) -> Float64[Array, "two f ..."]:
    r"""The factors of each stake, for a sample without an alarm and for one with.

    .. math:: 1 + g\,(1[\mathrm{alarm}] / q - 1)

    Args:
        rates: ``q``, in (0, 1].
    """
    g = FRACTIONS.reshape(-1, *[1] * np.ndim(rates))
    with_alarm = 1 + g * (1 / rates - 1)
    return np.stack([np.broadcast_to(1 - g, with_alarm.shape), with_alarm])


class Bets:
    r"""Wealths of the restart mixture, one for each of some rates; each starts at 1.

    .. math:: S_g \leftarrow (S_g + w_t)\,(1 + g\,(1[\mathrm{alarm}] / q - 1)), \qquad
        M = \tfrac14 \sum_g S_g + 1 - \sum_{u \le t} w_u

    Each stake is kept beside a power of two, so that it does not overflow, nor vanish while another
    is large.

    Args:
        shape: of the rates.
    """

    def __init__(self, *shape: int) -> None:
        self.stakes = np.zeros((len(FRACTIONS), *shape))
        self.exponents = np.zeros_like(self.stakes, dtype=np.int64)
        self.samples = 0
        self.unbet = 1.0

    def step(self, factors: Float64[Array, "f ..."]) -> None:
        """Bet on one sample; ``factors`` multiply its stakes."""
        self._step(factors, 1, None)

    def step_batch(self, logs: Float64[Array, "f ..."], samples: int) -> None:
        """Bet on a batch of a size that was fixed before it was seen.

        Args:
            logs: of the product of the factors, which may overflow.
            samples: in the batch; all their weights are staked before it.
        """
        # Exponents do not fall below 0, where a stake is its own number again.
        powers = np.maximum(np.floor(logs / _LOG2), -self.exponents)
        self._step(np.exp(logs - powers * _LOG2), samples, powers.astype(np.int64))

    def _step(
        self, factors: Float64[Array, "f ..."], samples: int, powers: Int64[Array, "f ..."] | None
    ) -> None:
        weight = weights(self.samples + 1, samples)
        stake = weight * np.exp2(-self.exponents) if self.exponents.any() else weight
        self.stakes = (self.stakes + stake) * factors
        self.samples += samples
        self.unbet -= weight
        if powers is not None:
            self.exponents = self.exponents + powers
        if self.exponents.any() or self.stakes.max() > _LARGE:
            self._rescale()

    def _rescale(self) -> None:
        """Keep stakes between 1 and 2^500, or their powers at 0."""
        size = np.frexp(self.stakes)[1]
        low = np.minimum(self.exponents, np.where(self.stakes < 1, 250 - size, 0))
        powers = np.where(
            self.stakes > _LARGE, 500, -np.where(self.stakes > 0, low, self.exponents)
        )
        self.stakes = np.ldexp(self.stakes, -powers)
        self.exponents = self.exponents + powers

    @property
    def log_wealth(self) -> Float64[Array, "..."]:
        """The logarithm of each wealth."""
        if not self.exponents.any():  # nearly always, and four times as fast
            return np.asarray(np.log(self.stakes.sum(0) / len(FRACTIONS) + self.unbet))
        top = self.exponents.max(0)
        stakes = np.ldexp(self.stakes, self.exponents - top).sum(0) / len(FRACTIONS)
        return np.asarray(np.log(stakes + self.unbet * np.exp2(-top)) + top * _LOG2)


class Runs:
    """For each stake, the start from which bets would have gained most: where a change may lie.

    Page's cumulated sum (CUSUM), whose last zero is the most likely time of a change.

    Args:
        shape: of the rates.
    """

    def __init__(self, *shape: int) -> None:
        self.gains = np.zeros((len(FRACTIONS), *shape))
        self.samples = np.zeros_like(self.gains, dtype=np.int64)
        self.alarms = np.zeros_like(self.samples)

    def step(self, logs: Float64[Array, "f ..."], samples: int, alarms: int) -> None:
        """Add one sample or batch.

        Args:
            logs: logarithms of its factors.
            samples: before it.
            alarms: before it.
        """
        starts = self.gains <= 0
        self.samples[starts], self.alarms[starts] = samples, alarms
        self.gains = np.maximum(self.gains, 0) + logs

    def start(self, row: int) -> tuple[int, int]:
        """Samples and alarms before the most likely change, by the stakes of one rate."""
        best = self.gains[:, row].argmax()
        return int(self.samples[best, row]), int(self.alarms[best, row])
