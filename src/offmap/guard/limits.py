"""Tables by which a rank becomes a decision: the true alarm rate that it stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from offmap.guard.decide import exact_rate, least_samples
from offmap.guard.simultaneous import beta_limits, simultaneous_limits


def marginal_limits(counts: Int64[Tensor, " g"], *, tests: int = 1) -> Float64[Tensor, "g r"]:
    """The limit of each rank from 1: ``tests * r / (n + 1)``, and 1 beyond the last.

    Args:
        counts: calibration samples of each group.
        tests: how many ranks share the rate, of which the lowest counts.
    """
    ranks = torch.arange(1, int(counts.max()) + 2, device=counts.device)
    return ((tests * ranks).double() / (counts[:, None] + 1)).clamp(max=1)


def certified_limits(
    counts: Int64[Tensor, " g"], delta: Fraction, *, tests: int = 1
) -> Float64[Tensor, "g r"]:
    r"""The limit of each rank, for rates fixed beforehand: a quantile of the true alarm rate.

    The true rate of the ``r`` highest of ``n`` scores is Beta(r, n + 1 - r) distributed, and the
    limit its :math:`1 - \delta / g` quantile, so that all groups hold at once. Of several tests
    each has its share of rate and of ``delta``.

    Args:
        counts: calibration samples of each group, ``(g,)``.
        delta: one minus the confidence, shared by the groups.
        tests: as for :func:`marginal_limits`.
    """
    return _table(counts, delta, tests, beta_limits)


def any_rate_limits(
    counts: Int64[Tensor, " g"], delta: Fraction, *, tests: int = 1
) -> Float64[Tensor, "g r"]:
    """The same for all rates at once, whenever they are chosen: a simultaneous band.

    See ``offmap.guard.simultaneous``.
    """
    return _table(counts, delta, tests, simultaneous_limits)


def _table(
    counts: Tensor, delta: Fraction, tests: int, limits: Callable[[int, float], np.ndarray]
) -> Tensor:
    share = float(delta / (len(counts) * tests))
    table = np.ones((len(counts), int(counts.max()) + 1))
    by_count = {n: limits(n, share) for n in sorted(set(counts.tolist())) if n}
    for row, n in zip(table, counts.tolist(), strict=True):
        if n:
            row[:n] = np.minimum(tests * by_count[n], 1)
    return torch.from_numpy(table).to(counts.device)


def samples_needed(alarm_rate: float, delta: Fraction | None, *, tests: int = 1) -> int:
    """How many calibration samples a group needs for a rate.

    Args:
        alarm_rate: fixed beforehand.
        delta: that group's share of one minus the confidence; ``None`` for a rate on average.
        tests: how many ranks share the rate.

    >>> samples_needed(0.05, Fraction(1, 20)), samples_needed(0.01, Fraction(1, 20))
    (59, 299)
    """
    if delta is None:
        return least_samples(alarm_rate, tests=tests)
    rate = exact_rate(alarm_rate, "alarm_rate") / tests
    n = max(1, math.floor(math.log(delta / tests) / math.log1p(-float(rate))) - 1)
    first = np.array([1])  # the limits of all ranks of a million samples take minutes
    while tests * beta_limits(n, float(delta / tests), first)[0] > alarm_rate:
        n += 1
    return n


def delta_of(confidence: float, alarm_rates: Sequence[float]) -> Fraction:
    """One minus the confidence, shared by the rates that were named."""
    return (1 - exact_rate(confidence, "confidence")) / len(alarm_rates)
