"""Several tests or counts at once: p-values for all of them together, and intervals of shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offmap._utils.arguments import number, whole
from offmap.metrics.intervals import Interval


def holm(p_values: Sequence[float]) -> list[float]:
    r"""P-values corrected for their number, in the order given.

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})

    Calling those at most ``a`` different is wrong anywhere with probability at most ``a``, however
    the tests depend on each other.

    Args:
        p_values: of ``m`` tests, in [0, 1].

    Raises:
        ArgumentError: one is outside [0, 1], or NaN.

    References:
        Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    p_values = [number("a p-value", p, least=0, most=1) for p in p_values]
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for place, i in enumerate(np.argsort(p_values, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[i]))
        corrected[i] = highest
    return corrected


def share_interval(count: int, n: int, *, level: float = 0.95) -> Interval:
    r"""The exact interval of a share, by Clopper and Pearson.

    .. math:: B^{-1}_{k,\, n - k + 1}\big(\tfrac{1 - \ell}2\big) \le p \le
        B^{-1}_{k + 1,\, n - k}\big(\tfrac{1 + \ell}2\big)

    with :math:`k` of :math:`n` samples, :math:`\ell` the level, and :math:`B^{-1}` the quantiles of
    the beta distribution. It holds the true share with at least that probability, and each end errs
    with at most half of the rest. It never leaves [0, 1], and has a width at 0 and 1 too.

    Args:
        count: of ``n`` samples.
        n: at least 1.
        level: in (0, 1).

    Raises:
        ArgumentError: not ``0 <= count <= n``, or ``level`` is outside its range.

    References:
        Clopper and Pearson, Biometrika 26, 1934.

    Example:
        >>> low, high = share_interval(8, 10)
        >>> print(f"{low:.4f} {high:.4f}")
        0.4439 0.9748
    """
    from scipy.special import betaincinv  # here: it takes time

    n = whole("n", n)
    count = whole("count", count, low=0, high=n)
    half = (1 - number("level", level, above=0, below=1)) / 2
    low = betaincinv(count, n - count + 1, half) if count else 0.0
    high = betaincinv(count + 1, n - count, 1 - half) if count < n else 1.0
    return Interval(float(low), float(high))
